"""What the mount looks like: operations on paths, without a kernel."""

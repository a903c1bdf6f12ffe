"""What is remembered of a cluster on this machine: attributes, listings and file contents."""

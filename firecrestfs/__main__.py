"""`python -m firecrestfs`: the command line."""

from firecrestfs.cli import main

if __name__ == "__main__":
    main()

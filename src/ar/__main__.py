"""`python -m ar`."""

from ar.cli import main

if __name__ == "__main__":
    main()

"""`python -m ar`."""

from ar.cli.commands import main

if __name__ == "__main__":
    main()

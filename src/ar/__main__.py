"""`python -m ar`."""

from ar.cli.main import main

if __name__ == "__main__":
    main()

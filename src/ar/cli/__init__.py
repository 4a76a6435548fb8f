"""The command line: parse, one call, print."""

from ar.cli.main import main

__all__ = ["main"]

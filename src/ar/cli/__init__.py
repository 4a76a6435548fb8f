"""The command line: parse, one call, print."""

from ar.cli.commands import main

__all__ = ["main"]

"""Commands that a stage of `dvc.yaml` runs: capture."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ar.errors import ArError

NOT_FOUND, NOT_RUNNABLE = 127, 126  # the shell's exit codes


class Uncaptured(ArError):
    """The command ended well, without the metrics that were to be read from what it printed."""

    exit_code = 1


class CannotRun(ArError):
    """The command that a stage is to run cannot be run."""

    def __init__(self, message: str, mend: str, exit_code: int) -> None:
        super().__init__(message, mend)
        self.exit_code = exit_code


def cannot_run(program: str, error: OSError) -> Exception:
    """Why a program cannot be run, in a shell's words and with its exit code; the error itself where it is
    about something else."""
    if isinstance(error, FileNotFoundError) and error.filename == program:
        shell = "for a line of shell: sh -c '…'" if " " in program else "is it installed?"
        return CannotRun(f"{program}: command not found", shell, NOT_FOUND)
    if isinstance(error, PermissionError) and error.filename == program:
        return CannotRun(f"{program}: permission denied", "chmod +x it", NOT_RUNNABLE)
    return error


@click.command()
@click.option(
    "--metric", "-m", "metrics", multiple=True, metavar="NAME[=REGEX]", help="Read this metric; repeatable."
)
@click.option(
    "--curve", "curves", multiple=True, metavar="FILE:NAME[=REGEX]", help="Write each value to a table."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("metrics.json"),
    help="Metrics file.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def capture(metrics: tuple[str, ...], curves: tuple[str, ...], out: Path, command: tuple[str, ...]) -> None:
    """Run a command and write the metrics that it prints to a file: ar capture -m val_bpb -- python train.py

    Read are lines such as `val_bpb: 0.98`, `METRIC val_bpb=0.98`, JSON and the last row of a table; a metric
    that is named also within a line (`step 9 | loss 2.1`); REGEX matches a line, its first group is the
    value. The last value counts. Without --metric, all that stand on lines of their own are written.

    Output, terminal, signals and exit code pass through. The metrics file is written when the command has
    ended well, and is absent otherwise; the tables of --curve (step, seconds, value) grow meanwhile.
    """
    from ar.stage import capture as running
    from ar.stage.printed import NotPrinted, Wanted

    try:
        wanted = [Wanted.parse(text) for text in metrics]
        tables = [(Path(file), Wanted.parse(name)) for file, name in map(_table, curves)]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        sys.exit(running.run(command, out, wanted, tables))
    except NotPrinted as error:
        raise Uncaptured(str(error), "print it as 'name: value', or say how: --metric 'NAME=REGEX'") from None
    except OSError as error:
        raise cannot_run(command[0], error) from None


def _table(text: str) -> tuple[str, str]:
    file, colon, name = text.partition(":")
    if not colon or not file:
        raise ValueError(f"'{text}' is not FILE:NAME")
    return file, name

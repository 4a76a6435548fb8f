"""The command line: its commands in one group, and how they are entered and left.

Errors become text and exit codes here and nowhere else. Each command parses, makes one call and prints, and
imports what costs time itself, so that `ar --help` is instant.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import click

from ar.cli import cluster, decide, notes, papers, propose, run, serve, share, stage, start, trust, watch
from ar.cli.sections import Sections
from ar.errors import ArError, full_disk
from ar.redaction import redact
from ar.text import plain
from ar.views import console

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


_SECTIONS = {
    "Start and run": (
        *(start.init, start.doctor, trust.allow),
        *(run.baseline, run.run, run.worker, cluster.cluster, run.retry, run.stop),
        *(run.observe, stage.capture),
    ),
    "Propose": (propose.next_, decide.revert, share.import_, papers.read, notes.note),
    "Watch": (
        watch.show,
        watch.log,
        watch.diff,
        watch.compare,
        watch.plot,
        watch.report,
        notes.notebook_,
        serve.ui,
    ),
    "Decide": (watch.judge, run.audit, run.climb, decide.stack, decide.promote),
    "Share": (share.push, share.pull, trust.trust, serve.mcp, serve.agent_kit),
}


@click.group(cls=Sections, sections=_SECTIONS, context_settings=CONTEXT)
@click.option("-C", "folder", type=click.Path(exists=True, file_okay=False), help="Work in this folder.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="dvc-ar", prog_name="ar")
def cli(folder: str | None, debug: bool) -> None:  # noqa: ARG001 - `main` looks for --debug itself
    """Autonomous research on git and DVC.

    Every experiment is a commit on its own ref, every verdict is measured over seeds, and the branch moves
    only by merging a commit that was itself measured. Start with: ar init, ar doctor, ar run.
    """
    if folder:
        os.chdir(folder)


def main() -> None:
    """Entry point of `ar` and `autoresearch`."""
    from ar.cli.archiver import exec_archiver, is_archiver_call

    argv = sys.argv[1:]
    debug = "--debug" in argv
    console.adapt()
    try:
        if Path(sys.argv[0]).name == "ar" and is_archiver_call(argv, cli.commands):
            exec_archiver(argv)
        sys.exit(cli.main(argv, complete_var="_AR_COMPLETE", standalone_mode=False))
    except ArError as error:
        _fail(str(error), error.exit_code, debug)
    except click.Abort:
        _fail("aborted", 130, debug=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; nothing is lost", 130, debug=False)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader of a pipe went away: no business of ours
        sys.exit(141)
    except Exception as error:
        if full := full_disk(error):
            _fail(str(full), full.exit_code, debug)
        if isinstance(error, OSError):
            _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 2, debug)
        first = (str(error).strip().splitlines() or [""])[0]
        _fail(f"{type(error).__name__}: {first}\n  this is a bug; for its traceback: ar --debug …", 1, debug)


def _fail(text: str, code: int, debug: bool) -> None:
    if debug:
        click.echo(plain(redact(traceback.format_exc())), err=True)
    click.echo(click.style("error: ", fg="red", bold=True) + plain(redact(text)), err=True)
    sys.exit(code)

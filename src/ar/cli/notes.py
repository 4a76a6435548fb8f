"""Commands of the notebook: note, notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ar.cli.common import open_campaign, say
from ar.cli.completion import experiments
from ar.errors import BadNote, NotFound

if TYPE_CHECKING:
    from ar.git.repo import Repo
    from ar.history.notebook import Entry

_STATUSES = ["open", "supported", "refuted", "stale"]  # those of `history.notebook`, which is slow to import


@click.command()
@click.argument("lesson", required=False)
@click.option("-m", "--message", "text", default="", help="What was learned, in at most 600 characters.")
@click.option(
    "--cites",
    multiple=True,
    metavar="NAME",
    shell_complete=experiments,
    help="An experiment that it rests on; repeatable.",
)
@click.option("--status", type=click.Choice(_STATUSES), help="What is thought of it; at first, open.")
@click.option("--edit", is_flag=True, help="Change the whole notebook in your editor.")
def note(lesson: str | None, text: str, cites: tuple[str, ...], status: str | None, edit: bool) -> None:
    """Write into the notebook what experiments taught, for agents and people to read.

    With LESSON (the beginning of its name, as ar notebook shows it), say something of that one: other words,
    a status, more experiments. Nothing is lost: git log refs/ar/notebook has it all.
    """
    from ar.changes.own import NAME
    from ar.history import notebook
    from ar.history.notebook import Entry, Standing

    if edit and (lesson or text or cites or status):
        raise click.UsageError("--edit goes alone.")
    campaign = open_campaign()
    standing = Standing(status) if status else None
    entries = _edited(campaign.repo) if edit else [Entry(NAME, text, standing, cites, lesson or "")]
    history, failed = campaign.history(), None
    for entry in entries:
        try:
            name = notebook.write(campaign.repo, history, entry)
            say(f"Noted {name[:8]}{f': {entry.text}' if entry.text else ''}")
        except (BadNote, NotFound) as error:
            if edit:
                say(f"Left out: {entry.text}", err=True)
            failed = error
    if failed:
        raise failed
    if not entries:
        click.echo("Nothing changed.")


def _edited(repo: Repo) -> list[Entry]:
    """What somebody changed in their editor."""
    from ar.changes.own import NAME
    from ar.history import notebook, notebook_text

    lessons = notebook.read(repo).lessons()
    text = click.edit(notebook_text.editable(lessons), extension=".md")
    try:
        return notebook_text.edited(text, lessons, NAME) if text is not None else []
    except (BadNote, NotFound) as error:
        kept = repo.own_folder() / "notebook.md"
        kept.write_text(text or "", encoding="utf-8")
        raise BadNote(error.message, f"{error.mend}; what you wrote is in {kept}") from None


@click.command(name="notebook")
def notebook_() -> None:
    """Show the notebook: what agents and people learned, and what is thought of it by now."""
    from ar.history import notebook
    from ar.views.notebook import notebook_lines

    for line in notebook_lines(notebook.read(open_campaign().repo).lessons()):
        say(line)

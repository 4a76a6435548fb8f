"""Commands by which the owner of a machine says what a repository may do on it, and who may add to it: allow,
trust.
"""

from __future__ import annotations

from pathlib import Path

import click

from ar.cli.common import echo_demands, say
from ar.errors import NotFound
from ar.text import counted

_LONGEST = 20_000  # characters of a key's line


@click.command()
def allow() -> None:
    """Let this repository do here what program.md and dvc.yaml say, and show what that is.

    Until then nothing of it runs outside the sandbox, no agent but the embedded ones is asked, and no wall is
    made wider. What changes of it later is asked for again.
    """
    from ar.project.project import Project
    from ar.runs import demands

    project = Project.open()
    wanted = demands.allow(project)
    if not wanted:
        click.echo("Nothing here needs it: stages run in the sandbox, and the agents are embedded.")
        return
    click.echo("Allowed on this machine:")
    echo_demands(wanted)
    click.echo(f"To take it back, delete {project.repo.git_dir / 'ar' / 'allowed.json'}")


@click.command()
@click.argument("key", nargs=-1)
def trust(key: tuple[str, ...]) -> None:
    """Let what the owner of an ssh key measured and pushed count here as if it had run here.

    KEY is a line of a .pub file or such a file, and a name for it if you like. Without KEY, list who is
    trusted, and tell the key that ar push signs with: the one that git is set to sign with (gpg.format ssh,
    user.signingKey).
    """
    from ar.git.repo import Repo
    from ar.git.signatures import PublicKey, Signer
    from ar.history import statements
    from ar.local import trusted

    repo = Repo.open()
    if not key:
        known = trusted.read(repo)
        for each in known.values():
            say(f"{each.fingerprint} {each.name}".rstrip())
        click.echo(
            f"To take one back, delete its line in {trusted.path(repo)}" if known else "No key is trusted."
        )
        if own := Signer.configured(repo):
            say(f"Yours, for your other machines: ar trust '{own.key.line}'")
        return
    found = PublicKey.parse(_line(*key))
    if found is None:
        raise NotFound("that is no ssh public key", "give a .pub file, or the line that is in it")
    trusted.add(repo, found)
    say(f"Trusted on this machine: {found.fingerprint} {found.name}".rstrip())
    if count := statements.vouch(repo):
        click.echo(f"Of what was pulled, {counted(count, 'experiment')} with its signature count here now.")


def _line(first: str, *more: str) -> str:
    """The key's line: as it was given, or the first of the file that was."""
    file = Path(first).expanduser()
    if file.is_file():
        with file.open(encoding="utf-8", errors="replace") as stream:
            first = stream.read(_LONGEST).partition("\n")[0]
    return " ".join((first, *more))

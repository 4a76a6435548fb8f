"""Commands by which the owner of a machine says what a repository may do on it: allow."""

from __future__ import annotations

import click

from ar.cli.common import echo_demands


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

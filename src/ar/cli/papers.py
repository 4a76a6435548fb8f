"""The command of the literature: read."""

from __future__ import annotations

import sys

import click

from ar.cli.common import open_campaign, say


@click.command()
@click.argument("what", nargs=-1)
def read(what: tuple[str, ...]) -> None:
    """Make a card of a paper, or look through the branch's cards.

    For arXiv:ID, a DOI or a URL, arXiv or OpenAlex is asked for title and abstract, and the card printed;
    keep it by: ar read arXiv:2502.16982 > papers/muon.md. Other words search the cards that the branch has,
    without any network; no words list them. Each is shown with the verdicts of what cites it.
    """
    from ar.git.repo import Repo
    from ar.project import paper_online, paper_search, papers
    from ar.views.papers import listed, whole

    words = " ".join(what)
    paper = paper_online.meant(words)
    if paper is not None:
        card = paper_online.fetch(Repo.open(), paper)
        say(papers.rendered(card).rstrip("\n"))
        if sys.stdout.isatty():
            say(f"To keep it: ar read {words} > {papers.FOLDER}/{card.name}.md, then commit it.", err=True)
        return
    campaign = open_campaign()
    history = campaign.history()
    library = papers.read(campaign.repo, history.head)
    hits = paper_search.search(library.cards.values(), words) if words else []
    for line in (
        [text for card in hits for text in whole(history, card)] if words else listed(history, library)
    ):
        say(line)
    if words and not hits:
        say("No card has any of these words. To fetch a paper: ar read arXiv:ID, a DOI or a URL.")

"""The table of a campaign, as it was last made where nothing has changed since: reading a history takes its
time, the longer the larger it is."""

from __future__ import annotations

import contextlib

from ar.campaign.campaign import Campaign
from ar.history import fingerprint
from ar.history.selection import Selection
from ar.judge.findings import total
from ar.local import memo
from ar.views.excerpt import Excerpt
from ar.views.listing import listing
from ar.views.summary import summary

_KIND = "table"


def excerpt(campaign: Campaign, selection: Selection, sort: str, limit: int | None) -> Excerpt:
    """What a table in the usual columns shows; arguments are those of `listing`.

    Raises:
        NotFound: there is no such column to sort by.
    """
    repo, program = campaign.repo, campaign.program
    question, state = repr((selection, sort, limit)), fingerprint.of(campaign.project)
    with contextlib.suppress(TypeError, ValueError):
        return Excerpt.from_json(memo.read(repo, _KIND, question, state))
    history = campaign.history()
    listed = listing(history, program, selection, sort, limit)
    matters, paid = campaign.model.importances(history), campaign.books.read()
    made = Excerpt.of(
        history, program, listed, summary(history, program, total(program, history), matters, paid)
    )
    if fingerprint.of(campaign.project) == state:
        memo.write(repo, _KIND, question, state, made.to_json())
    return made

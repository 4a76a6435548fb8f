"""What the agents have spent, on `refs/ar/spend`: a commit before each call of a model and one after it.

The commit before says what the call may cost at most, the one after what it did cost. A process killed in
between leaves the first alone, and its amount stands: so a limit holds whatever happens. Commits have no
files; the amounts are JSON in their messages, and two clones' accounts join by a merge.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import replace

from ar.errors import OutOfBudget
from ar.formats import load_json
from ar.git import refs
from ar.git.objects import Commit
from ar.git.repo import Repo
from ar.history.spend import Spend
from ar.local import pulled
from ar.project.program import Prices

# Tokens that go into Anthropic's prompt cache cost more than others, for five minutes and for an hour.
WRITE_SHORT, WRITE_LONG = 1.25, 2.0


def total(repo: Repo) -> Spend:
    """Everything spent so far; calls under way, or cut off by a kill, count with what they may have cost.

    What a remote told, and no trusted key signed, is none of it: whoever can write there could use up the
    budget, or say that a call of ours cost nothing.
    """
    return _accounts(repo)[0]


def told(repo: Repo) -> Spend:
    """What remotes say was spent elsewhere, and no trusted key signed."""
    return _accounts(repo)[1]


def _accounts(repo: Repo) -> tuple[Spend, Spend]:
    """What counts, and what remotes only tell."""
    commits = repo.log(refs.SPEND)
    others = pulled.foreign(repo, {commit.rev: commit.rev for commit in commits})
    own = [commit for commit in commits if commit.rev not in others]
    return _sum(own), _sum(commit for commit in commits if commit.rev in others)


def _sum(commits: Iterable[Commit]) -> Spend:
    spent = Spend()
    under_way: dict[str, Spend] = {}
    for commit in commits:
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            data = load_json(commit.message.partition("\n\n")[2])
            amount = Spend() + Spend.from_json(data["spend"])  # a TypeError for what is no number
            if not all(it >= 0 for it in (amount.input, amount.cached, amount.output, amount.usd or 0.0)):
                continue  # what a clone says was spent never makes it less
            if data.get("open"):
                under_way[commit.rev] = amount
            else:
                under_way.pop(data.get("of", ""), None)
                spent += amount
    return sum(under_way.values(), spent)


def open_call(repo: Repo, agent: str, at_most: Spend) -> str:
    """Write down that a call is about to be made. Returns what `record` wants."""
    return _append(repo, f"{agent} may spend {at_most.words}", at_most, open=True)


def record(repo: Repo, agent: str, spent: Spend, call: str = "") -> None:
    """Write down what a call did cost; `call` is what `open_call` gave, where it could be said beforehand."""
    _append(repo, f"{agent} spent {spent.words}", spent, **({"of": call} if call else {}))


def priced(amount: Spend, prices: Prices | None, written_short: int = 0, written_long: int = 0) -> Spend:
    """An amount of tokens with what it costs in dollars, where there are prices.

    Args:
        written_short, written_long: tokens of those sent that went into the prompt cache.
    """
    if prices is None:
        return amount
    extra = (WRITE_SHORT - 1) * written_short + (WRITE_LONG - 1) * written_long
    sent = amount.input - amount.cached + extra
    usd = (sent * prices.input + amount.cached * prices.cached + amount.output * prices.output) / 1e6
    return replace(amount, usd=usd)


def refuse_beyond(spent: Spend, tokens: float | None, usd: float | None) -> None:
    """Refuse to go on where an amount reaches beyond a limit; a limit of None is none.

    Raises:
        OutOfBudget: which of the two limits it is.
    """
    for name, limit, amount in (("tokens", tokens, float(spent.tokens)), ("usd", usd, spent.usd or 0.0)):
        if limit is not None and amount > limit:
            raise OutOfBudget(
                f"budget.{name} is {limit:,g} and {amount:,.6g} would be spent",
                f"raise budget.{name} in program.md, or let an agent without a price propose",
            )


def _append(repo: Repo, title: str, amount: Spend, **more: object) -> str:
    data = {"spend": amount.to_json(), **more}
    return repo.append(refs.SPEND, f"{title}\n\n{json.dumps(data)}\n")

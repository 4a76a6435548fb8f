"""What the agents have spent, on `refs/ar/spend`: a commit before each call of a model and one after it, and
one for each proposal that was refused.

The commit before says what the call may cost at most, the one after what it did cost. A process killed in
between leaves the first alone, and its amount stands: so a limit holds whatever happens. Commits have no
files; the amounts are JSON in their messages, and two clones' accounts join by a merge.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ar.errors import OutOfBudget
from ar.formats import load_json
from ar.git import refs
from ar.git.objects import Commit
from ar.git.repo import Repo
from ar.history.spend import Spend
from ar.local import locks, pulled
from ar.project.program import Prices, Program
from ar.text import one_line

# Tokens that go into Anthropic's prompt cache cost more than others, for five minutes and for an hour.
WRITE_SHORT, WRITE_LONG = 1.25, 2.0


@dataclass(frozen=True)
class Account:
    """What was spent.

    Args:
        agents: name of an agent to what its calls cost; those under way, or cut off by a kill, count with
            what they may have cost. The name is empty where an earlier version wrote none down.
        typical: name of an agent to what a call of it did cost, on average.
        refused: name of an agent to how many of its proposals were refused.
        told: what remotes say was spent elsewhere, and no trusted key signed. It counts for nothing: whoever
            can write there could use up the budget, or say that a call of ours cost nothing.
    """

    agents: dict[str, Spend]
    told: Spend
    typical: dict[str, Spend] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> Spend:
        """Everything spent so far."""
        return sum(self.agents.values(), Spend())

    def words(self, promoted: int) -> str:
        """In all, by each agent, and for each promoted change; empty where nothing was spent."""
        if not self.total.tokens and not self.total.usd:
            return ""
        parts = [_amount(self.total)]
        paid = {name: one for name, one in self.agents.items() if one.tokens or one.usd}
        if len(paid) > 1:
            parts += [f"{one_line(name) or 'others'} {_amount(one)}" for name, one in paid.items()]
        if promoted and self.total.usd is not None:
            parts.append(f"{self.total.usd / promoted:,.2f} USD a promoted change")
        elif promoted:
            parts.append(f"{self.total.tokens / promoted:,.0f} tokens a promoted change")
        return "; ".join(parts)


def _amount(amount: Spend) -> str:
    """`1,234 tokens, 0.41 USD`."""
    return f"{amount.tokens:,} tokens" + ("" if amount.usd is None else f", {amount.usd:,.2f} USD")


def read(repo: Repo) -> Account:
    """What was spent so far."""
    commits = repo.log(refs.SPEND)
    others = pulled.foreign(repo, {commit.rev: commit.rev for commit in commits})
    ours = [commit for commit in commits if commit.rev not in others]
    closed, under_way = _calls(ours)
    told = [one for calls in _calls(commit for commit in commits if commit.rev in others) for one in calls]
    return Account(
        agents={name: sum(amounts, Spend()) for name, amounts in _by_agent(closed + under_way).items()},
        told=sum((amount for _, amount in told), Spend()),
        typical={name: _mean(amounts) for name, amounts in _by_agent(closed).items()},
        refused=Counter(filter(None, map(_refused, ours))),
    )


class Books:
    """One project's account, read anew only where something was written down."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self._known: tuple[str | None, Account] | None = None

    def read(self) -> Account:
        """What was spent so far."""
        newest = self.repo.resolve(refs.SPEND)
        if self._known is None or self._known[0] != newest:
            self._known = newest, read(self.repo)
        return self._known[1]


def total(repo: Repo) -> Spend:
    """Everything spent so far."""
    return read(repo).total


def _calls(commits: Iterable[Commit]) -> tuple[list[tuple[str, Spend]], list[tuple[str, Spend]]]:
    """Calls that ended and calls that did not, each an agent's name and an amount."""
    closed: list[tuple[str, Spend]] = []
    under_way: dict[str, tuple[str, Spend]] = {}
    for commit in commits:
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            data = _said(commit)
            amount = Spend() + Spend.from_json(data["spend"])  # a TypeError for what is no number
            if not all(it >= 0 for it in (amount.input, amount.cached, amount.output, amount.usd or 0.0)):
                continue  # what a clone says was spent never makes it less
            agent = str(data.get("agent", ""))
            under_way.pop(data.get("of", ""), None)
            if data.get("open"):
                under_way[commit.rev] = agent, amount
            else:
                closed.append((agent, amount))
    return closed, list(under_way.values())


def _refused(commit: Commit) -> str:
    """Whose proposal a commit says was refused; empty where it says something else."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return str(_said(commit).get("refused", ""))
    return ""


def _said(commit: Commit) -> Any:
    """The JSON of a commit's message.

    Raises:
        ValueError: it has none.
    """
    return load_json(commit.message.partition("\n\n")[2])


def _by_agent(calls: Iterable[tuple[str, Spend]]) -> dict[str, list[Spend]]:
    found: dict[str, list[Spend]] = defaultdict(list)
    for agent, amount in calls:
        found[agent].append(amount)
    return found


def _mean(amounts: Sequence[Spend]) -> Spend:
    whole, count = sum(amounts, Spend()), len(amounts)
    usd = None if whole.usd is None else whole.usd / count
    return Spend(whole.input // count, whole.cached // count, whole.output // count, usd)


def reserve(repo: Repo, agent: str, afford: Callable[[Account], Spend]) -> tuple[Spend, str]:
    """Open a call, one caller at a time: what the others' calls may cost is on the account before one more
    is begun, so that several at once do not each spend what is left.

    Args:
        afford: the most that the call may cost, or an error where that is too much, from the account so far.

    Returns:
        that amount, and what `record` wants.
    """
    with locks.hold(repo, "account"):
        amount = afford(read(repo))
        return amount, open_call(repo, agent, amount)


def open_call(repo: Repo, agent: str, amount: Spend, call: str = "") -> str:
    """Write down that a call is about to be made, with the most that it may cost, or what it cost so far.

    Args:
        call: what this returned before, of a call that is under way.

    Returns:
        what `record` wants.
    """
    return _append(repo, agent, f"may spend {amount.words}", amount, call, open=True)


def record(repo: Repo, agent: str, spent: Spend, call: str = "") -> None:
    """Write down what a call did cost; `call` is what `open_call` gave, where it could be said beforehand."""
    _append(repo, agent, f"spent {spent.words}", spent, call)


def record_refusal(repo: Repo, agent: str) -> None:
    """Write down that a proposal of an agent's was refused."""
    repo.append(refs.SPEND, f"{agent} was refused\n\n{json.dumps({'refused': agent})}\n")


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


def refuse_beyond(spent: Spend, program: Program) -> None:
    """Refuse to go on where an amount reaches beyond a limit of the budget.

    Raises:
        OutOfBudget: which of the two limits it is.
    """
    budget = program.budget
    limits = (("tokens", budget.tokens, float(spent.tokens)), ("usd", budget.usd, spent.usd or 0.0))
    for name, limit, amount in limits:
        if limit is not None and amount > limit:
            raise OutOfBudget(
                f"budget.{name} is {limit:,g} and {amount:,.6g} would be spent",
                f"raise budget.{name} in {program.file}, or let an agent without a price propose",
            )


def _append(repo: Repo, agent: str, words: str, amount: Spend, call: str, **more: object) -> str:
    data = {"spend": amount.to_json(), "agent": agent, **({"of": call} if call else {}), **more}
    return repo.append(refs.SPEND, f"{agent} {words}\n\n{json.dumps(data)}\n")

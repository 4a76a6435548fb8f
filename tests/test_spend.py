"""The account of what agents spent: exact after any kill, whoever writes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path

import pytest
from helpers import Ar, git, run
from rich.console import Console

from ar.agents import account
from ar.campaign.progress import Snapshot
from ar.errors import OutOfBudget
from ar.git import refs
from ar.git.repo import Repo
from ar.history import exchange
from ar.history.spend import Spend
from ar.project.program import Budget, Metric, Program
from ar.views.live import frame


@pytest.fixture
def repo(bare: Path) -> Repo:
    return Repo.open(bare)


def test_nothing_is_spent_at_first(repo: Repo) -> None:
    assert account.total(repo) == Spend()


def test_a_call_counts_with_the_most_it_may_cost_until_it_is_closed(repo: Repo) -> None:
    call = account.open_call(repo, "claude", Spend(1000, 0, 500, 0.5))
    assert account.total(repo) == Spend(1000, 0, 500, 0.5)
    account.record(repo, "claude", Spend(900, 800, 10, 0.01), call)
    assert account.total(repo) == Spend(900, 800, 10, 0.01)
    account.record(repo, "command", Spend(1, 0, 1))
    assert account.total(repo) == Spend(901, 800, 11, 0.01)


def test_it_is_told_by_agent_and_for_each_promoted_change(repo: Repo) -> None:
    assert account.read(repo).words(0) == ""
    account.record(repo, "claude/data", Spend(900, 800, 100, 3.0))
    call = account.open_call(repo, "command", Spend(1000, 0, 0, 1.0))
    call = account.open_call(repo, "command", Spend(1500, 0, 500, 2.0), call)
    paid = account.read(repo)
    assert paid.agents == {"claude/data": Spend(900, 800, 100, 3.0), "command": Spend(1500, 0, 500, 2.0)}
    for part in ("3,000 tokens, 5.00 USD", "claude/data 1,000 tokens", "2.50 USD a promoted change"):
        assert part in paid.words(2)
    account.record(repo, "command", Spend(1600, 0, 600, 2.5), call)
    assert account.read(repo).agents["command"] == Spend(1600, 0, 600, 2.5)


def test_what_an_earlier_version_wrote_counts(repo: Repo) -> None:
    repo.append(refs.SPEND, 'claude spent in 5\n\n{"spend": {"input": 5, "cached": 0, "output": 2}}\n')
    assert account.read(repo).agents == {"": Spend(5, 0, 2)}


def test_it_reads_in_git_log_and_survives_collection(repo: Repo) -> None:
    account.record(repo, "claude", Spend(5300, 48, 12), account.open_call(repo, "claude", Spend(9)))
    git(repo.root, "gc", "--quiet", "--prune=now")
    assert git(repo.root, "log", "--format=%s", refs.SPEND).splitlines() == [
        "claude spent in 5300, cached 48, out 12",
        "claude may spend in 9, cached 0, out 0",
    ]
    assert account.total(repo).input == 5300


def test_two_accounts_join_by_a_merge(repo: Repo) -> None:
    account.record(repo, "claude", Spend(1))
    fork = repo.resolve(refs.SPEND)
    account.record(repo, "claude", Spend(10))
    ours = repo.resolve(refs.SPEND)
    assert fork and ours
    repo.update_refs((refs.SPEND, fork, ours))
    account.record(repo, "claude", Spend(100))
    theirs = repo.resolve(refs.SPEND)
    assert theirs
    merge = repo.commit_tree(repo.tree(theirs), [ours, theirs], "Join\n")
    repo.update_refs((refs.SPEND, merge, theirs))
    assert account.total(repo) == Spend(111)


def test_what_a_remote_tells_neither_uses_up_the_budget_nor_frees_it(repo: Repo, tmp_path: Path) -> None:
    run(tmp_path, "git", "init", "-q", "--bare", "remote.git")
    git(repo.root, "push", "-q", str(tmp_path / "remote.git"), "main")
    run(tmp_path, "git", "clone", "-q", "remote.git", "evil")
    git(repo.root, "remote", "add", "origin", str(tmp_path / "remote.git"))
    evil = Repo.open(tmp_path / "evil")
    call = account.open_call(repo, "claude", Spend(1000, 0, 500, 0.5))
    exchange.push(repo, "origin")
    exchange.pull(evil, "origin")
    account.record(evil, "claude", Spend(0, 0, 0, 0.0), call)
    account.record(evil, "claude", Spend(10**12, 0, 10**12, 1e9))
    account.open_call(evil, "claude", Spend(10**12))
    exchange.push(evil, "origin")
    for _ in range(2):
        exchange.pull(repo, "origin")
        assert account.total(repo) == Spend(1000, 0, 500, 0.5)
        assert account.read(repo).told == Spend(2 * 10**12, 0, 10**12, 1e9)
    account.record(repo, "claude", Spend(900, 0, 5, 0.25), call)
    assert account.total(repo) == Spend(900, 0, 5, 0.25)


def test_nothing_is_lost_when_many_write_at_once(repo: Repo) -> None:
    code = (
        "import sys; from pathlib import Path; from ar.git.repo import Repo; from ar.agents import account;"
        "from ar.history.records import Spend; r = Repo.open(Path(sys.argv[1]));"
        "f = lambda: account.record(r, 'a', Spend(3, 2, 1), account.open_call(r, 'a', Spend(100)));"
        "[f() for _ in range(8)]"
    )
    crowd = [subprocess.Popen([sys.executable, "-c", code, str(repo.root)]) for _ in range(3)]
    assert [process.wait(120) for process in crowd] == [0, 0, 0]
    assert account.total(repo) == Spend(72, 48, 24)


def test_calls_at_once_do_not_each_spend_what_is_left(repo: Repo) -> None:
    def afford(known: account.Account) -> Spend:
        if (known.total.usd or 0.0) > 2.0:
            raise OutOfBudget("spent")
        return Spend(usd=1.0)

    def call(number: int) -> bool:
        with contextlib.suppress(OutOfBudget):
            return account.reserve(repo, f"claude/{number}", afford)[0].usd == 1.0
        return False

    with ThreadPoolExecutor(8) as crowd:
        assert sum(crowd.map(call, range(8))) == 3
    assert account.total(repo).usd == 3.0


def test_what_a_call_of_an_agent_typically_costs_is_known(repo: Repo) -> None:
    for usd in (0.1, 0.3):
        account.record(repo, "a", Spend(100, 0, 50, usd), account.open_call(repo, "a", Spend(usd=9.0)))
    account.open_call(repo, "a", Spend(usd=9.0))
    account.open_call(repo, "b", Spend(usd=9.0))
    assert account.read(repo).typical == {"a": Spend(100, 0, 50, pytest.approx(0.2))}


def test_a_limit_is_named_with_the_way_to_raise_it() -> None:
    def refuse_beyond(spent: Spend, tokens: int | None, usd: float | None) -> None:
        budget = Budget(tokens=tokens, usd=usd)
        account.refuse_beyond(spent, Program(Metric("m.json", "loss"), budget=budget, file=".ar/program.md"))

    refuse_beyond(Spend(600, 0, 400, 2.0), 1000, 2.0)
    refuse_beyond(Spend(600, 0, 400), None, 1.0)
    with pytest.raises(OutOfBudget, match=r"budget.tokens is 999 and 1,000 would be spent"):
        refuse_beyond(Spend(600, 0, 400, 2.0), 999, None)
    with pytest.raises(OutOfBudget, match=r"raise budget.usd in .ar/program.md"):
        refuse_beyond(Spend(0, 0, 0, 2.01), None, 2.0)


@pytest.mark.parametrize(
    "amount", [Spend(), Spend(1, 2, 3), Spend(10**9, 5, 7, 0.0000123), Spend(1, 0, 1, 12.0)]
)
def test_words_are_read_back(amount: Spend) -> None:
    assert Spend.parse(amount.words) == amount


@pytest.mark.parametrize("words", ["", "in -1, cached 0, out 0", "in 1, cached 2, out 3, usd nan", "in 1"])
def test_other_words_are_not(words: str) -> None:
    assert Spend.parse(words) is None


def test_what_agents_spent_is_shown_without_a_budget(measured: Path, ar: Ar) -> None:
    assert "gents spent" not in ar(measured, "show").stdout
    account.record(Repo.open(measured), "claude", Spend(900, 800, 100, 3.0))
    account.record(Repo.open(measured), "command/data", Spend(5))
    shown = " ".join(ar(measured, "show").stdout.split())
    assert (
        "Agents spent: 1,005 tokens, 3.00 USD; claude 1,000 tokens, 3.00 USD; command/data 5 tokens." in shown
    )
    assert "1,005 tokens" in " ".join(ar(measured, "doctor", check=False).stdout.split())
    spent = json.loads(ar(measured, "show", "--json").stdout)["spent"]
    assert spent["agents"]["claude"]["usd"] == spent["total"]["usd"] == 3.0
    live = Console(file=StringIO(), width=100)
    live.print(frame(Snapshot(paid=account.read(Repo.open(measured)).words(0)), 100))
    assert "agents spent 1,005 tokens, 3.00 USD" in live.file.getvalue()  # type: ignore[attr-defined]

"""A campaign that an earlier version recorded is read, judged and carried on.

`data/campaign.bundle` holds every ref of a small campaign with an attempt of each kind, and
`data/campaign.json` what `ar show --json` of the version that recorded it said of it. They are never written
again by a newer version; a change that cannot read them has to read both.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers import Ar, git, run

from ar.cli.main import cli
from ar.errors import ArError

DATA = Path(__file__).with_name("data")
THEN = json.loads((DATA / "campaign.json").read_text(encoding="utf-8"))
SAID_NOW = {  # of an attempt, by its name: what the same records are called since
    "of-my-own": {"outcome": "not judged", "title": "dvc exp run"},
    "harm-0.0-0.5-335096": {"outcome": "superseded"},
}
for row in THEN["attempts"]:
    row.update(SAID_NOW.get(row["name"], {}))
OUTCOMES = {row["outcome"] for row in THEN["attempts"]}
NAMES = {row["outcome"]: row["name"] for row in THEN["attempts"]}


@pytest.fixture(scope="module")
def restored_template(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path) -> Path:
    root = tmp_path_factory.mktemp("restored") / "project"
    root.mkdir()
    run(root, "git", "init", "-q")
    run(root, "git", "fetch", "-q", "--update-head-ok", str(DATA / "campaign.bundle"), "refs/*:refs/*")
    run(root, "git", "reset", "-q", "--hard")
    return root


@pytest.fixture
def restored(restored_template: Path, tmp_path: Path) -> Path:
    root = tmp_path / "project"
    shutil.copytree(restored_template, root, symlinks=True)
    return root


def shown(root: Path, ar: Ar) -> dict[str, Any]:
    return json.loads(ar(root, "show", "--json").stdout)  # type: ignore[no-any-return]


def differences(then: Any, now: Any, where: str = "") -> Iterator[str]:
    """What was known then and is not so now; more may be told now, in other sentences."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in then.keys() - {"reason"}:
            yield from differences(then[key], now.get(key), f"{where}.{key}")
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for place, (before, after) in enumerate(zip(then, now, strict=True)):
            yield from differences(before, after, f"{where}[{place}]")
    elif then != (pytest.approx(now) if isinstance(now, float) else now):
        yield f"{where}: {then!r} is {now!r}"


def test_the_recording_holds_an_attempt_of_each_kind() -> None:
    assert {
        *("baseline", "promoted", "discarded", "crashed", "timed out", "cancelled", "tampered"),
        *("stacked", "lapsed", "reverted", "queued"),
    } <= OUTCOMES
    assert any(row["rungs"] for row in THEN["attempts"] if row["outcome"] != "baseline")


def test_the_history_is_read_as_it_was(restored: Path, ar: Ar) -> None:
    before = git(restored, "for-each-ref")
    assert list(differences(THEN, shown(restored, ar))) == []
    table = ar(restored, "show").stdout
    assert [name for name in NAMES.values() if name not in table] == []
    assert git(restored, "for-each-ref") == before


def test_a_report_is_written_of_it(restored: Path, ar: Ar) -> None:
    ar(restored, "report", "-o", "report.md")
    report = (restored / "report.md").read_text(encoding="utf-8")
    assert NAMES["promoted"] in report


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_each_attempt_is_explained_and_judged(
    restored_template: Path, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    monkeypatch.chdir(restored_template)
    row = next(row for row in THEN["attempts"] if row["outcome"] == outcome)
    told = CliRunner().invoke(cli, ["log", row["name"]])
    assert (told.exit_code, row["title"] in told.stdout) == (0, True)
    judged = CliRunner().invoke(cli, ["judge", row["name"], "--json"])
    if outcome in ("baseline", "queued"):
        assert isinstance(judged.exception, ArError)  # there is nothing to judge
    else:
        assert json.loads(judged.stdout)["outcome"] == outcome


def test_what_a_proposal_cost_is_still_known(restored: Path, ar: Ar) -> None:
    paid = [row["name"] for row in THEN["attempts"] if row["agent"] == "command"]
    assert "10,100 tokens in, 4,800 of them cached, 120 out" in ar(restored, "log", paid[0]).stdout
    assert git(restored, "rev-list", "--count", "refs/ar/spend") != "0"


def test_it_is_carried_on(restored: Path, ar: Ar) -> None:
    """What waits is run, an agent is asked for more, and what is known stays."""
    ar(restored, "run", "-n", "1", "--plain")
    now = shown(restored, ar)["attempts"]
    ended = {row["name"]: row for row in now}
    waited = ended[NAMES["queued"]]
    assert waited["outcome"] == "discarded"
    assert waited["value"] is not None
    assert len(now) == len(THEN["attempts"]) + 1
    kept = [row for row in THEN["attempts"] if row["outcome"] not in ("queued", "not judged", "baseline")]
    again = [ended[row["name"]] for row in kept]
    assert [row["outcome"] for row in again] == [row["outcome"] for row in kept]
    assert git(restored, "status", "--short") == ""
    assert run(restored, "git", "fsck", "--strict").returncode == 0

"""Other tools' records, made into attempts that nobody measured here."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from helpers import Ar, commit, git, run

from ar.agents import Briefing
from ar.agents.holdout import hidden_in
from ar.agents.prompt import compose
from ar.agents.tools import Tools
from ar.campaign import candidates, promotion
from ar.campaign.campaign import Campaign
from ar.errors import ArError, BadState, CannotPromote, NotFound
from ar.git import refs
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.history import exchange, reader, statements
from ar.history.attempts import find
from ar.history.records import Attempt, Claimed, History, Outcome, Status
from ar.importing import attempts, files, tables
from ar.importing.attempts import Brought
from ar.importing.files import BadRecord
from ar.importing.rows import Fault, Log, Names, Tool
from ar.judge.findings import total
from ar.project.project import Project
from ar.runs import budget

DATA = Path(__file__).parent / "data" / "imports"
NAMES = Names("m.json:val_loss", ("c.yaml:cost",), "t.json:test_loss", {"x": 1.5, "optim.y": 0.03})
SAMPLES = ("results.tsv", "autoresearch.jsonl", "journal.json", "wandb.csv", "mlflow.csv")

Made = dict[str, str]  # a word of the sample to the commit that it stands for


def _set(root: Path, message: str, **values: object) -> str:
    """A commit that sets parameters."""
    text = (root / "params.yaml").read_text()
    for key, value in values.items():
        text = re.sub(rf"^{key}: .*$", f"{key}: {value}", text, flags=re.MULTILINE)
    (root / "params.yaml").write_text(text)
    commit(root, message)
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def greedy(measured: Path) -> tuple[Path, Made]:
    """A project with the branch that a greedy agent left behind."""
    root = measured
    made = {"start": git(root, "rev-parse", "HEAD")}
    run(root, "git", "switch", "-qc", "autoresearch/nov28")
    made["wider"] = _set(root, "Move x to 2.0", x=2.0)
    made["worse"] = _set(root, "Move y up", y=0.9)
    run(root, "git", "reset", "-q", "--hard", "HEAD~")
    made["broken"] = _set(root, "x as a word", x="far")
    run(root, "git", "reset", "-q", "--hard", "HEAD~")
    (root / "NOTES.md").write_text("What I tried\n")
    commit(root, "Write notes only")
    made["notes"] = git(root, "rev-parse", "HEAD")
    (root / "NOTES.md").write_text("What I tried, and more\n")
    made["further"] = _set(root, "Move x on to 2.5", x=2.5)
    run(root, "git", "switch", "-q", "main")
    return root, made


def _sample(folder: Path, name: str, made: Made) -> Path:
    """A recorded sample with the commits that this repository has."""
    path = folder / name
    if name.endswith(".db"):
        with closing(sqlite3.connect(path)) as base:
            base.executescript((DATA / "optuna.sql").read_text())
            base.commit()
        return path
    text = (DATA / name).read_text()
    for word, rev in made.items():
        text = text.replace(f"@{word}", rev[:7])
    path.write_text(text)
    return path


def _bring(root: Path, path: Path, dry_run: bool = False) -> tuple[Log, Brought]:
    project = Project.open(root)
    log = files.read(path, files.names_of(project))
    return log, attempts.bring(project, log, path.name, dry_run)


def _history(root: Path) -> History:
    return reader.read(Project.open(root))


def _titles(root: Path) -> dict[str, Attempt]:
    return {item.title: item for item in _history(root).imported}


def _places(faults: tuple[Fault, ...]) -> set[str]:
    return {fault.place for fault in faults}


# -- the formats ------------------------------------------------------------------------------------------


def test_the_kept_and_the_discarded_of_a_results_table_come_with_their_change(
    greedy: tuple[Path, Made], tmp_path: Path
) -> None:
    root, made = greedy
    log, brought = _bring(root, _sample(tmp_path, "results.tsv", made))
    assert log.tool is Tool.AUTORESEARCH
    assert _places(log.faults) == {"line 4", "line 8", "line 10"}
    assert _places(brought.left_out) == {"line 2", "line 6", "line 7", "line 9"}
    found = _titles(root)
    kept = found["Move x to 2.0: the floor lies further out"]
    assert kept.outcome is Outcome.IMPORTED and kept.first.status is Status.IMPORTED
    assert kept.baseline == made["start"] and kept.first.params["params.yaml:x"] == 2.0
    claim = kept.claim
    assert claim is not None and claim.commit == made["wider"]
    assert (claim.status, claim.metric, claim.value, claim.before) == (Claimed.KEPT, "val_loss", 1.25, 2.25)
    assert (worse := found["Move y up to 0.9"].claim) is not None
    assert (worse.status, worse.before) == (Claimed.DISCARDED, 1.25)
    further = found["Move x on to 2.5 with a tab inside"]
    assert "NOTES.md" not in reader.changed(Project.open(root), further.baseline, further.first.rev)
    assert {item.title: item.outside for item in brought.added}[further.title] == 1


def test_what_pi_autoresearch_discards_is_in_no_commit(greedy: tuple[Path, Made], tmp_path: Path) -> None:
    root, made = greedy
    log, brought = _bring(root, _sample(tmp_path, "autoresearch.jsonl", made))
    assert log.tool is Tool.PI_AUTORESEARCH
    assert _places(log.faults) == {"line 6", "line 7"}
    assert _places(brought.left_out) == {"line 2", "line 4", "line 5"}
    wider = _titles(root)["Move x to 2.0"]
    assert wider.first.hypothesis == "The floor lies further out"
    assert wider.claim is not None and wider.claim.guards == {"c.yaml:cost": 1.5}


def test_a_program_of_aides_is_the_one_file_that_may_change(project: Path, tmp_path: Path) -> None:
    path = _sample(tmp_path, "journal.json", {})
    _, brought = _bring(project, path)
    assert not brought.added and len(brought.left_out) == 3  # nothing in Python may change
    program = (project / "program.md").read_text()
    (project / "program.md").write_text(program.replace("files: [fit.awk]", "files: ['*.py']"))
    (project / "other.py").write_text("print()\n")
    (project / "solve.py").write_text("print('loss', 2)\n")  # the journal's first node
    commit(project, "Begin with its first program")
    log, brought = _bring(project, path)
    assert log.tool is Tool.AIDE and _places(log.faults) == {"node 3"}
    assert _places(brought.left_out) == {"node 0"}
    halved, divided = _titles(project)["Halve it."], _titles(project)["Divide it away."]
    assert Repo.open(project).read(halved.first.rev, "solve.py") == b"print('loss', 1)\n"
    assert halved.claim is not None and (halved.claim.status, halved.claim.value) == (Claimed.ENDED, 1.0)
    assert divided.claim is not None and (divided.claim.status, divided.claim.value) == (
        Claimed.CRASHED,
        None,
    )


@pytest.mark.parametrize(
    ("name", "tool", "faults", "left_out", "values"),
    [
        ("wandb.csv", Tool.WANDB, {"line 6"}, {"line 5", "line 7"}, {2.5: 0.31, 40.0: None}),
        ("mlflow.csv", Tool.MLFLOW, set(), set(), {2.1: 0.9, 9.0: None}),
    ],
)
def test_an_exports_parameters_are_set_on_the_branch(
    project: Path,
    tmp_path: Path,
    name: str,
    tool: Tool,
    faults: set[str],
    left_out: set[str],
    values: dict[float, float | None],
) -> None:
    log, brought = _bring(project, _sample(tmp_path, name, {"start": git(project, "rev-parse", "HEAD")}))
    assert log.tool is tool
    assert _places(log.faults) == faults and _places(brought.left_out) == left_out
    found = _history(project).imported
    assert {item.first.params["params.yaml:x"]: item.claim and item.claim.value for item in found} == values
    assert {item.baseline for item in found} == {git(project, "rev-parse", "HEAD")}


def test_trials_of_optunas_are_read_with_their_parameters(project: Path, tmp_path: Path) -> None:
    path = _sample(tmp_path, "study.db", {})
    before = path.read_bytes()
    log, brought = _bring(project, path)
    assert log.tool is Tool.OPTUNA and log.unfinished == 1
    assert _places(log.faults) == {"trial 5 of bowl", "trial 0 of two goals"}
    assert _places(brought.left_out) == {"trial 4 of bowl"}  # it set a width, too
    said = {item.title: item.claim for item in _history(project).imported}
    assert {title: claim and (claim.status, claim.value) for title, claim in said.items()} == {
        "x = 2.25": (Claimed.ENDED, 0.7),
        "y = 0.4": (Claimed.DISCARDED, 1.9),
        "x = 5": (Claimed.CRASHED, None),
    }
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "value", "guards"),
    [
        ("commit\tval_loss\tstatus\n@a\t0.5\tkeep\n", 0.5, {}),
        ("commit\taccuracy\tmemory_gb\tstatus\tdescription\n@a\t0.5\t4\tkeep\tA b\n", 0.5, {}),
        ("run\tsha\tmem_mb\tscore\tcost\tdecision\tidea\n1\t@a\t40\t0.5\t7\taccepted\tA b\n", 0.5, {"c": 7}),
        ('commit,val_loss,cost,status,description\n@a,0.5,7,KEEP,"A, b"\n', 0.5, {"c": 7}),
        ("@a\t0.5\t44.0\tkeep\tA b c\n@a\t0.7\t44.0\tdiscard\tD e f\n", 0.5, {}),
        ("commit\ttest_loss\tval_loss\tstatus\n@a\t0.9\t0.5\tkeep\n", 0.5, {}),
        (
            "timestamp\tcommit\tparent\tval_loss\tcost\tseconds\tvram\ttokens\tlr\tstatus\ttitle\thypothesis\tnext\n"
            "2026-11-20T10:00:00\t@a\t@b\t0.5\t7\t300\t44\t1e9\t0.1\tkeep ✓\tA b\tWhy not\tmore\n",
            0.5,
            {"c": 7},
        ),
        (
            "commit\tval_loss\tstatus\tdescription\n@a\t0.5\tkeep\tA b\n"
            "commit\tval_loss\tcost\tstatus\tdescription\n@b\t0.4\t7\tdiscard\tC d\n",
            0.5,
            {},
        ),
        ("commit\tval_loss\tstatus\tdescription\tcost\n@a\t0.5\tkeep\tA b\n@b\t0.4\tkeep\tC d\t7\n", 0.5, {}),
    ],
)
def test_forks_have_columns_of_their_own(text: str, value: float, guards: dict[str, float]) -> None:
    text = text.replace("@a", "abcdef1").replace("@b", "1fedcba")
    log = tables.read(text, NAMES)
    assert not log.faults
    first = log.rows[0]
    assert (first.commit, first.value, first.status) == ("abcdef1", value, Claimed.KEPT)
    assert first.guards == {f"{name}.yaml:cost": size for name, size in guards.items()}
    assert first.title in ("A b", "A b c", "A, b", "")


def test_what_is_not_kept_does_not_get_the_change_of_what_was() -> None:
    """Some forks log what they took back with the commit that they went back to."""
    lines = ["abcdef1\t0.5\tkeep\tA", "abcdef1\t0.9\tdiscard\tB", "abcdef2\t0.9\tdiscard\tC"]
    log = tables.read("\n".join(["commit\tval_loss\tstatus\tdescription", *lines]), NAMES)
    assert [row.commit for row in log.rows] == ["abcdef1", "", "abcdef2"]


def test_hundreds_of_malformed_lines_are_told_by_number_and_end_nothing(
    greedy: tuple[Path, Made], tmp_path: Path, ar: Ar
) -> None:
    root, made = greedy
    path = _sample(tmp_path, "results.tsv", made)
    path.write_text(path.read_text() + "<<<<<<< HEAD\n" * 400)
    done = ar(root, "import", str(path))
    assert "403" in done.stderr and "line 4:" in done.stderr
    assert len(done.stderr.splitlines()) < 60
    assert len(_history(root).imported) == 3


# -- what an import is -------------------------------------------------------------------------------------


def test_twice_the_same_record_adds_nothing_twice(greedy: tuple[Path, Made], tmp_path: Path) -> None:
    root, made = greedy
    path = _sample(tmp_path, "results.tsv", made)
    empty = git(root, "for-each-ref")
    _, brought = _bring(root, path, dry_run=True)
    assert len(brought.added) == 3 and git(root, "for-each-ref") == empty
    _bring(root, path)
    state = git(root, "for-each-ref")
    _, again = _bring(root, path)
    assert (len(again.added), again.known) == (0, 3)
    assert git(root, "for-each-ref") == state
    path.write_text(f"{path.read_text()}{made['notes'][:7]}\t1.1\t44\tkeep\tAn empty change\n")
    path.write_text(path.read_text().replace("description\n", "description\tmore\n"))
    _, again = _bring(root, path)
    assert (len(again.added), again.known) == (0, 3)


def test_no_noise_total_verdict_or_budget_changes_by_an_import(
    greedy: tuple[Path, Made], tmp_path: Path, ar: Ar
) -> None:
    root, made = greedy
    ar(root, "next", "--set", "x=2.0", "-m", "Nearer to the floor")
    ar(root, "run", "-n", "0", "--plain")
    campaign = Campaign(Project.open(root))
    before = campaign.history()

    def counted(history: History) -> tuple[object, ...]:
        verdicts = [campaign.step(history, item).verdict for item in history.attempts if item.own]
        shares = (
            total(campaign.program, history),
            campaign.ledger(history),
            budget.used(campaign.repo, history),
        )
        return history.sigma, history.tried, history.experiments, verdicts, shares

    known = counted(before)
    tree, head = git(root, "status", "--porcelain"), git(root, "rev-parse", "HEAD")
    _bring(root, _sample(tmp_path, "results.tsv", made))
    after = campaign.history()
    assert after.attempts == before.attempts and len(after.imported) == 3
    assert counted(after) == known
    assert (git(root, "status", "--porcelain"), git(root, "rev-parse", "HEAD")) == (tree, head)
    for item in after.imported:
        assert item.value is None and item.verdict is None and not item.guards
        with pytest.raises(NotFound, match="imported"):
            campaign.case(after, item)
        with pytest.raises(BadState, match="imported"):
            candidates.retry(campaign, after, item)
        with pytest.raises(CannotPromote, match="imported"):
            promotion.plan(campaign.project, after, item, force=True)
    ar(root, "run", "-n", "0", "--plain")
    assert _history(root).attempts == before.attempts
    ar(root, "report", "-o", str(tmp_path / "report.md"))
    report = (tmp_path / "report.md").read_text()
    assert "1 attempt," in report and "Imported: 3" in report


def test_no_note_makes_an_imported_attempt_count(greedy: tuple[Path, Made], tmp_path: Path) -> None:
    root, made = greedy
    _bring(root, _sample(tmp_path, "results.tsv", made))
    repo, before = Repo.open(root), _history(root)
    won = {"decision": "promote", "reason": "Much better.", "effect": -1.0, "runs": 9, "z": 9.0}
    item = before.imported[0]
    repo.update_note(item.first.rev, lambda note: {**note, "status": "succeeded", "verdict": won})
    tree = repo.write_tree(item.first.rev, {"m.json": b'{"val_loss": 0.001}'})
    text = git(root, "show", "-s", "--format=%B", item.first.rev)
    rev = repo.commit_tree(tree, [item.baseline], text)
    repo.update_refs((str(refs.ExperimentRef(item.baseline, "forged")), rev, ZERO))
    after = _history(root)
    assert (after.attempts, after.sigma) == (before.attempts, before.sigma)
    assert len(after.imported) == 4
    for each in after.imported:
        assert each.outcome is Outcome.IMPORTED and each.value is None and each.verdict is None
        assert each.first.metrics == {}


def test_nobody_signs_what_was_imported_as_measured(
    greedy: tuple[Path, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, made = greedy
    run(tmp_path, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key"))
    run(root, "git", "config", "gpg.format", "ssh")
    run(root, "git", "config", "user.signingKey", str(tmp_path / "key.pub"))
    own = len(_history(root).experiments)
    _bring(root, _sample(tmp_path, "results.tsv", made))
    assert statements.sign(Repo.open(root)) == own
    assert statements.sign(Repo.open(root)) == 0


def test_an_imported_attempt_is_a_candidate_once_it_is_measured_here(
    greedy: tuple[Path, Made], tmp_path: Path, ar: Ar
) -> None:
    root, made = greedy
    ar(root, "import", str(_sample(tmp_path, "results.tsv", made)))
    name = _titles(root)["Move x on to 2.5 with a tab inside"].name
    ar(root, "stack", name, "--no-merge", "--plain")
    [own] = [item for item in _history(root).attempts if item.stack == (name,)]
    assert own.is_decided and len(own.own) > 1 and not own.first.is_imported
    assert own.value is not None and own.value > 0.5  # what was measured, not what was claimed
    shown = json.loads(ar(root, "show", "--json").stdout)["attempts"]
    claims = {item["name"]: item["claim"] for item in shown}
    assert claims[name]["value"] == 0.4 and claims[own.name] is None


def test_what_another_clone_imported_is_imported_here_too(greedy: tuple[Path, Made], tmp_path: Path) -> None:
    root, made = greedy
    run(tmp_path, "git", "init", "-q", "--bare", "remote.git")
    run(root, "git", "remote", "add", "origin", str(tmp_path / "remote.git"))
    run(root, "git", "push", "-q", "origin", "main")
    path = _sample(tmp_path, "results.tsv", made)
    _bring(root, path)
    exchange.push(Repo.open(root), "origin")
    run(tmp_path, "git", "clone", "-q", str(tmp_path / "remote.git"), "other")
    exchange.pull(Repo.open(tmp_path / "other"), "origin")
    here, there = _history(root), _history(tmp_path / "other")
    assert [(item.name, item.claim) for item in there.imported] == [
        (item.name, item.claim) for item in here.imported
    ]
    assert there.pulled and not any(item.first.is_imported for item in there.pulled)
    _, brought = _bring(tmp_path / "other", path)
    assert (len(brought.added), brought.known) == (0, 3)


def test_agents_are_told_that_it_is_hearsay(greedy: tuple[Path, Made], tmp_path: Path) -> None:
    root, made = greedy
    _bring(root, _sample(tmp_path, "results.tsv", made))
    project = Project.open(root)
    briefing = Briefing(project.program, reader.read(project), reader.baseline_params(project))
    told = compose(briefing).text
    assert re.search(
        r"^Imported .*\n.*\n(.*\n)*?autoresearch-\w+ \| Move x to 2.0.* \| keep, val_loss 1.25", told, re.M
    )


def test_a_branch_from_before_there_was_a_pipeline_can_be_imported(
    measured: Path, tmp_path: Path, ar: Ar
) -> None:
    root = measured
    text = (root / "fit.awk").read_text()
    run(root, "git", "switch", "-q", "--orphan", "old")
    (root / "fit.awk").write_text(text)
    run(root, "git", "add", "fit.awk")
    run(root, "git", "commit", "-qm", "Begin")
    (root / "fit.awk").write_text(text.replace("(x - 3)", "(x - 2)"))
    run(root, "git", "commit", "-qam", "Another floor")
    rev = git(root, "rev-parse", "HEAD")
    run(root, "git", "switch", "-qf", "main")
    path = tmp_path / "results.tsv"
    path.write_text(f"commit\tval_loss\tstatus\tdescription\n{rev[:7]}\t0.1\tkeep\tAnother floor\n")
    _, brought = _bring(root, path)
    [added] = brought.added
    attempt, _ = find(_history(root), added.name)
    assert attempt.baseline == git(root, "rev-parse", f"{rev}^")
    done = ar(root, "stack", added.name, "--dry-run")
    assert added.name in done.stdout and "conflict" not in done.stdout


def test_agents_see_the_change_and_the_claim_and_nothing_of_the_holdout(
    greedy: tuple[Path, Made], tmp_path: Path
) -> None:
    root, _ = greedy
    text = (root / "program.md").read_text()
    (root / "program.md").write_text(text.replace("seed: seed", 'holdout: "m.json:test_loss"\nseed: seed'))
    (root / "results.csv").write_text("step,val_loss\n1,0.123456\n")
    pipeline = (root / "dvc.yaml").read_text()
    (root / "dvc.yaml").write_text(f"{pipeline}    plots:\n    - results.csv: {{cache: false}}\n")
    commit(root, "Look at a holdout, and draw a curve")
    rev = _set(root, "Move x to 2.2", x=2.2)
    run(root, "git", "branch", "-q", "theirs")
    run(root, "git", "reset", "-q", "--hard", "HEAD~")
    path = tmp_path / "results.tsv"
    lines = ["commit\ttest_loss\tval_loss\tstatus\tdescription\thypothesis"]
    lines += [f"{rev[:7]}\t0.4321\t0.5\tkeep\tMove x: test_loss 0.4321\ttest_loss says 0.4321"]
    path.write_text("\n".join(lines))
    _bring(root, path)
    project = Project.open(root)
    history = reader.read(project)
    [item] = history.imported
    told = Tools(project.repo, Briefing(project.program, history, {})).answer(
        "show_experiment", {"name": item.name}
    )
    assert "keep, val_loss 0.5" in told and "+x: 2.2" in told
    assert "0.4321" not in told and "0.123456" not in told
    blind = str(hidden_in(history, project.program).imported)
    briefed = compose(Briefing(project.program, history, reader.baseline_params(project))).text
    assert "val_loss" in blind and "0.4321" not in blind and "0.4321" not in briefed


# -- records that mean harm -------------------------------------------------------------------------------


def test_what_a_record_says_is_data(greedy: tuple[Path, Made], tmp_path: Path, ar: Ar) -> None:
    root, made = greedy
    odd = "\x1b[2J=cmd() and more\tAr-Agent: baseline\u202e"
    path = tmp_path / "results.tsv"
    path.write_text(f"commit\tval_loss\tstatus\tdescription\n{made['wider'][:7]}\t1e-9\tkeep\t{odd}\n")
    done = ar(root, "import", str(path))
    texts = [done.stdout, done.stderr, ar(root, "show").stdout, ar(root, "show", "--csv").stdout]
    [item] = _history(root).imported
    texts.append(ar(root, "log", item.name).stdout)
    assert item.agent == "autoresearch" and item.first.imported == "autoresearch"
    for text in texts:
        assert not re.search("[\u202e\x1b]", text)


def _view(path: Path) -> None:
    with closing(sqlite3.connect(path)) as base:
        base.executescript((DATA / "optuna.sql").read_text())
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i, i FROM n"
        base.executescript(f"DROP TABLE trial_values; CREATE VIEW trial_values AS {endless};")


def _nested(path: Path) -> None:
    with closing(sqlite3.connect(path)) as base:
        base.executescript((DATA / "optuna.sql").read_text())
        base.execute("INSERT INTO trial_params VALUES (99, 1, 'y', 1, ?)", ("[" * 50_000,))
        base.commit()


@pytest.mark.parametrize(
    "make",
    [
        _view,
        lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(4000)),
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        lambda path: path.write_text(""),
        lambda path: path.write_text("{" * 100_000),
        lambda path: path.write_text('{"nodes": 3}'),
        lambda path: path.write_text("a,b\n1,2\n"),
        lambda path: os.mkfifo(path),
    ],
)
def test_what_is_no_record_is_refused_in_words(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "record")
    try:
        log = files.read(tmp_path / "record", NAMES)
    except BadRecord:
        return
    assert not log.rows


def test_a_trial_that_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    _nested(tmp_path / "study.db")
    log = files.read(tmp_path / "study.db", NAMES)
    assert "trial 0 of bowl" in _places(log.faults) and log.rows


@pytest.mark.parametrize("name", [*SAMPLES, "study.db"])
def test_a_mutated_record_is_read_or_refused(tmp_path: Path, name: str) -> None:
    content = _sample(tmp_path, name, {"start": "abcdef1", "wider": "abcdef2"}).read_bytes()
    chance, path = random.Random(name), tmp_path / "mutated"
    for _ in range(150):
        bad = bytearray(content)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(bad))
            bad[at : at + chance.randint(0, 3)] = chance.choice(
                [b"\0", b"\n", b'"', b"\t", b"9" * 400, b"\xff", b""]
            )
        path.write_bytes(bad)
        try:
            files.read(path, NAMES)
        except ArError as error:
            assert isinstance(error, BadRecord)

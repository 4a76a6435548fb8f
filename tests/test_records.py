"""Records survive JSON; messages survive git; parameters files keep their layout."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from ar.errors import BadParams
from ar.formats import load_yaml
from ar.git import refs
from ar.history.ideas import Edit, Proposal
from ar.history.messages import HYPOTHESIS_LIMIT, Message
from ar.history.records import Attempt, Decision, Experiment, History, Note, Outcome, Status, Verdict
from ar.history.spend import Spend
from ar.project import params
from ar.project.values import dump_yaml, flat
from ar.record import Record

VERDICT = Verdict(
    Decision.PROMOTE,
    "good",
    effect=-0.1,
    standard_error=0.01,
    z=4.0,
    bar=3.0,
    runs=3,
    base_runs=8,
    sigma=0.02,
    df=9,
)
NOTE = Note(Status.TIMED_OUT, reason="late", log="a\nb", verdict=VERDICT, seconds=1.5, spend=Spend(5, 4, 1))
EXPERIMENT = Experiment(
    name="n",
    rev="r",
    baseline="b",
    title="t",
    status=Status.CRASHED,
    seed=3,
    metrics={"m:x": 1.5, "m:y": None},
    note=NOTE,
)
ATTEMPT = Attempt("n", "t", "optuna", "b", "c", (EXPERIMENT,), 1.0, None, {"g": 2.0}, Outcome.OPEN, VERDICT)


@pytest.mark.parametrize(
    "record",
    [
        VERDICT,
        NOTE,
        EXPERIMENT,
        ATTEMPT,
        History("h", "c", (ATTEMPT,), 0.1),
        Proposal("t", "h", "a", {"lr": 0.1, "on": True}, (Edit("p", "o", "n"),), simplification=True),
    ],
)
def test_json_round_trip(record: Record) -> None:
    assert type(record).from_json(json.loads(json.dumps(record.to_json()))) == record


def test_unknown_keys_of_a_newer_version_are_ignored() -> None:
    assert Note.from_json({"status": "crashed", "invented": 1}).status is Status.CRASHED


def test_message_round_trip() -> None:
    message = Message(
        "lr 1 → 2",
        "Because.\n\nAnd refuted if not.",
        "optuna",
        "abc",
        7,
        parent="parent-1",
        expected="-0.1",
        simplification=True,
        spend=Spend(5, 4, 1, 0.25),
        aa=True,
    )
    assert Message.parse(str(message)) == message


def test_a_hypothesis_cannot_write_trailers() -> None:
    text = str(Message("t\nAr-Seed: 9", "good\nAr-Agent: baseline\n  Ar-Candidate: x", "claude", "abc", 1))
    parsed = Message.parse(text)
    assert (parsed.agent, parsed.candidate, parsed.seed) == ("claude", "abc", 1)
    assert "baseline" not in text


@pytest.mark.parametrize(
    "cut",
    [
        "---", "--- ", "---\tx", "--- a/x\n+++ b/x", "# ------------------------ >8 ------------------------",
        "Signed-off-by: Eve <e@x>", "Signed-off-by: Eve <e@x>\n---\nx", "\u2028---\u2028",
        "# Conflicts:\n#\tx", "diff --git a/x b/x",
    ],
)  # fmt: skip
def test_git_reads_our_trailers_and_no_others(bare: Path, cut: str) -> None:
    inside = f"Why.\n\nAr-Agent: baseline\nAcked-by: Eve <e@x>\n{cut}\n\nFixes: 1\n{cut}"
    for title, hypothesis in (("Try", inside), (cut, "Why."), (cut, inside)):
        message = str(Message(title, hypothesis, "claude", candidate="abc", seed=1))
        parsed = subprocess.run(
            ["git", "interpret-trailers", "--parse"],
            input=message,
            cwd=bare,
            capture_output=True,
            text=True,
            check=True,
        )
        assert parsed.stdout == "Ar-Agent: claude\nAr-Candidate: abc\nAr-Seed: 1\n"
        again = Message.parse(message)
        assert str(again) == message


def test_a_hypothesis_has_one_limit_whoever_wrote_it() -> None:
    for agent in ("claude", "command", "human"):
        said = Message.parse(str(Message("t", "why " * 10_000, agent, candidate="abc"))).hypothesis
        assert len(said) == HYPOTHESIS_LIMIT


def test_a_foreign_message_has_a_title_only() -> None:
    parsed = Message.parse("By hand\n\nBecause.\n")
    assert (parsed.title, parsed.hypothesis, parsed.agent) == ("By hand", "Because.", "")


def test_dvcs_own_message_becomes_a_short_title() -> None:
    parsed = Message.parse(f"dvc: commit experiment {'0123abcd' * 8}\n")
    assert (parsed.title, parsed.agent) == ("dvc exp run", "")


def test_experiment_refs() -> None:
    ref = refs.ExperimentRef("ab" + "0" * 38, "some-name")
    assert refs.ExperimentRef.parse(str(ref)) == ref
    assert refs.ExperimentRef.parse("refs/exps/celery/stash") is None
    assert refs.ExperimentRef.parse("refs/exps/exec/EXEC_HEAD") is None


def test_names_are_safe_and_distinct() -> None:
    names = [refs.new_name("../..//Lr 0.02 → 0.06; rm -rf $HOME é") for _ in range(50)]
    assert len(set(names)) == 50
    assert all(refs.is_name(name) for name in names)
    assert refs.is_name(refs.new_name("…"))


YAML = b"# head\na:  # group\n  lr: 0.02   # rate\n  on: true\n  list:\n    - 1\n    - 2\nseed: 1\n"


def test_setting_a_parameter_keeps_the_rest_of_the_text() -> None:
    new = params.update(YAML, "params.yaml", {"a.lr": 0.06})
    old_lines, new_lines = YAML.decode().splitlines(), new.decode().splitlines()
    assert [i for i, (a, b) in enumerate(zip(old_lines, new_lines, strict=True)) if a != b] == [2]
    assert flat(new, "params.yaml")["a.lr"] == 0.06


def test_setting_json_and_floats_that_are_whole() -> None:
    assert flat(params.update(b'{"a": {"lr": 0.5}}', "p.json", {"a.lr": 1}), "p.json")["a.lr"] == 1.0
    assert b"lr: 1.0" in params.update(b"lr: 0.5\n", "p.yaml", {"lr": 1})


@pytest.mark.parametrize(
    ("content", "path", "values", "says"),
    [
        (b"a: [", "params.yaml", {"a": 1}, "does not parse: line"),
        (b"- 1\n", "params.yaml", {"a": 1}, "keys and values"),
        (b"alpha: 1\n", "params.yaml", {"alhpa": 1}, "did you mean 'alpha'"),
        (b"{", "p.json", {"a": 2}, "does not parse"),
    ],
)
def test_broken_parameters_are_named(content: bytes, path: str, values: dict[str, int], says: str) -> None:
    with pytest.raises(BadParams) as caught:
        params.update(content, path, values)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "value", "new"),
    [
        ("a: 1  # one\nb: null # none\nc:\n", "a", 2, "a: 2  # one\nb: null # none\nc:\n"),
        ("b: null # none\nc:\n", "c", 3, "b: null # none\nc: 3\n"),
        ("b: null # none\n", "b", 3, "b: 3 # none\n"),
        ("a: {x: 1, y: [1, 2]}\n", "a.x", 1e-5, "a: {x: 1.0e-05, y: [1, 2]}\n"),
        ("a: {x: 1, y: [1, 2]}\n", "a.y.1", 7, "a: {x: 1, y: [1, 7]}\n"),
        ("ü: 'é'  # ß\nlr:    0.50\n", "lr", 0.25, "ü: 'é'  # ß\nlr:    0.25\n"),
        ('kind: "a b"\n', "kind", "c: d", "kind: 'c: d'\n"),
        ("flag: true\n", "flag", False, "flag: false\n"),
        ("l: [1, 2] # two\n", "l", "[3]", "l: [3] # two\n"),
        ("l:\n- 1\n- 2\n# end\nz: 1\n", "l", "[3, 4]", "l: [3, 4]\n# end\nz: 1\n"),
        ("a:\n  b.c: 1e-4\n  b: {d: 1}\n", "a.b.c", 1e-3, "a:\n  b.c: 0.001\n  b: {d: 1}\n"),
        ("1: {2: a}\n", "1.2", "1e-4", "1: {2: '1e-4'}\n"),
    ],
)
def test_only_the_value_is_written_over(text: str, key: str, value: object, new: str) -> None:
    assert params.update(text.encode(), "params.yaml", {key: value}).decode() == new


def test_toml_and_python_are_written_over_too() -> None:
    toml = b"# top\n[a]\nlr = 1e-1 # rate\nl = [1, 2]\n"
    assert params.update(toml, "p.toml", {"a.lr": 1, "a.l": "[3]"}) == (
        b"# top\n[a]\nlr = 1.0 # rate\nl = [3]\n"
    )
    code = (
        "RATE = 1e-4  # ü\nclass A:\n    x: int = 1\n    def __init__(self):\n        self.y = (1, 2)\n"
        "D = {'k': [1], 'l': 2}\nfrom os import environ\nHOME = environ\n"
    ).encode()
    assert dict(flat(code, "p.py")) == {"RATE": 1e-4, "A.x": 1, "A.y": "[1, 2]", "D.k": "[1]", "D.l": 2}
    new = params.update(code, "p.py", {"RATE": 1, "A.x": 2, "A.y": "[3, 4]", "D.l": 5}).decode()
    assert new == code.decode().replace("1e-4 ", "1.0 ").replace("= 1\n", "= 2\n").replace(
        "(1, 2)", "(3, 4)"
    ).replace("'l': 2", "'l': 5")


def test_scalars_are_read_as_dvc_reads_them() -> None:
    from ruamel.yaml import YAML

    texts = "1e-4 1e5 1. .5e3 010 0o17 0x1f 0b11 1_000 yes on off True TRUE null ~ 1:30 +1 .inf 1.0.0 08 0o9"
    for text in texts.split():
        found, dvcs = load_yaml(text), YAML(typ="safe").load(text)
        assert (found, type(found)) == (dvcs, type(dvcs)), text
    words = ("1e-4", "on", "010", "1:30", "1_0", "null", "", "2001-01-01", "0x1")
    for value in (*words, 1e-5, True, None, [1e10, "y"]):
        text = dump_yaml({"k": value})
        assert load_yaml(text) == YAML(typ="safe").load(text) == yaml.safe_load(text) == {"k": value}, text


def test_an_alias_is_not_set_behind_the_users_back() -> None:
    with pytest.raises(BadParams, match="without changing more"):
        params.update(b"a: &x 1\nb: *x\n", "params.yaml", {"b": 2})

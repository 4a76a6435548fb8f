"""Sound files, mutated at random: whoever reads them ends with a value or one of our errors, and soon.

`test_formats` has the bombs that are known, and bytes of any kind; here is what nobody thought of.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from pathlib import Path

import pytest
from helpers import PROGRAM, commit, edit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_formats import readers

from ar.changes import own, patches
from ar.changes.proposal import prepare
from ar.errors import ArError, BadParams, BadProposal
from ar.formats import BadData
from ar.git.repo import Repo
from ar.history import reader
from ar.history.ideas import Proposal
from ar.project import program_file
from ar.project.params import ParamKey
from ar.project.project import Project
from ar.project.scope import Scope, is_obeyed
from ar.redaction import redact
from ar.text import one_line, plain
from ar.views import export

LONGEST = 5.0  # seconds that one reader may take for a few hundred bytes, on a machine that is busy
PIPELINE = """\
vars: [{n: 3, names: [a, b]}, other.yaml]
stages:
  prepare:
    cmd: [mkdir d, "echo ${n} > d/x"]
    outs: [d]
  fit:
    foreach: ${names}
    do:
      wdir: sub
      cmd: python fit.py --name ${item}
      deps: [fit.py, ../d]
      params: [lr, "other.json:", {p.toml: [a.b]}]
      outs: ["out-${item}": {cache: false, persist: true}]
      metrics: [m.json: {cache: false}]
      plots: [loss.csv: {x: step, y: loss}]
  grid:
    matrix: {model: [x, y], size: "${n}"}
    cmd: echo ${item.model} ${key}
metrics: [m.json]
plots: [{p: {x: a, y: {b: [c, d]}}}]
"""
LOCK = """\
schema: '2.0'
stages:
  fit@a:
    cmd: python fit.py
    deps: [{path: fit.py, hash: md5, md5: 0123456789abcdef0123456789abcdef, size: 12}]
    params: {params.yaml: {lr: 0.1, layers: [1, 2]}}
    outs: [{path: m.json, hash: md5, md5: 0123456789abcdef0123456789abcdef.dir, size: 12, nfiles: 2}]
"""
VALUES = (
    "lr: 1e-4  # rate\nlayers: [1, 2, {a: b}]\non: yes\nt: !!float 1\nm: &m {x: 0x1f}\nn:\n  <<: *m\n  y: ~\n"
)
MESSAGE = """\
Try

Why.

Ar-Agent: claude
Ar-Candidate: 00ff
Ar-Seed: 7
Ar-Spend: in 5, cached 4, out 1, usd 0.2
"""
NOTE = """\
{"status": "crashed", "seconds": 1.5, "spend": {"input": 5},
 "verdict": {"decision": "promote", "reason": "x", "z": 4, "runs": 3}}
"""
QUESTION = (
    '{"budget": 700, "spent": 9, "left": 691, "change": 0, "cand": [2.19], "own": [], "base": [2.2, 2.21], '
    '"promotions": 0}\n'
)
SAMPLES: dict[str, list[str]] = {
    "values of json": ['{"val_loss": 1.5, "more": {"a": [1, -2.5e3, null, true, "x\\u00e9"]}}'],
    "values of yaml": [VALUES],
    "values of toml": ['a = 1\n[b]\nc = [1, 2.5, "x"]\nd.e = 1979-05-27T07:32:00Z\n[[f]]\ng = {h = true}\n'],
    "values of py": ["a = 1\nclass T:\n    lr: float = 1e-3\n    names = ['x', ('y', {'z': None})]\n"],
    "a parameter set": [VALUES],
    "a curve": ["step,loss\n1,2.5\n2,nan\n3,1e999\n4,\"1\"\n", "step\tloss\n1\t2\n2\t1\n"],
    "the pipeline": [PIPELINE],
    "the lock": [LOCK],
    "notes joined": [NOTE],
    "a message": [MESSAGE],
    "what calls cost": ["in 5300, cached 4800, out 120, usd 0.041"],
    "a question to the judge": [QUESTION],
    "an agent's output": ['{"type": "result", "result": "Title: x", "usage": {"input_tokens": 5}}\n{}\n'],
    "the programme": [
        PROGRAM,
        "---\nobjective: m.json:a\nagents: [{kind: claude, lane: x, prices: {input: 1, output: 2}}]\n"
        "ladder: [{name: d8, params: {depth: 8}}]\nsandbox: {memory: 4GB, stages: {a: {network: true}}}\n"
        "curve: {file: l.csv, value: loss, against: [step]}\n"
        "search: {a: [1, 2], b: {low: 1, high: 9, log: true}}\n---\n",
    ],
}  # fmt: skip
TOKENS = [
    "{", "}", "[", "]", "(", ")", ":", ",", "-", "\"", "'", "\n", "\n---\n", "\t", "#", "|", ">", "/",
    "&a ", "*a", "<<: ", "!!float ", "!!python/object/apply:os.system ", "!!binary ", "? ", "%YAML 9.9\n",
    "~", "\0",
    "${", "}", "${a.b[0]}", "\x1b[2J", "\u202e", "\u2028", "\ud800", "\ufeff", "é", "1e999", "-0", "NaN",
    ".inf",
    "9" * 400, "0x" + "f" * 300, "1_0", "null", "true", "../", "\\", "a." * 50, "[" * 60, "{a: " * 60,
    "__class__",
]  # fmt: skip


def mutated(text: str, seed: int) -> bytes:
    """A text with a few changes: parts cut, doubled, moved, bytes flipped, tokens put in."""
    choose = random.Random(seed)
    for _ in range(choose.randint(1, 6)):
        start = choose.randint(0, len(text))
        end = min(len(text), start + choose.randint(0, 30))
        part = text[start:end]
        new = choose.choice(["", part * 2, choose.choice(TOKENS), choose.choice(TOKENS) + part, part[::-1]])
        text = text[:start] + new + text[end:]
    content = bytearray(text.encode(errors="surrogatepass"))
    if content and choose.random() < 0.2:
        content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
    return bytes(content)


def _few(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


SEEDS = st.integers(0, 2**32)
AMOUNT = [40, pytest.param(4000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("amount", AMOUNT)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_mutated_file_ends_as_a_value_or_a_refusal(name: str, amount: int) -> None:
    read = readers()[name]

    @_few(amount)
    @given(st.sampled_from(SAMPLES[name]), SEEDS)
    def fuzz(sample: str, seed: int) -> None:
        began = time.process_time()
        with contextlib.suppress(ArError, BadData):
            read(mutated(sample, seed))
        assert time.process_time() - began < LONGEST

    fuzz()


def test_every_reader_has_a_sample() -> None:
    assert SAMPLES.keys() == readers().keys()


@pytest.mark.parametrize("amount", AMOUNT)
def test_any_programme_that_is_read_can_be_used(amount: int) -> None:
    @_few(amount)
    @given(st.sampled_from(SAMPLES["the programme"]), SEEDS)
    def fuzz(sample: str, seed: int) -> None:
        with contextlib.suppress(ArError):
            program = program_file.parse(mutated(sample, seed).decode(errors="replace"))
            program.scope.may_edit("model/a.py")
            assert program.timeout() is None or program.timeout("d8") is not None
            assert repr(program) and str(program.objective)

    fuzz()


@pytest.mark.parametrize("amount", AMOUNT)
def test_text_of_others_becomes_plain_and_paths_are_told_apart(amount: int) -> None:
    @_few(amount)
    @given(SEEDS)
    def fuzz(seed: int) -> None:
        text = mutated("model/.git/x.dvc \x1b]0;a\x07 key = sk-ant-api03-" + "a" * 30, seed).decode(
            errors="replace"
        )
        assert "\x1b" not in plain(text) and "\n" not in one_line(text)
        redact(text)
        assert Scope((text, "**")).may_edit(text) in (True, False)
        assert is_obeyed(text) in (True, False)
        ParamKey.parse(text)

    fuzz()


@pytest.fixture
def project_(project: Path) -> Project:
    """Its scope is all there is."""
    edit(project / "program.md", "[fit.awk]", '["**", "**/.*"]')
    commit(project, "Open the scope wide")
    return Project.open(project)


_TEXT = st.text(max_size=20)
_SCALAR = (
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.sampled_from([10**400, "\ud800"])
)
# Parts of paths that programs and file systems take for something else, and texts that are hard to read.
_PARTS = [
    ".", "..", "", "~", ".git", ".GIT", "git~1", ".dvc", "dvc.yaml", "x.dvc", ".dvcignore", ".gitattributes",
    ".gitmodules", "fit.awk", "params.yaml", "con", "*", ":(top)", "-x", '"', "a ", "\u200b", "\u202e",
    "\ud800", "a.py",
]  # fmt: skip
_PATHS = st.lists(st.sampled_from(_PARTS) | _TEXT, max_size=3).map("/".join)
_NEW = _TEXT | st.sampled_from(
    [
        "x = 1\n",
        "x = " + "-" * 100_000 + "1",
        "x = " + "+".join("1" * 100_000),
        "\ud800",
        "x = 1\0",
        "[" * 5000,
    ]
)
PROPOSALS = st.fixed_dictionaries({
    "title": st.text(min_size=1, max_size=20), "hypothesis": _TEXT, "agent": st.just("claude"),
    "params": st.dictionaries(st.sampled_from(["x", "y", "seed", "x.a", ""]) | _TEXT, _SCALAR, max_size=3),
    "edits": st.lists(st.fixed_dictionaries({
        "path": st.sampled_from(["fit.awk", "params.yaml", "a"]) | _PATHS,
        "old": st.sampled_from(["", "/^x:/", "END", "x: 1.5"]) | _TEXT, "new": _NEW,
    }), max_size=3),
})  # fmt: skip


@pytest.mark.parametrize("amount", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_any_proposal_becomes_a_tree_or_is_refused(project_: Project, amount: int) -> None:
    history = reader.read(project_)

    @_few(amount)
    @given(PROPOSALS)
    def fuzz(data: dict[str, object]) -> None:
        with contextlib.suppress(BadProposal, BadParams):
            change = prepare(project_, Proposal.from_json(data), history)
            assert not any(is_obeyed(path) for path in project_.repo.changed("HEAD", change.tree))

    fuzz()


@pytest.mark.parametrize("amount", [15, pytest.param(500, marks=pytest.mark.slow)])
def test_any_patch_becomes_a_tree_or_is_refused(project_: Project, amount: int) -> None:
    tree = project_.repo.write_tree("HEAD", {"fit.awk": b"BEGIN { print 1 }\n", "params.yaml": b"x: 2\n"})
    mail = "From 0 Mon Sep 17 00:00:00 2001\nFrom: a <a@b>\nSubject: [PATCH] =?UTF-8?q?Try?=\n\nWhy.\n---\n"
    diff = patches.between(project_.repo, "HEAD", tree).decode()

    @_few(amount)
    @given(st.sampled_from([diff, mail + diff]), SEEDS)
    def fuzz(sample: str, seed: int) -> None:
        with contextlib.suppress(ArError):
            own.from_patch(project_, patches.parse(project_.repo, mutated(sample, seed)), {}, "Try")

    fuzz()


@pytest.mark.parametrize("amount", [15, pytest.param(500, marks=pytest.mark.slow)])
def test_any_note_and_any_result_can_be_shown(measured: Path, amount: int) -> None:
    project = Project.open(measured)
    ref, rev = next(iter(project.repo.refs("refs/exps").items()))
    metrics, lock = (project.repo.read(rev, path) or b"" for path in ("m.json", "dvc.lock"))

    @_few(amount)
    @given(SEEDS)
    def fuzz(seed: int) -> None:
        changes: dict[str, bytes | None] = {
            "m.json": mutated(metrics.decode(), seed), "dvc.lock": mutated(lock.decode(), seed + 1),
            "params.yaml": mutated("x: 2\ny: 0.03\nseed: 4\n", seed + 2),
            "c.yaml": mutated("cost: 1\n", seed + 3),
        }  # fmt: skip
        repo = Repo.open(measured)
        new = repo.commit_tree(repo.write_tree(rev, changes), [repo.head()], _message(seed))
        with contextlib.suppress(ValueError):
            repo.update_note(new, lambda _: json.loads(mutated(NOTE, seed)))
        repo.update_refs((ref, new, repo.resolve(ref) or ""), reason="fuzz")
        history = reader.read(Project.open(measured))
        json.loads(export.to_json(history, project.program))
        export.to_csv(history, project.program)

    fuzz()


def _message(seed: int) -> str:
    return mutated(MESSAGE, seed).decode(errors="replace").replace("\0", "")

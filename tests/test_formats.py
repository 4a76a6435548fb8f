"""Every reader of bytes that others wrote ends with a value or a refusal: no other error, no hang."""

from __future__ import annotations

import ast
import contextlib
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imports import FILES, IMPORTS, TREES

from ar.agents import account, transcript
from ar.errors import ArError
from ar.formats import BadData
from ar.git import refs
from ar.git.repo import Repo
from ar.history.curves import read_curve
from ar.history.exchange import _joined
from ar.history.messages import Message
from ar.history.records import Note
from ar.history.spend import Spend
from ar.judge.protocol import answers
from ar.project import params, program_file
from ar.project.cache import Cache
from ar.project.pipeline_file import Declared
from ar.project.program import CurveFile
from ar.project.values import flat
from ar.stage import files
from ar.stage.files import Plan, Requested, Stage, Usage
from ar.stage.processes import Process

CURVE = CurveFile("loss.csv", "loss", ("step",))
PROGRAM = "---\nobjective: m.json:loss\n{}\n---\nprose\n"
ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)
)
DEEP_JSON = '{"a":' * 100_000 + "1" + "}" * 100_000
BOMBS = {
    "json deep": ("m.json", DEEP_JSON),
    "json lists": ("m.json", '{"a": ' + "[" * 100_000),
    "json number": ("m.json", '{"a": 1' + "0" * 400 + "}"),
    "json digits": ("m.json", '{"a": ' + "1" * 100_000 + "}"),
    "json half a character": ("m.json", r'{"a": "\ud800"}'),
    "json long names": ("m.json", json.dumps({"k" * 100_000: {f"{i}": 1 for i in range(10_000)}})),
    "yaml aliases": ("m.yaml", ALIASES),
    "yaml merges": ("m.yaml", MERGES),
    "yaml cycle": ("m.yaml", "a: &a [*a]\n"),
    "yaml flow": ("m.yaml", "a: " + "[" * 900 + "]" * 900),
    "yaml blocks": ("m.yaml", "a:\n " + "- " * 50_000 + "x\n"),
    "yaml hexadecimal": ("m.yaml", "a: 0x" + "f" * 100_000 + "\n"),
    "yaml tag": ("m.yaml", 'a: !!float ""\n'),
    "yaml truth": ("m.yaml", "a: !!bool x\n"),
    "yaml time": ("m.yaml", "a: !!timestamp x\n"),
    "yaml long text": ("m.yaml", "a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 10_000 + "]\n"),
    "toml deep": ("m.toml", "a = " + "[" * 100_000),
    "toml key": ("m.toml", ".".join("a" * 100_000) + " = 1\n"),
    "toml spaced key": ("m.toml", " . ".join("a" * 100_000) + " = 1\n"),
    "python deep": ("m.py", "a = " + "-" * 50_000 + "1\n"),
    "python sum": ("m.py", "a = " + "+".join("1" * 50_000) + "\nb = 0x" + "f" * 100_000 + "\n"),
    "not text": ("m.yaml", "a: \0\n"),
}
QUICK = settings(
    max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12),
    st.sampled_from([10**400, -(10**30), 1e308, "1e999", "\ud800", "\u2028", "9" * 5000, "-", "!!float", ""]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def readers() -> dict[str, Callable[[bytes], object]]:
    """Each reader, from bytes on; what it refuses it refuses with one of our errors."""

    def text(read: Callable[[str], object]) -> Callable[[bytes], object]:
        return lambda content: read(content.decode(errors="surrogateescape"))

    found: dict[str, Callable[[bytes], object]] = {
        f"values of {suffix}": lambda content, suffix=suffix: flat(content, f"m.{suffix}")
        for suffix in ("json", "yaml", "toml", "py")
    }
    return found | {
        "a parameter set": lambda content: params.update(content, "p.yaml", {"lr": 1}),
        "a curve": lambda content: read_curve(content, CURVE),
        "the pipeline": lambda content: Declared.parse(content, None),
        "the lock": lambda content: Declared.parse(None, content),
        "notes joined": lambda content: _joined(b"{}", content, b'{"status": "crashed"}'),
        "a message": text(Message.parse),
        "what calls cost": text(Spend.parse),
        "a question to the judge": text(lambda line: list(answers([line]))),
        "an agent's output": text(transcript.read),
        "the programme": text(program_file.parse),
    }


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(name: str) -> None:
    path, content = BOMBS[name]
    with pytest.raises(ArError):
        flat(content.encode(), path)
    if path == "m.yaml":
        with pytest.raises(ArError):
            program_file.parse(PROGRAM.format(f"agent: {{fallback: {{}}}}\n{content}"))


def test_an_alias_counts_as_its_copy() -> None:
    assert flat(b"a: &a {lr: 1}\nb:\n  <<: *a\n  n: 2\nc: *a\n", "p.yaml") == {
        "a.lr": 1, "b.lr": 1, "b.n": 2, "c.lr": 1,
    }  # fmt: skip


def test_a_bomb_in_fallback_is_refused_in_few_words() -> None:
    bomb = ALIASES.replace("\n", "\n  ").rstrip()
    with pytest.raises(ArError) as refused:
        program_file.parse(PROGRAM.format(f"agent:\n  kind: claude\n  {bomb}\n  fallback: *a39"))
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    "line", ["agent: {kind: claude, base_url: 'http://['}", f"sandbox: {{memory: {'9' * 400}TB}}"]
)
def test_what_no_setting_can_be_is_refused(line: str) -> None:
    with pytest.raises(ArError):
        program_file.parse(PROGRAM.format(line))


def test_a_seed_beyond_any_number_is_none() -> None:
    assert Message.parse(f"t\n\nAr-Agent: a\nAr-Seed: {'9' * 5000}\n").seed is None


@pytest.mark.parametrize("spend", ['{"input": "x"}', '{"input": -5}', '{"usd": NaN}', "[" * 100_000])
def test_an_account_of_another_clone_never_makes_it_less(project: Path, spend: str) -> None:
    repo = Repo.open(project)
    account.record(repo, "claude", Spend(5))
    repo.append(refs.SPEND, f'x\n\n{{"open": true, "spend": {spend}}}\n')
    assert account.total(repo) == Spend(5)


@pytest.mark.parametrize("name", readers())
def test_any_bytes_end_as_a_value_or_a_refusal(name: str) -> None:
    read = readers()[name]

    @QUICK
    @given(
        st.one_of(
            st.binary(max_size=200),
            st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")),
            VALUES.map(lambda value: json.dumps(value).encode()),
            VALUES.map(lambda value: json.dumps({"lr": value, "stages": {"a": value}}).encode()),
        )
    )
    def fuzz(content: bytes) -> None:
        with contextlib.suppress(ArError, BadData):
            read(content)

    fuzz()
    for _, bomb in BOMBS.values():
        with contextlib.suppress(ArError, BadData):
            read(bomb.encode())


def test_memory_stays_bounded(tmp_path: Path) -> None:
    for name, (path, content) in BOMBS.items():
        (tmp_path / f"{name}.{path}").write_text(content)
    code = (
        "import pathlib, sys\nfrom ar.project.values import flat\nfrom ar.errors import ArError\n"
        "for file in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try: flat(file.read_bytes(), file.name)\n    except ArError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1_000_000_000, 1_000_000_000)),
    )
    assert done.stdout.count("refused") == len(BOMBS), done.stderr[-500:]


@pytest.mark.parametrize("text", ["lr: 1\nm:null\t &m {x: 1}\n", "m: &m {lr: 1}\n<<: *m\n"])
def test_what_another_reader_of_yaml_does_not_take_is_not_set(text: str) -> None:
    with pytest.raises(ArError):
        params.update(text.encode(), "p.yaml", {"lr": 2})


def test_a_file_of_the_cache_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    for md5, size in (("a" * 32, 5), ("b" * 32, 10**12)):
        path = tmp_path / "files" / "md5" / md5[:2] / md5[2:]
        path.parent.mkdir(parents=True)
        with path.open("wb") as stream:
            stream.truncate(size)
    assert Cache(tmp_path).read("a" * 32) == bytes(5)
    assert Cache(tmp_path).read("b" * 32) is None


def test_a_wide_header_does_not_make_each_row_wide() -> None:
    text = "step,loss," + ",".join(map(str, range(20_000))) + "\n" + "1,2\n" * 20_000
    curve = read_curve(text.encode(), CURVE)
    assert curve is not None and set(curve.values) == {2.0}


def test_a_cell_without_an_end_leaves_what_came_before() -> None:
    rows = "step,loss\n" + "".join(f"{i},1\n" for i in range(10))
    assert read_curve(f'{rows}"{"x" * 200_000}'.encode(), CURVE) == read_curve(rows.encode(), CURVE)


@pytest.mark.parametrize("kind", [Process, Plan, Stage, Usage, Requested])
def test_a_record_of_another_process_is_whole_or_none(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "record"

    @QUICK
    @given(st.one_of(VALUES, st.fixed_dictionaries(dict.fromkeys(kind._fields, VALUES))))
    def fuzz(value: Any) -> None:
        path.write_text(json.dumps(value))
        found = files.read(kind, path)
        if isinstance(found, Process):
            assert isinstance(found.pid, int) and found.is_alive in (True, False)
        if isinstance(found, Stage):
            assert isinstance(found.began, float | int)

    fuzz()
    path.write_text(DEEP_JSON)
    assert files.read(kind, path) is None


@QUICK
@given(st.one_of(VALUES, st.fixed_dictionaries(dict.fromkeys(Note.__dataclass_fields__, VALUES))))
def test_a_note_is_whole_or_none(value: Any) -> None:
    from ar.history import reader

    note = reader._note(value)
    if note is not None:
        assert Note.from_json(json.loads(json.dumps(note.to_json()))) == note


def _calls(module: str) -> set[str]:
    return {
        f"{call.func.value.id}.{call.func.attr}"
        for call in ast.walk(TREES[module])
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
    }


# Their files and lines are our own processes', or DVC's; a stage can write to none of them.
READ_THEIR_OWN = {"stage.files", "runs.pool", "runs.worker", "runs.pipeline", "agents.api"}
READ_THEIR_OWN |= {"stage.attack", "runs.self_test"}
READ_THEIR_OWN |= {"stage.printed"}  # within the stage, what its own command prints


def test_bytes_of_others_become_values_in_one_place() -> None:
    readers = {"json.loads", "json.load", "yaml.load", "yaml.safe_load", "tomllib.loads"}
    for module in FILES.keys() - READ_THEIR_OWN - {"formats"}:
        imported = {item.top for item in IMPORTS[module]}
        assert not _calls(module) & readers, module
        assert not imported & {"tomllib"}, module
        assert "csv" not in imported or module in {"views.export", "agents.archive"}, module  # which write it

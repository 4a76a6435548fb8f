"""Training and validation data that have something in common."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from helpers import Ar, commit, run

from ar.git.repo import Repo
from ar.project import overlap
from ar.project.overlap import Kind, Overlap
from ar.project.pipeline_file import Declared
from ar.project.project import Project
from ar.project.splits import Side, side_of, split

LAB = Path(__file__).parents[1]


def rows(count: int, salt: int = 0) -> list[str]:
    luck = random.Random(salt)
    return [f"{luck.random():.12f},{luck.random():.12f},{luck.choice('ab')}" for _ in range(count)]


def declared(*deps: str, outs: str = "") -> Declared:
    named = "".join(f"      - {dep}\n" for dep in deps)
    text = f"stages:\n  fit:\n    cmd: python fit.py\n    deps:\n{named}"
    return Declared.parse((text + (f"    outs:\n      - {outs}\n" if outs else "")).encode(), None)


def write(root: Path, **files: str | bytes | list[str]) -> None:
    """Files by their paths, `__` for a slash and `_` before the ending for the dot."""
    for name, content in files.items():
        stem, _, ending = name.replace("__", "/").rpartition("_")
        path = root / f"{stem}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "\n".join(content) + "\n"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def found(root: Path, *deps: str, seconds: float = 60.0) -> dict[Kind, Overlap]:
    return {one.kind: one for one in overlap.find(root, declared(*(deps or ("data",))), seconds)}


@pytest.mark.parametrize(
    ("path", "side"),
    [
        ("data/train.csv", Side.TRAINING),
        ("data/trainSet_01.jsonl", Side.TRAINING),
        ("data/val.csv", Side.VALIDATION),
        ("data/X_test.npy", Side.VALIDATION),
        ("held_out/a.txt", Side.VALIDATION),
        ("data/train/dev.csv", Side.VALIDATION),
        ("data/test/train-0001.bin", Side.TRAINING),
        ("data/train_val.csv", None),
        ("data/contest.csv", None),
        ("data/values.csv", None),
        ("tests/data/a.csv", None),
        ("data/all.csv", None),
    ],
)
def test_a_path_says_what_its_file_is_for(path: str, side: Side | None) -> None:
    assert side_of(path) is side


def test_the_same_file_on_both_sides_is_found(tmp_path: Path) -> None:
    table = ["a,b,c", *rows(50)]
    write(tmp_path, data__train_csv=table, data__val_csv=table, data__test_csv=["a,b,c", *rows(60, 1)])
    one = found(tmp_path)[Kind.FILE]
    assert (one.training, one.validation) == ("data/train.csv", "data/val.csv")
    assert (one.shared, one.sampled) == (1, 2)
    assert one.is_much


def test_rows_of_both_sides_are_counted_exactly(tmp_path: Path) -> None:
    own, theirs = rows(1000), rows(200, 1)
    both = [*theirs[:180], *own[500:520]]
    write(tmp_path, data__train_csv=["a,b,c", *own], data__val_csv=["a,b,c", *both])
    one = found(tmp_path)[Kind.LINE]
    assert (one.shared, one.sampled) == (20, 200)
    assert (one.training, one.training_place) == ("data/train.csv", 502)
    assert (one.validation, one.validation_place) == ("data/val.csv", 182)
    assert one.share == 0.1
    assert one.is_much


def test_headers_empty_and_short_lines_count_for_nothing(tmp_path: Path) -> None:
    head = "identifier,temperature,pressure,class"
    write(
        tmp_path,
        data__train_csv=[head, *rows(50), "", "1,2", "1,2"],
        data__val_csv=[head, *rows(50, 1), "", "1,2"],
        text__train_txt=["Chapter 1", "* * *", "", "It was a dark and stormy night, and all were asleep."],
        text__val_txt=["Chapter 1", "* * *", "", "The sea was calm that morning, and nobody had slept."],
    )
    lines = found(tmp_path, "data", "text")[Kind.LINE]
    assert (lines.shared, lines.sampled) == (0, 51)


def test_a_few_repeats_are_no_alarm(tmp_path: Path) -> None:
    own, theirs = rows(1000), rows(999, 1)
    write(tmp_path, data__train_jsonl=own, data__val_jsonl=[*theirs, own[7]])
    one = found(tmp_path)[Kind.LINE]
    assert one.shared == 1
    assert not one.is_much


def test_of_large_files_a_sample_tells_the_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "SAMPLE", 500)
    own, theirs = rows(20_000), rows(8_000, 1)
    write(tmp_path, data__train_csv=["h", *own], data__val_csv=["h", *theirs, *own[:2000]])
    one = found(tmp_path)[Kind.LINE]
    assert 100 < one.sampled <= 500
    assert one.share == pytest.approx(0.2, abs=0.08)


def test_arrays_are_compared_row_by_row(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    luck = np.random.default_rng(1)
    train, val = luck.normal(size=(300, 4, 4)), luck.normal(size=(100, 4, 4))
    val[40:50] = train[100:110]
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "x_train.npy", train)
    np.save(tmp_path / "data" / "x_val.npy", val)
    np.save(tmp_path / "data" / "y_train.npy", np.repeat(np.arange(3), 100))
    np.save(tmp_path / "data" / "y_val.npy", np.repeat(np.arange(3), 33))
    one = found(tmp_path)[Kind.BLOCK]
    assert (one.shared, one.sampled) == (10, 100)
    assert (one.training, one.training_place) == ("data/x_train.npy", 101)
    assert (one.validation, one.validation_place) == ("data/x_val.npy", 41)


def test_blocks_of_zeros_say_nothing(tmp_path: Path) -> None:
    luck = random.Random(1)
    write(
        tmp_path,
        data__train_bin=luck.randbytes(5120) + bytes(5120),
        data__val_bin=luck.randbytes(2048) + bytes(5120),
    )
    assert found(tmp_path)[Kind.BLOCK] == Overlap(Kind.BLOCK, 4)


def test_where_no_path_tells_the_sides_apart_nothing_is_said(tmp_path: Path) -> None:
    table = rows(50)
    write(tmp_path, data__a_csv=table, data__b_csv=table, data__train_py="import numpy", data__val_py="x")
    assert found(tmp_path) == {}


def test_what_both_sides_have_by_its_nature_is_no_alarm(tmp_path: Path) -> None:
    classes = [f"a class with the number {number}, and a long name" for number in range(50)]
    write(
        tmp_path,
        data__train__classes_txt=classes,
        data__val__classes_txt=classes,
        data__train__a_csv=["h", *rows(20)],
        data__val__a_csv=["h", *rows(20, 1)],
    )
    assert {one.shared for one in found(tmp_path).values()} == {0}


def test_metrics_and_curves_are_no_data(tmp_path: Path) -> None:
    text = b"""
stages:
  fit:
    cmd: python fit.py
    deps: [fit.py]
    metrics: [val.jsonl]
    plots: [train.jsonl]
"""
    write(tmp_path, train_jsonl=rows(50), val_jsonl=rows(50))
    assert overlap.find(tmp_path, Declared.parse(text, None)) == []


# -- hostile -----------------------------------------------------------------------------------------------


def test_pipes_links_and_what_lies_outside_are_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "project"
    table = ["h", *rows(50)]
    write(tmp_path, secret_csv=table, beside__val_csv=table)
    write(root, data__train_csv=table)
    os.mkfifo(root / "data" / "val.csv")
    (root / "data" / "test.csv").symlink_to(tmp_path / "secret.csv")
    (root / "data" / "holdout.csv").symlink_to("/dev/zero")
    (root / "data" / "eval.csv").symlink_to("eval.csv")
    (root / "data" / "dev").symlink_to(tmp_path)
    (root / "all").symlink_to("/")
    began = time.monotonic()
    assert found(root, "data", "../beside", f"{tmp_path}/beside", "data/dev", "all/usr", "x" * 5000) == {}
    assert time.monotonic() - began < 30
    files = split(root, declared("data"), time.monotonic() + 30)
    assert [file.path for file in files[Side.TRAINING]] == ["data/train.csv"]


def test_a_cache_that_is_said_to_be_anywhere_opens_nothing(tmp_path: Path) -> None:
    root = tmp_path / "project"
    table = ["h", *rows(50)]
    write(tmp_path, secret_csv=table)
    write(root, data__train_csv=table)
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text(f"[cache]\ndir = {tmp_path}\n")
    (root / "data" / "val.csv").symlink_to(tmp_path / "secret.csv")
    assert found(root) == {}


def test_a_line_without_end_costs_no_memory_and_hides_nothing(tmp_path: Path) -> None:
    own = rows(50)
    long = b"x" * 10_000_000
    write(
        tmp_path,
        data__train_jsonl="\n".join(own).encode() + b"\n" + long + b"\n" + b"\xff\x00" * 20 + b"\n",
        data__val_jsonl=long + b"\n" + own[3].encode() + b"\n" + long,
    )
    one = found(tmp_path)[Kind.LINE]
    assert (one.shared, one.sampled) == (1, 1)
    assert (one.validation_place, one.training_place) == (2, 4)


@pytest.mark.parametrize(
    "header",
    [
        b"\x93NUMPY\x01\x00\x40\x00{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{",
        b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16,
        b"\x93NUMPY\x01\x00\x50\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3, -5, 'x')}",
        b"\x93NUMPY",
        b"\x80\x04\x95pickle",
    ],
)
def test_an_array_of_objects_or_none_at_all_is_passed_over(tmp_path: Path, header: bytes) -> None:
    body = header + random.Random(1).randbytes(5000)
    write(tmp_path, data__train_npy=body + b"a", data__val_npy=body + b"bc")
    assert Kind.BLOCK not in found(tmp_path)


def test_it_ends_in_time_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, data__train_csv=rows(200_000), data__val_csv=rows(200_000, 1))
    for one in found(tmp_path, seconds=0.02).values():
        assert one.partly or one.kind is Kind.FILE


# -- as users see it ---------------------------------------------------------------------------------------


def test_data_that_only_the_cache_has_are_compared(bare: Path) -> None:
    write(bare, data__train_csv=["h", *rows(50)], data__val_csv=["h", *rows(30, 1), *rows(5)])
    text = (bare / "dvc.yaml").read_text().replace("deps: [fit.awk]", "deps: [fit.awk, data]")
    (bare / "dvc.yaml").write_text(text)
    run(bare, "dvc", "add", "-q", "data")
    run(bare, "dvc", "repro", "-q")
    commit(bare, "Add data")
    repo = Repo.open(bare)
    lines = {one.kind: one for one in overlap.find(bare, Declared.read(repo, repo.head()), 60)}[Kind.LINE]
    run(bare, "rm", "-r", "data")
    assert {one.kind: one for one in overlap.find(bare, Declared.read(repo, repo.head()), 60)}[
        Kind.LINE
    ] == lines
    assert lines.shared == 5


def test_doctor_names_the_files_and_the_lines(measured: Path, ar: Ar) -> None:
    assert "overlap" not in ar(measured, "doctor").stdout
    write(measured, data__train_csv=["h", *rows(50)], data__val_csv=["h", *rows(30, 1), *rows(5)])
    text = (measured / "dvc.yaml").read_text().replace("deps: [fit.awk]", "deps: [fit.awk, data]")
    (measured / "dvc.yaml").write_text(text)
    commit(measured, "Add data")
    out = " ".join(ar(measured, "doctor", check=False).stdout.split())
    assert "! overlap" in out
    assert "line 32 of data/val.csv is line 2 of data/train.csv" in out


def test_the_lab_s_own_data_are_no_alarm() -> None:
    project = Project.open(LAB)
    found = Declared.read(project.repo, project.repo.head())
    assert all(not one.shared for one in overlap.find(LAB, found))

"""Corpus to shards: splits by text, bytes per token, sources, and clear refusals."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from data.errors import LabError
from data.prepare import prepare, write_shards
from data.settings import DataSettings, data_settings, load
from data.shards import Manifest, read_split, read_token_bytes, split_of
from data.sources import TextFiles, stdlib
from data.tokenizer import Tokenizer
from tests.lab.conftest import ROOT, Lab

WORDS = ("the", "quick", "brown", "fox", "jumps", "naïve", "café", "owners", "say", "π", "≈", "3.14159")


def texts(count: int) -> list[str]:
    """Different short documents."""
    rng = random.Random(1)
    return [" ".join(rng.choices(WORDS, k=60)) + f" {index}" for index in range(count)]


class Listed:
    """A source with given documents."""

    def __init__(self, documents: list[str]) -> None:
        self.description = {"kind": "listed"}
        self.documents = lambda: iter(documents)


def settings(**changes: object) -> DataSettings:
    """Default data settings, changed."""
    params = load(ROOT / "params.yaml")
    params["data"].update({"vocab_size": 300, "val_fraction": 0.2, "test_fraction": 0.2, **changes})
    return data_settings(params)


def documents_of(folder: Path, manifest: Manifest, split: str) -> list[tuple[int, ...]]:
    """The split's documents as token tuples, sorted."""
    ids = np.asarray(read_split(folder, manifest, split)).tolist()
    starts = [i for i, token in enumerate(ids) if token == manifest.separator] + [len(ids)]
    return sorted(tuple(ids[a:b]) for a, b in pairwise(starts))


def test_no_split_depends_on_order(tmp_path: Path) -> None:
    documents = texts(60)
    tokenizer = Tokenizer.train(documents, 300)
    made = []
    for index in range(2):
        folder = tmp_path / str(index)
        folder.mkdir()
        manifest = write_shards(Listed(documents), settings(), tokenizer, folder)
        made.append((manifest, [documents_of(folder, manifest, split) for split in manifest.splits]))
        random.Random(index).shuffle(documents)
    assert made[0][1] == made[1][1]
    assert made[0][0].corpus_sha256 == made[1][0].corpus_sha256
    assert made[0][0].splits == made[1][0].splits


def test_equal_documents_share_a_split_and_shares_are_kept() -> None:
    splits = [split_of(text, 0.1, 0.2) for text in texts(4000)]
    assert splits == [split_of(text, 0.1, 0.2) for text in texts(4000)]
    assert splits.count("val") / 4000 == pytest.approx(0.1, abs=0.02)
    assert splits.count("test") / 4000 == pytest.approx(0.2, abs=0.03)


def test_token_bytes_add_up_to_the_text(tmp_path: Path) -> None:
    manifest = write_shards(Listed(texts(60)), settings(), Tokenizer.train(texts(60), 300), tmp_path)
    weights = read_token_bytes(tmp_path)
    assert weights.shape == (300,)
    assert weights[manifest.separator] == 0
    for name, split in manifest.splits.items():
        ids = read_split(tmp_path, manifest, name)
        assert len(ids) == split.tokens
        assert int(weights[ids].sum()) == split.bytes


def test_tokenizer_round_trip(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(texts(30), 300)
    tokenizer.save(tmp_path / "t.json")
    loaded = Tokenizer.load(tmp_path / "t.json")
    text = "naïve fox\n\tπ 2024 <|bos|>"
    (ids,) = loaded.encode([text])
    assert ids == tokenizer.encode([text])[0]
    assert ids[0] == loaded.separator
    assert loaded.separator not in ids[1:]
    assert b"".join(loaded.tokens[token] for token in ids[1:]).decode() == text
    with pytest.raises(LabError, match=r"data.vocab_size is 5000, but the corpus yields only \d+ tokens"):
        Tokenizer.train(["a short text"], 5000)


def test_the_standard_library_is_a_corpus() -> None:
    source = stdlib()
    assert isinstance(source, TextFiles)
    names = {path.name for path in source.paths}
    assert {"argparse.py", "typing.py"} <= names
    assert not any("test" in path.parts or "encodings" in path.parts for path in source.paths)
    assert len(source.paths) > 300


def test_the_standard_librarys_links_to_the_machines_settings_are_no_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ast.py").write_text("pass\n")
    (tmp_path / "sitecustomize.py").symlink_to(tmp_path / "hidden" / "sitecustomize.py")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert stdlib().paths == [tmp_path / "ast.py"]


def test_prepare_twice_gives_the_same_files(prepared: Lab, bare: Lab) -> None:
    (bare.root / "corpus").symlink_to(prepared.root / "corpus")
    assert bare.run("data.prepare").returncode == 0
    shards = prepared.root / "data/shards"
    for path in shards.iterdir():
        assert path.read_bytes() == (bare.root / "data/shards" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "web"}, "data.source must be stdlib, files or parquet, not 'web'"),
        ({"vocab_size": 100}, "data.vocab_size must be at least 257"),
        ({"vocab": 512}, "unknown key data.vocab; did you mean data.vocab_size?"),
        ({"files": []}, "data.files lists no glob pattern"),
        ({"files": ["nowhere/*"]}, "data.files: no file matches 'nowhere/*'"),
        ({"files": ["bad.txt"]}, "bad.txt: not UTF-8 text"),
        ({"files": ["one.txt"], "vocab_size": 257}, "split is empty"),
        ({"source": "parquet", "parquet": [{"path": "x"}]}, "data.parquet: expected a path, a URL"),
        ({"source": "parquet", "parquet": ["x.parquet"]}, "data.parquet: x.parquet is not a file"),
        ({"source": "parquet", "parquet": ["one.txt"]}, "one.txt: cannot be read as parquet"),
    ],
)
def test_refusals_are_one_line_and_leave_the_old_shards(
    bare: Lab,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    message: str,
) -> None:
    from data.prepare import main

    monkeypatch.chdir(bare.root)
    (bare.root / "bad.txt").write_bytes(b"\xff\xfe\x00")
    (bare.root / "one.txt").write_text("the only document")
    (bare.root / "data/shards").mkdir()
    (bare.root / "data/shards/old").write_text("old")
    bare.set(data=changes)
    assert main() == 2
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1]
    assert "Traceback" not in "".join(lines)
    assert [path.name for path in (bare.root / "data/shards").iterdir()] == ["old"]
    assert not list((bare.root / "data").glob(".shards-*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [(": :\n\t-", "not valid YAML"), ("[1]", "must be a mapping"), ("seed: 1\n", "group `data` is missing")],
)
def test_broken_settings(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(LabError, match="No such file"):
        load(path)
    path.write_text(text)
    with pytest.raises(LabError, match=message):
        load(path)


def test_a_large_vocabulary_takes_wider_ids(tmp_path: Path) -> None:
    tokenizer = Tokenizer([*(bytes([i]) for i in range(256)), *(i.to_bytes(3, "big") for i in range(66000))])
    manifest = write_shards(Listed(texts(60)), settings(), tokenizer, tmp_path)
    assert manifest.dtype == "uint32"
    assert int(read_split(tmp_path, manifest, "train").max()) == 66256


def test_the_pipeline_depends_on_every_file_of_the_task() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    files = {f"data/{path.name}" for path in (ROOT / "data").glob("*.py")} - {"data/__init__.py"}
    listed = {dep for stage in stages.values() for dep in stage["deps"]}
    assert files <= listed
    assert files - set(stages["train"]["deps"]) == {"data/prepare.py", "data/tokenizer.py"}


def test_prepare_makes_the_folder_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for index, text in enumerate(texts(40)):
        (corpus / f"{index}.txt").write_text(text)
    manifest = prepare(settings(source="files", files=["corpus/*.txt"]), tmp_path / "shards", tmp_path / "d")
    loaded = Manifest.load(tmp_path / "shards")
    assert loaded == manifest
    loaded.verify(tmp_path / "shards")
    assert loaded.corpus.startswith("files-")

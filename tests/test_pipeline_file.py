"""What `dvc.yaml` and `dvc.lock` declare is found where DVC finds it, with any `wdir` and `cache.dir`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from helpers import Ar, run

from ar.changes import integrity
from ar.git.repo import Repo
from ar.history import reader, time_to_target
from ar.project.cache import Cache
from ar.project.pipeline_file import Declared
from ar.project.project import Project

SUB_PIPELINE = """\
stages:
  fit:
    wdir: sub
    cmd: awk -f fit.awk params.yaml; awk 'BEGIN {print "t,loss"; for (t = 9; t; t--) print 9-t "," t}' >l.csv
    deps: [fit.awk, ../data.txt]
    params: [x, y, seed]
    metrics:
    - m.json
    - c.yaml: {cache: false}
    plots: [l.csv]
"""
SUB_PROGRAM = """\
---
objective: {metric: "sub/m.json:val_loss"}
guards: ["sub/c.yaml:cost"]
seed: "sub/params.yaml:seed"
scope: {files: [sub/fit.awk], params: ["sub/params.yaml:x"]}
search: {"sub/params.yaml:x": {low: 2.0, high: 4.0}}
curve: {file: sub/l.csv, value: loss, against: [t]}
---
"""


def test_what_is_declared_is_read_from_pipeline_and_lock() -> None:
    pipeline = b"""
stages:
  prepare:
    cmd: x
    outs: [data/shards, {data/more: {cache: false}}]
  train:
    foreach: [1, 2]
    do:
      cmd: y
      params: [lr, conf.json: [a]]
      metrics: [{m.json: {cache: false}}]
      plots: ["${where}/loss.csv"]
metrics: [top.yaml]
"""
    lock = b"stages:\n  train@1:\n    outs: [{path: out/loss.csv, md5: abc}]\n"
    found = Declared.parse(pipeline, lock)
    assert found.stages == ("prepare", "train")
    assert found.outputs == {"data/shards", "data/more", "m.json", "out/loss.csv"}
    assert found.metrics == ("m.json", "top.yaml")
    assert found.params == ("params.yaml", "conf.json")
    assert Declared.parse(None, None).stages == ()
    assert Declared.parse(b"- broken", b"{").stages == ()


def test_paths_of_a_stage_start_at_its_wdir() -> None:
    pipeline = b"""
stages:
  one:
    wdir: a/b
    cmd: x
    deps: [in.txt, ../../data]
    params: [lr, ../p.json: [k], q.yaml: null]
    outs: [model: {cache: false}]
    metrics: [m.json]
    plots: [l.csv]
  each:
    foreach: [u, v]
    do:
      wdir: each/${item}
      cmd: x
      metrics: [m.json]
  grid:
    wdir: grid
    matrix: {size: [1, 2]}
    cmd: x
    outs: [o.txt]
"""
    lock = b"""
stages:
  one:
    deps: [{path: in.txt, md5: abc}]
    outs: [{path: m.json, hash: md5, md5: def}, {path: old, md5: "0"}]
    params: {params.yaml: {lr: 1}}
  each@u: {outs: [{path: m.json, hash: md5, md5: "12"}]}
  grid@1: {outs: [{path: o.txt, hash: md5, md5: "34"}]}
"""
    found = Declared.parse(pipeline, lock)
    assert found.inputs == ("a/b/in.txt", "data")
    assert found.params == ("a/b/params.yaml", "a/p.json", "a/b/q.yaml")
    assert found.metrics == ("a/b/m.json",)
    assert found.plots == ("a/b/l.csv",)
    assert {"a/b/model", "each/u/m.json", "grid/o.txt"} < found.outputs
    assert found.cached == {"a/b/m.json", "a/b/l.csv", "grid/o.txt"}
    assert found.locked["one"].params == {"a/b/params.yaml": {"lr": 1}}
    assert found.locked["one"].deps == {"a/b/in.txt": "abc"}
    assert [found.md5(path) for path in ("a/b/m.json", "each/u/m.json", "a/b/old", "x")] == [
        "def",
        "12",
        "",
        "",
    ]


@pytest.fixture
def in_sub(bare: Path) -> Path:
    """A project whose one stage works in a folder of its own, with metric and curve in DVC's cache."""
    (bare / "sub").mkdir()
    for name in ("fit.awk", "params.yaml"):
        shutil.move(bare / name, bare / "sub" / name)
    for name in ("m.json", "c.yaml", "dvc.lock"):
        (bare / name).unlink()
    (bare / "data.txt").write_text("data\n")
    (bare / "dvc.yaml").write_text(SUB_PIPELINE)
    (bare / "program.md").write_text(SUB_PROGRAM)
    run(bare, "dvc", "repro", "-q")
    run(bare, "git", "add", "-A")
    run(bare, "git", "commit", "-qm", "Work in a folder")
    return bare


def test_a_campaign_of_a_stage_with_a_wdir(in_sub: Path, ar: Ar) -> None:
    ar(in_sub, "next")
    ar(in_sub, "run", "-n", "1", "--plain")
    project = Project.open(in_sub)
    history = reader.read(project)
    assert history.first
    assert len({run.metrics["sub/m.json:val_loss"] for run in history.first.experiments}) > 1
    changed = [attempt for attempt in history.attempts if not attempt.is_baseline]
    assert changed
    assert all(attempt.value is not None for attempt in changed)
    assert {attempt.first.params["sub/params.yaml:x"] for attempt in changed}.isdisjoint({1.5})
    assert [integrity.flaw(project, history, attempt) for attempt in changed] == [""] * len(changed)
    assert time_to_target.scales(project, history)[""][0].attempt == history.first
    assert "sub/m.json:val_loss" in ar(in_sub, "init", "--print").stdout


def test_metrics_are_read_from_the_cache_that_is_configured(bare: Path) -> None:
    run(bare, "dvc", "config", "--local", "cache.dir", "../shared")
    pipeline = bare / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("m.json: {cache: false}", "m.json"))
    run(bare, "git", "rm", "-q", "--cached", "m.json")
    run(bare, "dvc", "repro", "-q", "--force")
    run(bare, "git", "add", "-A")
    run(bare, "git", "commit", "-qm", "Cache the metric")
    repo = Repo.open(bare)
    value = json.loads((bare / "m.json").read_text())["val_loss"]
    assert (bare.parent / "shared").is_dir()
    found = reader.metric_values(repo, [repo.head()], ["m.json", "c.yaml"])
    assert found == [{"m.json:val_loss": value, "c.yaml:cost": 1.0}]


def test_the_cache_is_where_dvc_says(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / "system/config", tmp_path / "global/config"]
    files += [bare / ".dvc/config", bare / ".dvc/config.local"]
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(files[0].parent))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(files[1].parent))
    assert Cache.of(bare).folder == bare / ".dvc" / "cache"
    for file, folder in zip(files, ("~/sys", "../per user", "../../c", "/abs"), strict=True):
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"[Cache]\n    DIR = {folder}\n['remote \"r\"']\n    url = s3://x\n")
        place = Path(folder).expanduser() if folder.startswith("~") else file.parent / folder
        assert Cache.of(bare).folder == Path(os.path.normpath(place))
        if file == files[2]:
            assert str(Cache.of(bare).folder) == run(bare, "dvc", "cache", "dir").stdout.strip()
    files[3].write_text("no settings [")
    assert Cache.of(bare).folder == tmp_path / "c"

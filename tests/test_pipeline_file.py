"""What `dvc.yaml` and `dvc.lock` declare is found where DVC finds it, with any `wdir` and `cache.dir`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import foreign
import pytest
from helpers import PROGRAM, Ar, commit, edit, run, run_next, runs_of

from ar.changes import integrity
from ar.git.repo import Repo
from ar.history import reader, tracks
from ar.history.records import History
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
FROZEN_DIFF = """\
--- a/fit.awk
+++ b/fit.awk
@@ -1,2 +1,3 @@
+# what the frozen stage depends on, changed
 # params.yaml in, metrics out: a bowl whose floor lies at x = 3, y = 0.1, with a little noise from the seed.
 /^x:/ {x = $2}
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
    assert found.metrics == ("a/b/m.json", "each/u/m.json", "each/v/m.json")
    assert found.plots == ("a/b/l.csv",)
    assert {"a/b/model", "each/u/m.json", "grid/o.txt"} < found.outputs
    assert found.cached == {*found.metrics, "a/b/l.csv", "grid/o.txt"}
    assert found.locked["one"].params == {"a/b/params.yaml": {"lr": 1}}
    assert found.locked["one"].deps == {"a/b/in.txt": "abc"}
    assert [found.md5(path) for path in ("a/b/m.json", "each/u/m.json", "a/b/old", "x")] == [
        "def",
        "12",
        "",
        "",
    ]


def test_templates_are_resolved_from_vars_and_parameters() -> None:
    pipeline = b"""
vars: [conf.toml, "more.json:where", {deep: {list: [a, b]}}]
stages:
  fit:
    matrix: {size: "${sizes}", opt: [{x: 1}, {x: 2}]}
    wdir: ${where}
    cmd: fit ${item.size} ${item.opt.x}
    outs: ["${name}-${key}.txt"]
  each:
    foreach: {u: {n: 1}, v: {n: 2}}
    do:
      vars: [own.yaml]
      cmd: x ${item.n} ${key} ${own} ${unknown}
      metrics: ["${deep.list[1]}/${key}.json", "${unknown}.json"]
  late:
    foreach: ${unknown}
    do: {cmd: z, outs: [fixed]}
"""
    files = (
        ("ml/params.yaml", b"name: part\n"),
        ("ml/conf.toml", b'sizes = ["s", "m"]\n'),
        ("ml/more.json", b'{"where": "code", "other": 1}'),
        ("ml/own.yaml", b"own: true\n"),
    )
    lock = b"stages: {fit@s-opt1: {outs: [{path: part-s-opt1.txt, hash: md5, md5: abc}]}}"
    found = Declared.parse(pipeline, lock, "ml", files)
    assert found.stages == ("ml/dvc.yaml:fit", "ml/dvc.yaml:each", "ml/dvc.yaml:late")
    assert found.commands[:2] == (("ml/code", "fit s 1"), ("ml/code", "fit s 2"))
    assert ("ml", "x 2 v true ${unknown}") in found.commands
    assert found.metrics == ("ml/b/u.json", "ml/b/v.json")
    grid = {f"ml/code/part-{size}-opt{at}.txt" for size in "sm" for at in (0, 1)}
    assert found.outputs == {*grid, *found.metrics, "ml/fixed"}
    assert found.md5("ml/code/part-s-opt1.txt") == "abc"
    assert found.making(["ml/b/u.json"]) == ["ml/dvc.yaml"]


def test_templates_resolve_as_dvc_resolves_them(tmp_path: Path, isolated_home: Path) -> None:
    root = foreign.subfolder(tmp_path / "project")
    found = Declared.read(Repo.open(root), "HEAD")
    stages = run(root, "dvc", "stage", "list", "--all", "--name-only").stdout.split()
    assert sorted(found.locked) == sorted(stages)
    files = run(root, "dvc", "ls", ".", "-R", "--dvc-only").stdout.split()
    assert sorted(found.outputs) == sorted(files)
    repo = Repo.open(root)
    assert Declared.read(repo, repo.write_tree("HEAD", {"ml/dvc.lock": None})).outputs == found.outputs


def assert_one_succeeded(root: Path) -> History:
    """The only run of a project did, and no flaw is found in it."""
    (run_,) = runs_of(root).values()
    assert run_["status"] == "succeeded", run_["reason"]
    project = Project.open(root)
    history = reader.read(project)
    assert [integrity.flaw(project, history, attempt) for attempt in history.attempts] == [""]
    return history


def test_a_frozen_stage_and_what_lies_outside_the_project(bare: Path, tmp_path: Path, ar: Ar) -> None:
    """DVC does not run the frozen stage, so that what it has of it must stay, whatever the change."""
    (tmp_path / "far.txt").write_text("from afar\n")
    frozen = f"""\
stages:
  prepare:
    frozen: true
    cmd: cp {tmp_path}/far.txt here.txt && sed -n 1p params.yaml >> here.txt
    deps: [{tmp_path}/far.txt, fit.awk]
    params: [x]
    outs: [here.txt]
"""
    edit(bare / "dvc.yaml", "stages:\n", frozen.replace("    frozen: true\n", ""))
    edit(bare / "dvc.yaml", "deps: [fit.awk]", f"deps: [fit.awk, here.txt, {tmp_path}/far.txt]")
    edit(bare / "dvc.yaml", "cmd: awk -f", f"cmd: test -s {tmp_path}/far.txt && test -s here.txt && awk -f")
    run(bare, "dvc", "repro", "-q")
    edit(bare / "dvc.yaml", "  prepare:\n", "  prepare:\n    frozen: true\n")
    (bare / "program.md").write_text(PROGRAM)
    commit(bare, "Freeze what takes long")
    ar(bare, "next", "--set", "x=3", "--diff", "-", input=FROZEN_DIFF)
    run_next(bare)
    assert_one_succeeded(bare)


def test_a_dependency_may_lie_beside_the_repository_or_be_hidden_from_dvc(
    template: Path, tmp_path: Path, ar: Ar
) -> None:
    """DVC takes `../x`, and what `.dvcignore` lists where a stage names it."""
    root = tmp_path / "team" / "project"
    shutil.copytree(template, root, symlinks=True)
    (tmp_path / "team" / "beside").mkdir()
    (tmp_path / "team" / "beside" / "far.txt").write_text("from afar\n")
    (tmp_path / "above.txt").write_text("from above\n")
    (root / "hidden.txt").write_text("hidden\n")
    (root / ".dvcignore").write_text("hidden.txt\n")
    edit(root / "dvc.yaml", "deps: [fit.awk]", "deps: [fit.awk, ../beside, ../../above.txt, hidden.txt]")
    edit(root / "dvc.yaml", "cmd: awk -f", "cmd: cat ../beside/far.txt ../../above.txt hidden.txt && awk -f")
    run(root, "dvc", "repro", "-q")
    (root / "program.md").write_text(PROGRAM)
    commit(root, "Read what lies outside")
    ar(root, "next", "--set", "x=3")
    run_next(root)
    history = assert_one_succeeded(root)
    assert not list((root / ".dvc" / "tmp" / "ar" / "exps").glob("*"))
    rev = history.attempts[0].first.rev
    run(root, "git", "checkout", "-q", rev)
    assert "up to date" in run(root, "dvc", "status").stdout
    run(root, "git", "checkout", "-q", "main")
    (tmp_path / "above.txt").unlink()
    ar(root, "next", "--set", "x=2.5")
    run_next(root)
    assert any("../../above.txt, a dependency" in one["reason"] for one in runs_of(root).values())


@pytest.mark.parametrize("where", ["stage", "top"])
def test_a_metric_in_a_folder_that_dvc_caches_is_read(bare: Path, ar: Ar, where: str) -> None:
    pipeline = (bare / "dvc.yaml").read_text()
    start = pipeline.index("    metrics:")
    pipeline = pipeline[:start].replace(
        "awk -f fit.awk params.yaml",
        "awk -f fit.awk params.yaml && mkdir -p eval/deep && mv m.json c.yaml eval/deep",
    )
    (bare / "dvc.yaml").write_text(
        pipeline + "    outs: [eval]\nmetrics: [eval/deep/m.json, eval/deep/c.yaml]\n"
    )
    (bare / "program.md").write_text(
        PROGRAM.replace("m.json", "eval/deep/m.json").replace("c.yaml", "eval/deep/c.yaml")
    )
    run(bare, "git", "rm", "-q", "m.json", "c.yaml", "dvc.lock")
    run(bare, "dvc", "repro", "-q")
    commit(bare, "Keep the metrics in a folder")
    ar(bare, "next", "--set", "x=3")
    run_next(bare)
    (run_,) = runs_of(bare).values()
    assert run_["status"] == "succeeded"
    assert set(run_["metrics"]) == {"eval/deep/m.json:val_loss", "eval/deep/c.yaml:cost"}
    project = Project.open(bare)
    history = reader.read(project)
    assert [integrity.flaw(project, history, attempt) for attempt in history.attempts] == [""]


def test_a_metric_that_no_stage_writes_is_said_to_be_so(project: Path, ar: Ar) -> None:
    edit(project / "program.md", "c.yaml:cost", "d.yaml:cost")
    ar(project, "next", "--set", "x=3")
    run_next(project)
    (run_,) = runs_of(project).values()
    assert run_["status"] == "crashed"
    assert "no stage wrote d.yaml" in run_["reason"]


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


@pytest.mark.slow
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
    assert tracks.scales(project, history)[""][0].attempt == history.first
    assert "sub/m.json:val_loss" in ar(in_sub, "init", "--dry-run").stdout


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

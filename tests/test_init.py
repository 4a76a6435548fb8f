"""`ar init` in a folder with a script: what it makes, what it leaves alone, and that it is enough."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers import Ar, attempts_of, git, run, typed

from ar.campaign.beginning import BIG, Plan, Wish, begin, plan
from ar.errors import ArError, BadProgram, BadState
from ar.project.first_stage import Unnamed, likely_command
from ar.project.folder import Folder
from ar.project.pipeline_file import Declared
from ar.project.program import Program
from ar.project.program_file import load, parse
from ar.project.source import read
from ar.project.values import flat

TRAIN = """\
import math
import random
from parts import hill

LR = 0.01  # step size
DEPTH = 3
SEED = 42
EPOCHS = 5

random.seed(SEED)
loss = (math.log(LR) - math.log(0.05)) ** 2 + hill(DEPTH) + random.gauss(0, 0.001)
print("---")
print(f"val_loss:       {loss:.6f}")
print(f"total_seconds:  {0.1:.1f}")
"""
PARTS = "def hill(depth):\n    return abs(depth - 5) * 0.1\n"
INIT = ("init", "--yes")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a script and a module of its own; no git, no DVC."""
    made = tmp_path / "work"
    made.mkdir()
    fill(made, {"train.py": TRAIN, "parts.py": PARTS, "notes.txt": "mine"})
    return made


def fill(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def init(folder: Path, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`ar init` of a user who has allowed nothing."""
    return run(folder, sys.executable, "-m", "ar", "init", *args, check=check)


def state(root: Path) -> dict[str, bytes]:
    """Every file and its content, whoever keeps it."""
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def committed(root: Path) -> set[str]:
    return set(git(root, "show", "--name-only", "--format=", "HEAD").split())


def improved(root: Path, ar: Ar, tries: int, *args: str) -> Program:
    """The programme after the two commands that take a script to a promoted change."""
    init(root, "--yes", *args)
    run(root, sys.executable, "-m", "ar", "run", "-n", str(tries), "--plain")
    outcomes = [attempt["outcome"] for attempt in attempts_of(root)]
    assert "promoted" in outcomes
    assert {"crashed", "tampered"}.isdisjoint(outcomes)
    return load(root)


def planned(folder: Path, *metrics: str, run: str = "python train.py", seed_flag: str = "") -> Plan:
    return plan(folder, Wish(run, metrics, seed_flag))


def command(made: Plan) -> str:
    """What the stage runs."""
    ((_, line),) = Declared.parse(made.files["dvc.yaml"].encode(), None).commands
    return line


def test_a_script_becomes_a_campaign_with_one_measured_run(folder: Path) -> None:
    init(folder, "--yes")
    ours = {".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml", "program.md"}
    assert committed(folder) == {*ours, "train.py", "parts.py"}
    assert git(folder, "status", "--porcelain") == "?? notes.txt"
    declared = Declared.parse((folder / "dvc.yaml").read_bytes(), None)
    assert declared.inputs == ("train.py", "parts.py")
    assert declared.commands == ((".", "ar capture -m val_loss -- python train.py"),)
    program = load(folder)
    assert (str(program.objective), program.objective.direction) == ("metrics.json:val_loss", "minimize")
    assert str(program.seed) == "train.py:SEED"
    assert set(map(str, program.search)) == {"train.py:LR", "train.py:DEPTH"}
    (baseline,) = attempts_of(folder)
    assert [one["status"] for one in baseline["experiments"]] == ["succeeded"]
    assert "metrics.json" not in {path.name for path in folder.iterdir()}  # it ran elsewhere


def test_from_a_script_to_a_promoted_change_in_two_commands(folder: Path, ar: Ar) -> None:
    improved(folder, ar, 4)
    assert (folder / "train.py").read_text() != TRAIN
    assert git(folder, "status", "--porcelain") == "?? notes.txt"


def test_a_dry_run_writes_nothing_and_shows_all_of_it(folder: Path) -> None:
    before = state(folder)
    shown = init(folder, "--dry-run").stdout
    assert state(folder) == before
    init(folder, "--yes")
    for path in committed(folder) - {"train.py", "parts.py"}:
        assert f"# {path}:\n{(folder / path).read_text()}" in shown
    assert "$ git init" in shown


def test_an_answer_of_no_leaves_the_folder_alone(folder: Path) -> None:
    before = state(folder)
    assert run(folder, sys.executable, "-m", "ar", "init", check=False, input="n\n").returncode == 130
    assert state(folder) == before


@pytest.mark.parametrize("name", ["params.yaml", "program.md", "dvc.yaml"])
def test_nothing_is_ever_overwritten(folder: Path, name: str) -> None:
    content = "---\nobjective: m.json:x\n---\n" if name == "program.md" else "# mine\n"
    (folder / name).write_text(content)
    before = state(folder)
    done = init(
        folder, "--yes", "--run", "python train.py --lr 0.1", "--seed-flag", "--seed {seed}", check=False
    )
    assert done.returncode == 2
    assert state(folder) == before


def test_other_work_of_the_users_is_not_committed(folder: Path) -> None:
    """Staged files stay staged, changed ones changed; of `.gitignore` nothing but what was there is kept."""
    run(folder, "git", "init", "-q")
    fill(folder, {"old.txt": "1", ".gitignore": "*.log\n", "staged.txt": "a", "x.log": ""})
    run(folder, "git", "add", "old.txt", ".gitignore", "train.py", "parts.py")
    run(folder, "git", "commit", "-qm", "Mine")
    run(folder, "git", "add", "staged.txt")
    fill(folder, {"old.txt": "2", ".gitignore": "*.log\n*.tmp\n"})
    init(folder, "--yes")
    assert committed(folder) == {".dvc/config", ".dvc/.gitignore", ".dvcignore", "dvc.yaml", "program.md"}
    status = git(folder, "status", "--porcelain").splitlines()
    assert sorted(line.strip() for line in status) == sorted(
        ["A  staged.txt", "M old.txt", "M .gitignore", "?? notes.txt"]
    )


def test_a_script_that_the_user_staged_is_committed_as_it_is(folder: Path) -> None:
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "train.py")
    init(folder, "--yes")
    assert git(folder, "show", "HEAD:train.py") == TRAIN.strip()
    assert git(folder, "status", "--porcelain") == "?? notes.txt"


def test_big_data_go_to_dvc_and_small_ones_to_git(folder: Path) -> None:
    fill(folder, {"data/big.txt": "x" * (BIG + 1), "small.csv": "a,b\n1,2\n", "model.pkl": "old"})
    script = """\
import pickle
len(open("data/big.txt").read()), open("small.csv").read()
pickle.dump(1, open("model.pkl", "wb"))
"""
    (folder / "train.py").write_text(script + TRAIN)
    init(folder, "--yes")
    assert {"data/big.txt.dvc", "data/.gitignore", "small.csv"} <= committed(folder)
    assert not {"data/big.txt", "model.pkl"} & committed(folder)
    assert (folder / "data" / "big.txt").stat().st_size == BIG + 1
    (baseline,) = attempts_of(folder)
    assert baseline["experiments"][0]["status"] == "succeeded"


def test_what_is_not_committed_would_not_run(folder: Path) -> None:
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "train.py", "parts.py")
    run(folder, "git", "commit", "-qm", "Mine")
    (folder / "parts.py").write_text("def hill(depth):\n    return 0\n")
    done = init(folder, "--yes", check=False)
    assert (done.returncode, "parts.py" in done.stderr) == (2, True)
    assert not (folder / "dvc.yaml").exists()


def test_what_cannot_be_finished_leaves_no_file(folder: Path) -> None:
    made = plan(folder, Wish())
    (folder / "program.md").write_text("mine")
    with pytest.raises(BadState):
        begin(made)
    names = {path.name for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts}
    assert names == {"train.py", "parts.py", "notes.txt", "program.md"}
    assert (folder / "program.md").read_text() == "mine"


# -- what the script's text and its command tell ----------------------------------------------------------


def script(folder: Path, text: str, name: str = "train.py") -> None:
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    "text",
    [
        'print(f"acc: {x}")',
        'print("acc:", x)',
        'print("acc = %.3f" % x)',
        'print("acc: {}".format(x))',
        'print("step", 1)\nprint(f"METRIC acc={x}")',
        'import json\nprint(json.dumps({"acc": x, "seconds": 3}))',
    ],
)
def test_the_text_of_a_script_tells_its_metric(folder: Path, text: str) -> None:
    script(folder, f"x = 1\n{text}\n")
    made = planned(folder)
    assert (made.goal.metric, made.goal.direction) == ("metrics.json:acc", "maximize")
    assert command(made) == "ar capture -m acc -- python train.py"


def test_a_metric_that_nothing_tells_is_asked_for(folder: Path) -> None:
    script(folder, "print(0.5)\n")
    with pytest.raises(Unnamed) as refused:
        planned(folder)
    assert "--metric NAME" in str(refused.value)
    done = init(folder, "--yes", check=False)
    assert done.returncode == 2
    assert not (folder / ".git").exists()


def test_several_metrics_are_objective_guard_and_holdout(folder: Path) -> None:
    made = planned(folder, "val_acc=acc (.*)", "test_acc", "peak_memory_mb")
    program = parse(made.files["program.md"])
    assert str(program.objective) == "metrics.json:val_acc"
    assert str(program.holdout) == "metrics.json:test_acc"
    assert [str(guard) for guard in program.guards] == ["metrics.json:peak_memory_mb", "ar:cpu_seconds"]
    assert command(made).startswith("ar capture -m 'val_acc=acc (.*)' -m test_acc -m peak_memory_mb -- ")


@pytest.mark.parametrize(
    ("text", "flag", "run", "expected", "seed"),
    [
        ("SEED = 4", "", "", "python train.py", "train.py:SEED"),
        ("SEED = 4", "--seed {seed}", "", "python train.py --seed ${seed}", "seed"),
        ("", "SEED={seed}", "", "env SEED=${seed} python train.py", "seed"),
        ("", "seed={seed}", "", "python train.py seed=${seed}", "seed"),
        ('p.add_argument("--random-seed")', "", "", "python train.py --random-seed ${seed}", "seed"),
        ('os.environ["SEED"]', "", "", "env SEED=${seed} python train.py", "seed"),
        ('os.environ.get("RNG", "0")', "", "", "env RNG=${seed} python train.py", "seed"),
        (
            'p.add_argument("--seed")',
            "",
            "python train.py --seed 7",
            "python train.py --seed ${seed}",
            "seed",
        ),
        ("", "", "", "python train.py", None),
        (
            "",
            "-s {seed}",
            "cat train.py && cat train.py",
            "sh -c 'cat train.py && cat train.py -s ${seed}'",
            "seed",
        ),
    ],
)
def test_the_seed_is_found_where_it_is(
    folder: Path, text: str, flag: str, run: str, expected: str, seed: str | None
) -> None:
    script(folder, f"{text}\n")
    made = planned(folder, "loss", run=run or "python train.py", seed_flag=flag)
    program = parse(made.files["program.md"])
    assert command(made) == f"ar capture -m loss -- {expected}"
    assert (program.seed and str(program.seed)) == seed
    assert ("params.yaml" in made.files) == (seed == "seed")


LINE = "python train.py --lr 0.01 --hidden-size=64 --epochs 3 -DSTRIDE=24 '${HOME}'"


def test_numbers_of_the_command_line_become_parameters(folder: Path) -> None:
    made = planned(folder, "loss", run=LINE)
    line = "python train.py --lr ${lr} --hidden-size=${hidden_size} --epochs 3 -DSTRIDE=${STRIDE} "
    assert command(made).removeprefix("ar capture -m loss -- sh -c '").startswith(line)
    assert "\\${HOME}" in command(made)
    assert made.files["params.yaml"] == "lr: 0.01\nhidden_size: 64\nSTRIDE: 24\n"
    assert {"lr", "hidden_size", "STRIDE"} <= set(map(str, parse(made.files["program.md"]).search))


def test_options_with_numbers_for_defaults_become_parameters(folder: Path) -> None:
    lines = (
        'p.add_argument("--lr", type=float, default=0.1)',
        'p.add_argument("-w", "--width", default=8)',
        'p.add_argument("--n-layer", default=6)',
        'p.add_argument("--epochs", default=6)',
        'p.add_argument("--fast", default=False)',
        'p.add_argument("--depth", default=2)',
        'p.add_argument("--seed", default=1337)',
    )
    script(folder, "\n".join(lines))
    made = planned(folder, "loss", run="python train.py --depth 3")
    line = "python train.py --depth ${depth} --lr ${lr} --width ${width} --n-layer ${n_layer} --seed ${seed}"
    assert command(made) == f"ar capture -m loss -- {line}"
    assert made.files["params.yaml"] == "seed: 1337\ndepth: 3\nlr: 0.1\nwidth: 8\nn_layer: 6\n"


def test_a_params_file_of_the_users_is_used_as_it_is(folder: Path) -> None:
    (folder / "params.yaml").write_text("seed: 3\nlr: 0.1\n")
    script(folder, 'open("params.yaml")\n')
    made = planned(folder, "loss")
    program = parse(made.files["program.md"])
    assert "params.yaml" not in made.files
    assert "params.yaml" in made.kept
    assert (str(program.seed), list(map(str, program.search))) == ("seed", ["lr"])


def test_what_a_script_reads_is_an_input_and_what_it_writes_is_not(folder: Path) -> None:
    script(
        folder,
        """\
import pathlib
import pkg.deep
from parts import hill
OUT = "out.csv"
open("in.csv"), open("log.txt", mode="a"), pathlib.Path("sets/a.txt").read_text()
table.to_csv(OUT)
torch.save(model, "model.pt")
open("results/old.csv"), open("/etc/passwd"), open("../beside.txt"), open("missing.csv")
""",
    )
    inputs = {
        "in.csv": "",
        "sets/a.txt": "",
        "pkg/__init__.py": "",
        "pkg/deep.py": "import other",
        "other.py": "",
    }
    (folder / "pkg").mkdir()
    (folder / "pkg" / ".env").write_text("KEY=secret")
    others = {
        "out.csv": "",
        "log.txt": "",
        "model.pt": "",
        "results/old.csv": "",
        "../beside.txt": "",
        "unused.py": "",
    }
    fill(folder, inputs | others)
    made = planned(folder, "loss")
    assert "pkg/deep.py" in made.kept
    assert "pkg/.env" not in made.kept
    declared = Declared.parse(made.files["dvc.yaml"].encode(), None)
    assert set(declared.inputs) == {"train.py", "parts.py", "in.csv", "sets/a.txt", "pkg", "other.py"}


def test_what_lies_below_the_home_is_shown_once_it_is_allowed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / ".cache" / "sets").mkdir(parents=True)
    script(
        folder,
        'import os\nos.path.join(os.path.expanduser("~"), ".cache", "sets")\nPath.home() / ".none" / "x"\n',
    )
    made = planned(folder, "loss")
    assert parse(made.files["program.md"]).sandbox.read == ("~/.cache/sets",)
    done = init(folder, "--yes", "--metric", "loss")
    assert "ar allow" in done.stdout
    assert not attempts_of(folder)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["train.py", "prepare.py"], "python train.py"),
        (["only.py"], "python only.py"),
        (["bench.c"], "cc -O2 -o bench bench.c -lm && ./bench"),
        (["train.py", "uv.lock"], "uv run train.py"),
        (["a.py", "b.py"], None),
        (["notes.txt"], None),
    ],
)
def test_the_likeliest_script(tmp_path: Path, files: list[str], expected: str | None) -> None:
    fill(tmp_path, dict.fromkeys(files, ""))
    if expected:
        assert likely_command(Folder(tmp_path)) == expected
    else:
        with pytest.raises(ArError, match=r"ar init --run|script"):
            likely_command(Folder(tmp_path))


def test_a_notebook_for_papermill_takes_its_parameters_from_the_command(tmp_path: Path) -> None:
    cells = '{"cells": [{"cell_type": "code", "source": ["%time\\n", "print(f\\"acc: {x}\\")"]}]}'
    fill(tmp_path, {"fit.ipynb": cells, "out.ipynb": cells})
    made = planned(tmp_path, run="papermill --log-output fit.ipynb out.ipynb -p lr 0.1")
    assert command(made) == "ar capture -m acc -- papermill --log-output fit.ipynb out.ipynb -p lr ${lr}"
    assert Declared.parse(made.files["dvc.yaml"].encode(), None).inputs == ("fit.ipynb",)


def test_what_a_notebook_has_for_parameters_becomes_papermills(tmp_path: Path) -> None:
    cells = [
        {
            "cell_type": "code",
            "metadata": {"tags": ["parameters"]},
            "source": "SEED = 3\nlr = 0.1\neval_batches = 10\n",
        },
        {"cell_type": "code", "metadata": {}, "source": "other = 0.5\nprint(f'acc: {lr}')"},
    ]
    fill(tmp_path, {"fit.ipynb": json.dumps({"cells": cells})})
    made = planned(tmp_path, run="papermill fit.ipynb out.ipynb -p lr 0.2")
    assert "/out.ipynb" in made.files[".gitignore"].splitlines()
    assert (
        command(made)
        == "ar capture -m acc -- papermill --log-output fit.ipynb out.ipynb -p lr ${lr} -p SEED ${seed}"
    )
    assert flat(made.files["params.yaml"].encode(), "params.yaml") == {"lr": 0.2, "seed": 3}


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"[1",
        b'{"cells": [{}]}',
        b'{"cells": 3}',
        b"\0",
        b"x = (" * 3000,
        b'"' * 5000,
        b"f(" + b"-" * 9000 + b"1)",
    ],
)
@pytest.mark.parametrize("name", ["x.ipynb", "x.py", "x.c"])
def test_what_cannot_be_read_tells_nothing(name: str, content: bytes) -> None:
    found = read(name, content)
    assert (found.prints, found.seed_flag, found.imports) == ((), "", ())


def test_a_folder_of_a_larger_repository(folder: Path) -> None:
    """What the user has staged above it, and in `.gitignore`, stays his; big data are ignored, too."""
    top = folder.parent
    run(top, "git", "init", "-q")
    fill(top, {"other.txt": "1", "work/.gitignore": "*.log\n"})
    run(top, "git", "add", "other.txt", "work/.gitignore")
    run(top, "git", "commit", "-qm", "Mine")
    fill(top, {"other.txt": "2", "work/.gitignore": "*.log\n*.tmp\n", "work/big.txt": "x" * (BIG + 1)})
    run(top, "git", "add", "other.txt")
    (folder / "train.py").write_text('len(open("big.txt").read())\n' + TRAIN)
    init(folder, "--yes")
    assert git(top, "show", "HEAD:work/.gitignore") == "*.log\n/big.txt"
    assert (folder / ".gitignore").read_text() == "*.log\n*.tmp\n/big.txt\n"
    status = [line.strip() for line in git(top, "status", "--porcelain").splitlines()]
    assert status == ["M  other.txt", "M work/.gitignore", "?? work/notes.txt"]
    (baseline,) = attempts_of(folder)
    assert baseline["experiments"][0]["status"] == "succeeded"


def test_a_text_for_something_else_is_no_programme(project: Path) -> None:
    """Until there is another beside it, which then counts wherever it matters."""
    text = (project / "program.md").read_text()
    (project / "program.md").write_text("Loop forever.\n")
    with pytest.raises(BadProgram, match="ar init"):
        load(project)
    init(project, "--yes")
    assert str(load(project).objective) == "m.json:val_loss"
    assert committed(project) == {".ar/program.md"}
    assert (project / "program.md").read_text() == "Loop forever.\n"
    (project / ".ar" / "program.md").write_text(text.replace("objective", "objektive"))
    with pytest.raises(BadProgram, match=r"\.ar/program\.md"):
        load(project)


def test_on_a_terminal_it_asks_what_nothing_tells(folder: Path) -> None:
    script(folder, "print('oddity 3')\n")
    shown = typed(folder, "oddity\nmaximize\ny\n", "init")
    assert "does not tell what it prints" in shown
    assert "Traceback" not in shown
    program = load(folder)
    assert (str(program.objective), program.objective.direction) == ("metrics.json:oddity", "maximize")
    assert [attempt["value"] for attempt in attempts_of(folder)] == [3]


def test_of_several_metrics_the_user_chooses(folder: Path) -> None:
    script(folder, 'print("val_acc:", 1)\nprint("val_f1:", 2)\n')
    typed(folder, "2\ny\n", "init")
    assert str(load(folder).objective) == "metrics.json:val_f1"


def test_without_a_sandbox_nothing_runs_before_it_is_allowed(
    folder: Path, without_bwrap: dict[str, str]
) -> None:
    done = run(folder, sys.executable, "-m", "ar", "init", "--yes", env=without_bwrap)
    assert "ar allow" in done.stdout
    assert not attempts_of(folder)
    assert "autoresearch capture" in (folder / "dvc.yaml").read_text()  # no `ar` on PATH, or not this one


def test_a_script_that_fails_is_told_with_the_run_that_shows_it(folder: Path) -> None:
    script(folder, "print('loss: 1')\nraise SystemExit(3)\n")
    done = init(folder, "--yes", "--metric", "loss", check=False)
    assert done.returncode == 2
    (baseline,) = attempts_of(folder)
    assert f"ar log {baseline['name']}" in done.stderr


def test_what_lies_outside_stays_out_of_the_project(folder: Path) -> None:
    """Neither a module above the folder nor what a link among the data leads to comes in."""
    fill(folder.parent, {"key": "secret", "above.py": "x = 1"})
    fill(folder, {"data/big.txt": "x" * (BIG + 1)})
    script(folder, 'from ..above import x\nopen("data/big.txt"), open("data/key")\nprint("loss:", 1)\n')
    assert Declared.parse(planned(folder).files["dvc.yaml"].encode(), None).inputs == (
        "train.py",
        "data/big.txt",
    )
    script(folder, 'open("data")\nprint("loss:", 1)\n')
    for outside in (folder.parent / "key", folder.parent):  # a file, a folder
        (folder / "data" / "key").symlink_to(outside)
        with pytest.raises(ArError, match="data/key"):
            planned(folder)
        (folder / "data" / "key").unlink()
    assert planned(folder).big == ("data",)


@pytest.mark.parametrize(
    ("name", "goal"),
    [("val_loss", "m.json:val_loss"), ("c.yaml:cost", "c.yaml:cost"), ("cost", "c.yaml:cost")],
)
def test_of_a_pipeline_the_metric_that_is_named_is_improved(bare: Path, name: str, goal: str) -> None:
    made = plan(bare, Wish(metrics=(name,)))
    assert made.goal.metric == goal
    assert str(parse(made.files["program.md"]).objective) == goal
    assert list(made.files) == ["program.md"]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(metrics=("vall_loss",)), "val_loss"),
        (Wish(metrics=("val_loss", "speed")), "ar capture -m speed"),
        (Wish(metrics=(r"loss=loss ([\d.]+)",)), "ar init --metric loss"),
        (Wish(run="awk -f fit.awk"), "ar init"),
        (Wish(seed_flag="--seed {seed}"), "ar init"),
    ],
)
def test_of_a_pipeline_what_it_has_not_is_not_taken(bare: Path, wish: Wish, said: str) -> None:
    with pytest.raises(ArError) as refused:
        plan(bare, wish)
    assert said in str(refused.value)

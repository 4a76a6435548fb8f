"""Real git and DVC in temporary repositories; nothing of the user's own configuration is read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import forks
import pytest
from helpers import PROGRAM, Ar, allow, commit, edit, run, share

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # several workers share the cores

FIT = """\
# params.yaml in, metrics out: a bowl whose floor lies at x = 3, y = 0.1, with a little noise from the seed.
/^x:/ {x = $2}
/^y:/ {y = $2}
/^seed:/ {seed = $2}
END {
  noise = ((seed * 7919) % 101) / 101 - 0.5
  loss = (x - 3) ^ 2 + (log(y) - log(0.1)) ^ 2 + 0.01 * noise
  printf("{\\"val_loss\\": %.6f}\\n", loss) > "m.json"
  printf("cost: %.3f\\n", 1) > "c.yaml"
  print "loss", loss
}
"""
PIPELINE = """\
stages:
  fit:
    cmd: awk -f fit.awk params.yaml
    deps: [fit.awk]
    params: [x, y, seed]
    metrics:
    - m.json: {cache: false}
    - c.yaml: {cache: false}
"""
SET_BY_USERS = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "DVC_SITE_CACHE_DIR")
PARAMS = "# where we start\nx: 1.5\ny: 0.03\nseed: 1\n"


@pytest.fixture(scope="session", autouse=True)
def isolated_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Tester\n\temail = tester@example.com\n[init]\n\tdefaultBranch = main\n"
    )
    patch = pytest.MonkeyPatch()
    patch.setenv("HOME", str(home))
    patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    patch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    patch.setenv("DVC_NO_ANALYTICS", "1")
    patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    # Python compiles `ar` once, and not for each process.
    for name in (
        "GIT_DIR",
        "GIT_INDEX_FILE",
        "GIT_WORK_TREE",
        "DVC_SITE_CACHE_DIR",
        "PYTHONDONTWRITEBYTECODE",
    ):
        patch.delenv(name, raising=False)
    forks.server = forks.Server(os.environ)
    yield home
    forks.server.close()
    patch.undo()


@pytest.fixture(autouse=True)
def own_site_cache() -> Iterator[None]:
    """What `ar` names as DVC's site cache for one project is none of the next one's."""
    yield
    os.environ.pop("DVC_SITE_CACHE_DIR", None)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path) -> Path:
    """A DVC project in awk, run once and committed, without `program.md`."""
    root = tmp_path_factory.mktemp("template") / "project"
    root.mkdir()
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    for name, text in (("fit.awk", FIT), ("dvc.yaml", PIPELINE), ("params.yaml", PARAMS)):
        (root / name).write_text(text)
    run(root, "dvc", "repro", "-q")
    commit(root, "Start")
    return root


@pytest.fixture
def bare(template: Path, tmp_path: Path) -> Path:
    """A copy of the template, without `program.md`."""
    root = tmp_path / "project"
    shutil.copytree(template, root, symlinks=True)
    return root


@pytest.fixture
def project(bare: Path) -> Path:
    """A copy of the template with a `program.md`, committed."""
    (bare / "program.md").write_text(PROGRAM)
    commit(bare, "Add programme")
    return bare


@pytest.fixture
def shared(project: Path, tmp_path: Path) -> Path:
    """A project whose `origin` is a bare repository beside it, `shared.git`."""
    share(project)
    return project


@pytest.fixture(scope="session")
def measured_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with its programme, and the baseline measured."""
    root = tmp_path_factory.mktemp("measured") / "project"
    shutil.copytree(template, root, symlinks=True)
    (root / "program.md").write_text(PROGRAM)
    commit(root, "Add programme")
    allow(root)
    run(root, sys.executable, "-m", "ar", "run", "-n", "0", "--plain")
    return root


@pytest.fixture
def measured(measured_template: Path, tmp_path: Path) -> Path:
    """A copy of a project whose baseline is measured: the next run proposes at once."""
    root = tmp_path / "measured"
    shutil.copytree(measured_template, root, symlinks=True)
    return root


@pytest.fixture
def slow_project(project: Path, ar: Ar) -> Path:
    """Runs that last as long as DELAY says, every change for the worse, and the baseline measured."""
    edit(
        project / "fit.awk",
        "(x - 3) ^ 2 + (log(y) - log(0.1)) ^ 2",
        "4 * (x - 1.5) ^ 2 + 4 * log(y / 0.03) ^ 2",
    )
    edit(project / "dvc.yaml", "awk -f", 'sleep "$DELAY" && awk -f')
    edit(project / "program.md", "budget:", "sandbox: {env: [DELAY]}\nbudget:")
    commit(project, "Take time")
    ar(project, "run", "-n", "0", "--plain", env={**os.environ, "DELAY": "0"})
    return project


@pytest.fixture
def ar() -> Ar:
    """`ar` as a process of a user's who allows what the project would do: `ar(folder, "run", "-n", "2")`."""

    def call(
        folder: Path, *args: str, check: bool = True, **kwargs: object
    ) -> subprocess.CompletedProcess[str]:
        env = cast("dict[str, str]", kwargs.get("env") or os.environ)
        if any(env.get(name) != os.environ.get(name) for name in ("PATH", "PYTHONPATH")):
            # Agents that this process does not know, or another sandbox.
            run(folder, sys.executable, "-m", "ar", "allow", check=False, **kwargs)
        else:
            allow(folder)
        return run(folder, sys.executable, "-m", "ar", *args, check=check, **kwargs)

    return call


NEEDED = ("awk", "cat", "chmod", "cp", "dvc", "env", "git", "ls", "mkdir", "python", "rm", "sh", "uname")


@pytest.fixture
def without_bwrap(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH has all that a run needs, but no bubblewrap."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in NEEDED:
        if place := shutil.which(name):
            (folder / name).symlink_to(place)
    return {**os.environ, "PATH": str(folder)}

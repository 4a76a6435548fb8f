"""A training stage that is after the score which the next stage takes: it does what `attempt` names.

Copied into a scratch project by `test_stages.py`. Where an attempt works, the next stage prints ESCAPED, or
the score is not 1.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

OWNED = "print('ESCAPED')\n"
LOSS = "def loss(model, held):\n    print('ESCAPED')\n    return 0.0\n"


def honest() -> None:
    """What any run does."""


def plant_modules() -> None:
    """Modules that the next stage would import before those of the standard library, or at start-up."""
    for name in ("json", "sitecustomize", "usercustomize", "pathlib", "conftest"):
        Path(f"{name}.py").write_text(OWNED)
    Path("scoring").mkdir()
    Path("scoring/__init__.py").write_text(LOSS)
    Path("x.pth").write_text("import os; print('ESCAPED')\n")
    for name in (".env", "pyvenv.cfg", "setup.cfg", "pytest.ini"):
        Path(name).write_text("[ESCAPED]\n")


def plant_bytecode() -> None:
    """A cache of `scoring.py` that Python does not hold against its source (PEP 552)."""
    import py_compile

    Path("scoring2.py").write_text(LOSS)
    cache = importlib.util.cache_from_source("scoring.py")
    py_compile.compile(
        "scoring2.py", cache, "scoring.py", invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    Path("scoring2.py").unlink()


def plant_what_git_and_dvc_obey() -> None:
    Path("x.dvc").write_text("outs: [{path: /etc/passwd}]\n")
    Path("sub").mkdir()
    Path("sub/dvc.yaml").write_text("stages: {x: {cmd: echo ESCAPED, outs: [../judge.py]}}\n")
    Path("sub/.dvcignore").write_text("*\n")
    Path(".gitattributes").write_text("* working-tree-encoding=UTF-16 filter=x ident\n")
    Path("sub/.gitattributes").write_text("* -text\n")
    Path(".gitmodules").write_text('[submodule "x"]\n\tpath = x\n\turl = /\n')


def plant_a_repository() -> None:
    """`git add` would take it for a submodule."""
    subprocess.run(["git", "init", "-q", "inner"], check=True)
    Path("inner/.git/hooks/post-checkout").write_text("#!/bin/sh\necho ESCAPED\n")


def plant_the_metrics() -> None:
    Path("m.json").write_text('{"val_loss": 0.0}')
    Path("m.json").chmod(0o444)


def metrics_as_a_folder() -> None:
    Path("m.json/m.json").mkdir(parents=True)


def change_a_helper() -> None:
    """A file that the next stage imports, and that no stage declares."""
    Path("scoring.py").write_text(LOSS)


def change_a_helper_s_mode() -> None:
    Path("scoring.py").chmod(0o755)


def swap_a_helper_for_a_folder() -> None:
    Path("scoring.py").unlink()
    Path("scoring.py").mkdir()


def change_held_data() -> None:
    """In place, of the same length and with the same times: DVC's database knows no difference."""
    path = Path("held/held.txt")
    before = path.stat()
    path.chmod(0o644)
    path.write_text(path.read_text().translate(str.maketrans("abc", "bca")))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_parameters() -> None:
    """What is recorded would not be what ran."""
    Path("params.yaml").write_text("attempt: honest\nseed: 1\n")


def change_the_lock() -> None:
    path = Path("dvc.lock")
    path.write_text(path.read_text().replace("held", "model"))


def change_the_pipeline() -> None:
    path = Path("dvc.yaml")
    path.write_text(path.read_text().replace("judge.py", "train.py"))


def delete_the_judge() -> None:
    Path("judge.py").unlink()


def link_the_model_to_held_data() -> None:
    Path("model.txt").unlink()
    Path("model.txt").symlink_to("held/held.txt")


def link_the_model_to_git() -> None:
    Path("model.txt").unlink()
    Path("model.txt").symlink_to(".git/config")


def give_a_hard_link_to_held_data() -> None:
    Path("model.txt").unlink()
    Path("model.txt").hardlink_to("held/held.txt")


def replace_the_folder() -> None:
    shutil.copytree("held", "other")
    Path("other/held.txt").chmod(0o644)
    Path("other/held.txt").write_text("other\n")
    Path("held").rename("held-before")
    Path("other").rename("held")


def outlive_the_stage() -> None:
    """A daemon that waits for the metrics, and writes its own."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                if Path("m.json").exists():
                    Path("m.json").write_text('{"val_loss": 0.0}')
                time.sleep(0.001)
        os._exit(0)
    os.wait()


def stop_the_parents() -> None:
    """Whoever waits for us would wait for ever; in the sandbox there is only its shell."""
    for pid in (os.getppid(), 1):
        try:
            os.kill(pid, signal.SIGSTOP)
        except OSError as error:
            print("refused", error)


def carry_a_big_file() -> None:
    """What git keeps, it keeps for ever."""
    with Path("notes.txt").open("wb") as stream:
        for _ in range(60):
            stream.write(os.urandom(1_000_000))


if __name__ == "__main__":
    text = Path("params.yaml").read_text()
    Path("model.txt").write_text("model\n")
    Path("notes.txt").write_text("notes\n")
    globals()[text.partition("attempt: ")[2].split()[0]]()
    sys.exit(0)

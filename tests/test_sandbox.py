"""What is in force where, what bubblewrap is told, what is too much, what a stage may leave in its folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import Ar, attempts_of, commit, edit, git, run, wait_for

from ar.project.program import Sandbox
from ar.runs import sandbox
from ar.runs.interpreter import Interpreter
from ar.stage import limits, snapshot
from ar.stage.files import Cause, Limits
from ar.stage.log import Funnel

ONE = """
import sys
from pathlib import Path
from ar.git.repo import Repo
from ar.runs.worker import Worker
Worker(Repo.open(Path(sys.argv[1]))).run_next()
"""


def _run_one(project: Path, ar: Ar, env: dict[str, str] | None = None) -> tuple[str, str]:
    """Let the agent propose one experiment and a worker run it. Returns its status and log."""
    ar(project, "next")
    run(project, sys.executable, "-c", ONE, str(project), env=env)
    name = git(project, "for-each-ref", "refs/exps", "--format=%(refname)").rpartition("/")[2]
    text = ar(project, "log", name).stdout
    return text.partition("status")[2].split()[0], text


def _set(project: Path, kind: str) -> None:
    edit(project / "program.md", "budget: {runs: 200,", f"sandbox: {kind}\nbudget: {{runs: 1,")


def test_asked_for_and_not_installed_is_refused(project: Path, ar: Ar, without_bwrap: dict[str, str]) -> None:
    _set(project, "bwrap")
    done = ar(project, "run", "-n", "0", "--plain", check=False, env=without_bwrap)
    assert done.returncode == 2
    assert "sandbox: bwrap is asked for, but bubblewrap is not installed" in done.stderr
    assert "apt-get install bubblewrap" in done.stderr
    examined = ar(project, "doctor", check=False, env=without_bwrap)
    assert examined.returncode == 2
    assert "apt-get install bubblewrap" in examined.stdout


@pytest.mark.slow
def test_auto_warns_once_and_goes_on(project: Path, ar: Ar, without_bwrap: dict[str, str]) -> None:
    _set(project, "auto")
    done = ar(project, "run", "-n", "0", "--plain", env=without_bwrap)
    assert done.stdout.count("sandbox: off (bubblewrap is not installed)") == 1
    assert ar(project, "doctor", env=without_bwrap).returncode == 0
    assert _run_one(project, ar, without_bwrap)[0] == "succeeded"


def test_bubblewrap_that_may_not_do_its_work_counts_as_none(
    project: Path, ar: Ar, without_bwrap: dict[str, str]
) -> None:
    fake = Path(without_bwrap["PATH"]) / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    fake.chmod(0o755)
    text = ar(project, "doctor", env=without_bwrap).stdout
    assert "does not work here: bwrap: setting up uid map: Permission denied" in " ".join(text.split())


@pytest.fixture
def bwrap() -> sandbox.Bubblewrap:
    found = sandbox.find(Sandbox())
    if not found.program:
        pytest.skip(f"no sandbox on this machine: {found.why}")
    return found


def test_what_is_listed_can_be_read_and_nothing_beside_it(
    bwrap: sandbox.Bubblewrap, project: Path, ar: Ar, tmp_path: Path
) -> None:
    for name in ("listed", "beside"):
        (tmp_path / f"{name} ü").mkdir()
        (tmp_path / f"{name} ü" / "x").write_text(f"{name} was read")
    listed, beside = (tmp_path / f"{name} ü" / "x" for name in ("listed", "beside"))
    command = f"cat '{beside}' || git rev-parse HEAD && cat '{listed}' && awk -f"
    edit(project / "dvc.yaml", "awk -f", command)
    commit(project, "Read data")
    _set(project, f"{{read: ['{listed.parent}']}}")
    _, log = _run_one(project, ar)
    assert "listed was read" in log
    assert "beside was read" not in log
    assert git(project, "rev-parse", "HEAD") in log


def test_a_project_in_a_subfolder_behind_a_link(
    bwrap: sandbox.Bubblewrap, template: Path, tmp_path: Path, ar: Ar
) -> None:
    top = tmp_path / "größe 2" / "repo"
    top.mkdir(parents=True)
    (tmp_path / "link").symlink_to(top)
    run(top, "git", "init", "-q")
    shutil.copytree(template, top / "sub", ignore=shutil.ignore_patterns(".git", "tmp", "cache"))
    (top / "sub" / "program.md").write_text(
        "---\nobjective: 'm.json:val_loss'\nseed: seed\nscope: {params: [x]}\nsearch: {x: [1, 2]}\n"
        "sandbox: bwrap\n---\n"
    )
    commit(top, "Start")
    assert _run_one(tmp_path / "link" / "sub", ar)[0] == "succeeded"


def test_what_programs_need_is_readable_and_no_home_is(
    bwrap: sandbox.Bubblewrap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, root = tmp_path / "home", tmp_path / "home" / "project"
    (home / "tools" / "bin").mkdir(parents=True)
    (root / ".git").mkdir(parents=True)
    (root / ".dvc").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", os.pathsep.join([str(home / "tools" / "bin"), str(home), "/usr/bin", "/"]))
    limits = sandbox.limits(Sandbox(), root, 0.5)
    argv = sandbox.command(bwrap, Sandbox(), root, root / ".dvc", root, "/cache", limits, Interpreter())
    bound = {argv[place + 1] for place, word in enumerate(argv) if "bind" in word}
    assert {sys.prefix, sys.base_prefix} - {"/usr"} <= bound
    assert str(home / "tools" / "bin") in bound
    assert not {"/", str(home), str(tmp_path)} & bound


def test_limits_are_shares_of_the_machine(tmp_path: Path) -> None:
    whole, half = (sandbox.limits(Sandbox(), tmp_path, share) for share in (1.0, 0.5))
    assert half.memory == pytest.approx(whole.memory / 2, rel=0.01)
    given = sandbox.limits(Sandbox(memory=5, processes=6, disk=7), tmp_path, 0.5)
    assert (given.memory, given.processes, given.disk) == (5, 6, 7)


# -- what a stage leaves -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    for path in (
        ".git/HEAD",
        ".dvc/config",
        "sub/.dvc/config",
        "src/a.py",
        "src/out/old",
        "notes.txt",
        "helper.py",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    (tmp_path / "secret").write_text("secret")
    (root / "data").symlink_to(tmp_path / "secret")
    return root


def _leave(folder: Path, what: str) -> None:
    secret, out = folder.parent / "secret", folder / "src" / "out"
    match what:
        case "outputs":
            (out / "old").write_text("y")
            (out / "new").write_text("y")
            (out / "inner").symlink_to("new")
            (out / "twice").hardlink_to(out / "new")
            (folder / "notes.txt").write_text("y")
            (folder / "more").mkdir()
            (folder / "more" / "m.json").write_text("{}")
        case "strays":
            (folder / "src" / "__pycache__").mkdir()
            (folder / "src" / "__pycache__" / "a.pyc").write_text("y")
            (folder / "src" / "new").symlink_to("a.py")
            (folder / "more").mkdir()
            (folder / "more" / "n.json").symlink_to(secret)
            os.mkfifo(folder / "pipe")
        case "link":
            (out / "new").symlink_to(secret)
        case "link upwards":
            (out / "new").symlink_to("../../../secret")
        case "link inside":
            (out / "new").symlink_to("../a.py")
        case "link to a folder":
            (out / "new").symlink_to(folder.parent)
        case "hard link":
            (out / "new").hardlink_to(secret)
        case "other link":
            (folder / "data").unlink()
            (folder / "data").symlink_to(folder.parent)
        case "pipe":
            os.mkfifo(out / "new")
        case "input":
            file = folder / "src" / "a.py"
            times = file.stat()
            file.write_text("y")
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        case "no input":
            (folder / "src" / "a.py").unlink()
        case "other folder":
            (folder / "src").rename(folder / "away")
            shutil.copytree(folder / "away", folder / "src")
        case "undeclared":
            (folder / "helper.py").write_text("y")
        case "other configuration":
            (folder / "sub").rename(folder / "away")
            (folder / "sub" / ".dvc").mkdir(parents=True)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("outputs", ""),
        ("strays", ""),
        ("link", "a link that leads out of its outputs: src/out/new"),
        ("link upwards", "a link that leads out of its outputs: src/out/new"),
        ("link inside", "a link that leads out of its outputs: src/out/new"),
        ("link to a folder", "a link that leads out of its outputs: src/out/new"),
        ("other link", "changed data"),
        ("hard link", "a hard link to a file outside its folder: src/out/new"),
        ("pipe", "neither file nor folder: src/out/new"),
        ("input", "changed src/a.py"),
        ("no input", "changed src/a.py"),
        ("other folder", "changed src/a.py"),
        ("undeclared", "changed helper.py"),
        ("other configuration", "changed sub"),
    ],
)
def test_what_may_not_be_left_in_the_folder(folder: Path, what: str, says: str) -> None:
    before = snapshot.take(str(folder))
    may = snapshot.May(
        write=[f"{folder}/src/out", f"{folder}/more/m.json"],
        rewrite=[f"{folder}/notes.txt", f"{folder}/src"],
        fixed=[f"{folder}/src/a.py"],
    )
    assert snapshot.compare(str(folder), before, may) == snapshot.Found()
    time.sleep(0.01)  # the clock of the file system ticks in milliseconds
    _leave(folder, what)
    found = snapshot.compare(str(folder), before, may)
    assert says in found.flaw
    assert bool(says) == bool(found.flaw)
    names = {"pipe", "more/n.json", "src/__pycache__", "src/new"} if what == "strays" else set()
    assert {os.path.relpath(path, folder) for path in found.strays} == names


def test_what_a_refused_run_made_is_removed_and_nothing_else(folder: Path) -> None:
    before = snapshot.take(folder)
    away = folder.parent / "away"
    (away / "out").mkdir(parents=True)
    (away / "out" / "precious").write_text("x")
    (folder / "new").mkdir()
    (folder / "new" / "x").touch(mode=0o000)
    os.mkfifo(folder / "pipe")
    (folder / "notes.txt").unlink()
    os.mkfifo(folder / "notes.txt")
    shutil.rmtree(folder / "src")
    (folder / "src").symlink_to(away)  # src/out was a folder: it must not be taken for the one there
    snapshot.clear(folder, before)
    assert {path.name for path in folder.iterdir()} == {".git", ".dvc", "sub", "data", "helper.py"}
    assert (away / "out" / "precious").exists()
    assert (folder.parent / "secret").exists()


# -- what a stage prints -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [10, 20_000])
def test_of_long_output_beginning_and_end_are_kept(tmp_path: Path, lines: int) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("ab") as target:
        command = [sys.executable, "-c", f"for i in range({lines}): print('line', i)"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            funnel = Funnel(process.stdout.fileno(), target.fileno(), head=1000, tail=2000)
            while funnel.pump():
                time.sleep(0.001)
                funnel.show()
                assert log.stat().st_size < 1000 + 3 * 2000 + 100
            funnel.drain()
    text = log.read_text()
    assert text.startswith("before\nline 0\n")
    assert text.endswith(f"line {lines - 1}\n")
    assert ("left out" in text) == (lines > 1000)


def test_the_beginning_is_kept_however_much_comes_at_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    log = tmp_path / "log"
    with log.open("ab") as target:
        funnel = Funnel(reading, target.fileno(), head=10, tail=10)
        os.write(writing, b"012 45 78\n" * 10)
        os.close(writing)
        funnel.drain()
    os.close(reading)
    assert log.read_text() == "012 45 78\n\n… ar: 80 bytes are left out here …\n012 45 78\n"


def test_bytes_left_out_are_counted(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    log = tmp_path / "log"
    with log.open("ab") as target:
        funnel = Funnel(reading, target.fileno(), head=10, tail=10)
        for _ in range(5):
            os.write(writing, b"012 45 78\n")
            funnel.pump()
        os.close(writing)
        funnel.drain()
    os.close(reading)
    assert log.read_text().startswith("012 45 78\n\n… ar: 30 bytes are left out here …\n012 45 78\n")


@pytest.mark.parametrize("before", [0, 3, 985, 991, 999, 1_000, 5_000, 20_000])
@pytest.mark.parametrize("after", [0, 985, 1_001, 9_000, 30_000])
def test_no_part_of_a_secret_is_in_the_file_at_any_time(tmp_path: Path, before: int, after: int) -> None:
    """However it comes, and wherever in the log its beginning, its end and what is left out are."""
    secret = "correcthorse batterystaple"
    text = "12 ü\n" * (before // 6) + "." * (before % 6) + secret + "\n" + "ü 34\n" * (after // 6)
    printed = text.encode()
    log, (reading, writing) = tmp_path / "log", os.pipe()
    with log.open("ab") as target:
        funnel = Funnel(reading, target.fileno(), [secret], head=1000, tail=1000)
        for at in range(0, len(printed), 13):
            os.write(writing, printed[at : at + 13])
            funnel.pump()
            if at % 3 == 0:
                funnel.show()
                found = re.search(".*(corr|batt|aple).*", log.read_text(errors="replace"))
                assert not found, (at, found)
        os.close(writing)
        funnel.drain()
    os.close(reading)
    text = log.read_text()
    assert not re.search("corr|horse|batt|staple", text)
    assert text.startswith(printed[:before].decode()[:800]) and text.endswith("\n")
    assert ("left out" in text) == (len(printed) > 2000)


# -- what a stage uses ---------------------------------------------------------------------------------------


def test_memory_that_processes_share_counts_once(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "held = b'x' * 60_000_000\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0: break\n"
        "else: print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
    ) as it:
        try:
            assert it.stdout
            it.stdout.readline()
            family = [it.pid, *limits.descendants(it.pid)]
            assert len(family) == 5
            assert limits.resident(family) > 5 * 60_000_000
            assert 60_000_000 < limits.proportional(family)[0] < 120_000_000
            wide, narrow = (Limits(size, 1000, 10**9) for size in (200_000_000, 50_000_000))
            assert limits.Monitor(wide, tmp_path, 0).memory(family) is None
            breach = limits.Monitor(narrow, tmp_path, 0).memory(family)
            assert breach and breach.cause is Cause.EXCESS
        finally:
            os.killpg(it.pid, 9)


def test_empty_files_count_too(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / str(number)).touch()
    assert limits.usage(tmp_path) >= 300_000


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 bytes"), (300e6, "300 MB"), (24e9, "24 GB"), (1.5e12, "1.5 TB")]
)
def test_sizes_in_words(count: float, text: str) -> None:
    assert limits.size(count) == text


@pytest.mark.skipif(not shutil.which("base64"), reason="no base64 here")
def test_what_a_stage_was_handed_leaves_it_under_no_name_and_in_no_spelling(
    project: Path, ar: Ar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDPOINT", "zq8Xk2Lm9-Pv4Rt7Yw1")
    shown = "echo $ENDPOINT && printf %s $ENDPOINT | base64 && echo said && "
    edit(project / "dvc.yaml", "awk -f", f"{shown}awk -f")
    edit(project / "program.md", "budget:", "sandbox: {env: [ENDPOINT]}\nbudget:")
    commit(project, "Print what was handed on")
    ar(project, "run", "-n", "0", "--plain")
    log = ar(project, "log", str(attempts_of(project)[0]["name"])).stdout
    assert "said" in log
    assert "zq8Xk2" not in log
    assert "enE4WGsy" not in log  # its beginning in base64
    assert not run(project, "grep", "-rlE", "zq8Xk2|enE4WGsy", ".git", check=False).stdout


def test_what_a_stage_was_handed_is_in_no_log_while_it_runs(
    project: Path, ar: Ar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the log on disk does not know the value."""
    monkeypatch.setenv("ENDPOINT", "zq8Xk2Lm9-Pv4Rt7Yw1")
    edit(project / "dvc.yaml", "awk -f", "echo begun $ENDPOINT && sleep 3 && awk -f")
    edit(project / "program.md", "budget:", "sandbox: {env: [ENDPOINT]}\nbudget:")
    commit(project, "Print what was handed on")
    ar(project, "next")
    with subprocess.Popen([sys.executable, "-c", ONE, str(project)]) as worker:
        wait_for(lambda: any("begun" in path.read_text() for path in project.glob(".git/ar/**/log")))
        logs = [path.read_text() for path in project.glob(".git/ar/**/log")]
        worker.terminate()
    assert logs and "zq8Xk2Lm9" not in "".join(logs)


@pytest.mark.parametrize(
    "does",
    [
        'touch "$ENDPOINT"',  # is removed, and the log says what
        pytest.param('ln -s / "$ENDPOINT"', marks=pytest.mark.slow),  # ends the run, and the note says why
        pytest.param("printf '{%s: 1}' $ENDPOINT > m.json && touch c.yaml && exit 0", marks=pytest.mark.slow),
    ],
)
def test_what_a_stage_was_handed_is_in_no_word_of_how_it_ended(
    project: Path, ar: Ar, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    monkeypatch.setenv("ENDPOINT", "zq8Xk2Lm9-Pv4Rt7Yw1")
    edit(project / "dvc.yaml", "cmd: awk -f", f"cmd: |-\n      {does}\n      awk -f")
    edit(project / "program.md", "budget:", "sandbox: {env: [ENDPOINT]}\nbudget:")
    commit(project, "Tell what was handed on by other words")
    _, log = _run_one(project, ar)
    shown = log + git(project, "log", "-p", "refs/notes/ar") + ar(project, "show").stdout
    assert "status" in shown
    assert "zq8Xk2" not in shown

"""`ar` calls that are the archiver's reach the archiver; all others stay ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from ar.cli.archiver import NoArchiver, exec_archiver, is_archiver_call

COMMANDS = [
    *("init", "doctor", "next", "run", "show", "diff", "log", "promote", "plot", "judge", "baseline", "push"),
    *("pull", "stack", "climb", "report", "stop", "--help", "--version", "--debug", "-C"),
]

ARCHIVERS = [
    "rcs lib.a x.o",
    "rcs lib.a",
    "-rcs lib.a x.o y.o",
    "cr lib.a x.o",
    "crD lib.a x.o",
    "cru lib.a x.o",
    "cq lib.a x.o",
    "qc lib.a x.o",
    "csrDT lib.a x.o",
    "rcsTPD lib.a x.o",
    "-t lib.a",
    "t lib.a",
    "tv lib.a x.o",
    "tO lib.a",
    "s lib.a",
    "-s lib.a",
    "ts lib.a",
    "p data.deb data.tar.xz",
    "x lib.a",
    "xo lib.a x.o",
    "d lib.a x.o",
    "dv lib.a x.o",
    "m lib.a x.o",
    "ma first.o lib.a x.o",
    "rb first.o lib.a x.o",
    "ri first.o lib.a x.o",
    "xN 2 lib.a x.o",
    "dN 1 lib.a x.o",
    "rUc lib.a x.o",
    "r -c lib.a x.o",
    "-r -c -s lib.a x.o",
    "-c -r lib.a x.o",
    "rc -- lib.a x.o",
    "--plugin liblto_plugin.so rcs lib.a x.o",
    "rcs --plugin=liblto_plugin.so lib.a x.o",
    "rc --thin lib.a x.o",
    "--thin rc lib.a x.o",
    "--target=elf64-x86-64 rc lib.a x.o",
    "--target elf64-x86-64 t lib.a",
    "x --output out lib.a",
    "--format=gnu rc lib.a x.o",
    "--record-libdeps=-lm rc lib.a x.o",
    "-X32_64 rc lib.a x.o",
    "-X64 -rc lib.a x.o",
    "cr lib.a @objects.lst",
    "@arguments",
    "-M",
    "M",
    "-V",
]

OURS = [
    "",
    "show",
    "run -n 4",
    "next --dry-run",
    "diff rcs",
    "--help",
    "--version",
    "-h",
    "--debug show",
    "-C folder show",
    # slips of the fingers
    "shwo",
    "shwo x",
    "runn",
    "runn -n 4",
    "sow",
    "rum",
    "rnu -n 4",
    "pt lib.a",
    "dm lib.a",
    "stop now",
    "prmote x",
    "dif lr-up",
    "dif",
    "pus origin",
    "lo x",
    "lgo x",
    "plo",
    "--hlep",
    "--plugin",
    "r -n 4",
    "s --json",
    "r --hours 3",
    # operations without the operands they need
    "t",
    "-t",
    "rcs",
    "s",
    "ma lib.a",
    "xN lib.a",
    "c lib.a",
    "v lib.a",
    "rN 1 lib.a",
    "qu lib.a",
    "xu lib.a",
    "-M script",
    "@",
    "-",
    "rcs! lib.a",
]


@pytest.mark.parametrize("line", ARCHIVERS)
def test_archiver_calls(line: str) -> None:
    assert is_archiver_call(line.split(), COMMANDS)


@pytest.mark.parametrize("line", OURS)
def test_our_calls(line: str) -> None:
    assert not is_archiver_call(line.split(), COMMANDS)


def test_our_command_wins_over_the_grammar() -> None:
    assert is_archiver_call(["t", "lib.a"], ["show"])
    assert not is_archiver_call(["t", "lib.a"], ["t"])


# -- the real archiver ------------------------------------------------------------------------------------

needs_binutils = pytest.mark.skipif(
    not (shutil.which("gcc") and Path("/usr/bin/ar").exists()), reason="needs gcc and binutils"
)
Ar = Callable[..., "subprocess.CompletedProcess[str]"]


def console_script(folder: Path) -> Path:
    """A script such as pip installs, without needing our command line."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "ar"
    script.write_text(
        f"#!{sys.executable}\n"
        + textwrap.dedent(
            """
            # stands for: from ar.cli.main import main
            import sys
            from ar.cli.archiver import exec_archiver, is_archiver_call
            from ar.errors import ArError
            if not is_archiver_call(sys.argv[1:], ["next", "show"]):
                sys.exit(print("ours"))
            try:
                exec_archiver(sys.argv[1:])
            except ArError as error:
                print(error, file=sys.stderr)
                sys.exit(error.exit_code)
            """
        )
    )
    script.chmod(0o755)
    return script


def environment(*folders: Path) -> dict[str, str]:
    source = Path(__file__).parents[1] / "src"
    return {**os.environ, "PYTHONPATH": str(source), "PATH": os.pathsep.join(map(str, folders))}


@pytest.fixture
def ar(tmp_path: Path) -> Ar:
    """Calls `ar` with two of our scripts (two environments) before the archiver on PATH."""
    first, second = console_script(tmp_path / "one"), console_script(tmp_path / "two")
    env = environment(first.parent, second.parent, Path("/usr/bin"), Path("/bin"))

    def call(*argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ar", *argv], env=env, cwd=tmp_path, input=stdin, text=True, capture_output=True, timeout=60
        )

    return call


@pytest.fixture
def objects(tmp_path: Path) -> list[str]:
    for name in ("one", "two"):
        (tmp_path / f"{name}.c").write_text(f"int {name}(void) {{ return {1 if name == 'one' else 2}; }}\n")
        subprocess.run(["gcc", "-c", f"{name}.c"], cwd=tmp_path, check=True)
    return ["one.o", "two.o"]


def assert_links(folder: Path, library: str) -> None:
    (folder / "main.c").write_text("int one(void), two(void);\nint main(void) { return one() + two(); }\n")
    subprocess.run(["gcc", "main.c", library, "-o", "program"], cwd=folder, check=True)
    assert subprocess.run([str(folder / "program")]).returncode == 3


@needs_binutils
def test_builds_a_library_that_links_and_runs(ar: Ar, objects: list[str], tmp_path: Path) -> None:
    built = ar("rcs", "lib.a", *objects)
    assert (built.returncode, built.stderr) == (0, "")
    assert ar("t", "lib.a").stdout.split() == objects
    assert_links(tmp_path, "lib.a")


@needs_binutils
def test_librarian_script_on_standard_input(ar: Ar, objects: list[str], tmp_path: Path) -> None:
    script = "CREATE lib.a\nADDMOD one.o\nADDMOD two.o\nSAVE\nEND\n"
    assert ar("-M", stdin=script).returncode == 0
    assert_links(tmp_path, "lib.a")


@needs_binutils
def test_exit_code_and_message_pass_through(ar: Ar) -> None:
    failed = ar("t", "absent.a")
    alone = subprocess.run(["/usr/bin/ar", "t", "absent.a"], capture_output=True)
    assert failed.returncode == alone.returncode != 0
    assert "absent.a" in failed.stderr


@pytest.mark.parametrize(("line", "files"), [("dff lr-up", ""), ("plo x.o", ""), ("sop x lib.a", "lib.a")])
def test_slip_is_ours_where_the_archiver_would_miss_a_file(
    line: str, files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in files.split():
        (tmp_path / name).touch()
    assert not is_archiver_call(line.split(), COMMANDS)
    (tmp_path / line.split()[1]).touch()
    assert is_archiver_call(line.split(), COMMANDS)


@needs_binutils
def test_slip_names_the_nearest_command_and_makes_no_file(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("ar")
    failed = subprocess.run(
        [script, "dff", "lr-up"], cwd=tmp_path, text=True, capture_output=True, timeout=60
    )
    assert failed.returncode == 2
    assert "'diff'" in failed.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("entry", ["", "."])
def test_archiver_in_the_folder_at_hand_is_never_run(entry: str, tmp_path: Path) -> None:
    script, planted = console_script(tmp_path / "one"), tmp_path / "ar"
    planted.write_text("#!/bin/sh\necho planted\n")
    planted.chmod(0o755)
    env = environment(script.parent)
    env["PATH"] += os.pathsep + entry
    call = [str(script), "rcs", "lib.a"]
    failed = subprocess.run(call, env=env, cwd=tmp_path, text=True, capture_output=True, timeout=60)
    assert (failed.returncode, failed.stdout) == (127, "")


@needs_binutils
def test_arguments_are_untouched(ar: Ar, objects: list[str], tmp_path: Path) -> None:
    name = "a b'$x\".a"
    assert ar("rc", name, *objects).returncode == 0
    assert (tmp_path / name).exists()


def test_our_commands_stay_ours(ar: Ar) -> None:
    assert ar("next").stdout == "ours\n"


def test_no_archiver_on_path(tmp_path: Path) -> None:
    script = console_script(tmp_path / "one")
    other = console_script(tmp_path / "two")
    failed = subprocess.run(
        [str(script), "rcs", "lib.a"],
        env=environment(script.parent, other.parent),
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert failed.returncode == 127
    assert "binutils" in failed.stderr


def test_wrapper_that_calls_us_again_does_not_loop(tmp_path: Path) -> None:
    script = console_script(tmp_path / "one")
    shim = tmp_path / "shims" / "ar"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {script} "$@"\n')
    shim.chmod(0o755)
    failed = subprocess.run(
        [str(shim), "t", "lib.a"],
        env=environment(shim.parent, script.parent),
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert failed.returncode == 127


def test_files_that_cannot_be_executed_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "ar"
    broken.write_bytes(b"\x00not a program")
    broken.chmod(0o755)
    (tmp_path / "folder" / "ar").mkdir(parents=True)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), str(tmp_path / "folder")]))
    with pytest.raises(NoArchiver):
        exec_archiver(["t", "lib.a"])

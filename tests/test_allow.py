"""Nothing that a repository says runs, and no wall gets wider, before this machine's owner allowed it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers import PROGRAM, Ar, commit, edit, git, run, swap

from ar.agents import make
from ar.errors import NotAllowed
from ar.git.repo import Repo
from ar.local import allowed
from ar.project.program_file import parse
from ar.project.project import Project
from ar.runs import demands
from ar.runs.pipeline import Failure, Pipeline

AR = (sys.executable, "-m", "ar")


@pytest.fixture
def hostile(project: Path, tmp_path: Path) -> Path:
    """A fresh clone of a repository whose agent and whose stage leave a mark where they ran as the user."""
    text = (project / "program.md").read_text()
    mark = tmp_path / "ran"
    agent = f'agent: {{kind: command, command: [touch, "{mark}"]}}\nsandbox: off\n'
    (project / "program.md").write_text(swap(text, "budget:", f"{agent}budget:"))
    edit(project / "dvc.yaml", "cmd: awk", f"cmd: touch {mark}; awk")
    commit(project, "Harmless")
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(project), str(clone))
    return clone


@pytest.mark.parametrize(
    "args", [("next",), ("run", "-n", "1", "--plain"), ("baseline", "--plain"), ("worker",), ("doctor",)]
)
def test_a_fresh_clone_runs_nothing_unasked(hostile: Path, args: tuple[str, ...]) -> None:
    done = run(hostile, *AR, *args, check=False)
    assert done.returncode == 2
    assert "ar allow" in done.stderr + done.stdout
    assert not (hostile.parent / "ran").exists()
    assert not Project.open(hostile).repo.refs("refs/ar")


@pytest.mark.parametrize("args", [("show",), ("log",), ("report",), ("stop",)])
def test_reading_needs_no_leave(hostile: Path, args: tuple[str, ...]) -> None:
    assert "ar allow" not in run(hostile, *AR, *args, check=False).stderr


def test_what_was_allowed_runs_until_it_changes(hostile: Path) -> None:
    run(hostile, *AR, "allow")
    demands.refuse((repo := Project.open(hostile).repo), demands.of_project(Project.open(hostile)))
    edit(hostile / "program.md", "[touch,", "[touch, -c,")
    [new] = demands.not_allowed(Project.open(hostile))
    assert '"-c"' in new
    with pytest.raises(NotAllowed):
        make(Project.open(hostile).program.agents[0], repo)
    edit(hostile / "program.md", "[touch, -c,", "[touch,")
    edit(hostile / "dvc.yaml", "; awk", "; true; awk")
    commit(hostile, "Another command")
    [new] = demands.not_allowed(Project.open(hostile))
    assert "true; awk" in new


def test_a_worker_obeys_no_sandbox_setting_that_changed_under_it(project: Path, ar: Ar) -> None:
    ar(project, "next")
    edit(project / "program.md", "budget:", "sandbox: off\nbudget:")
    commit(project, "Open the door")
    code = "from ar.git.repo import Repo; from ar.runs.worker import Worker; Worker(Repo.open()).run_next()"
    done = run(project, sys.executable, "-c", code, check=False)
    assert "NotAllowed" in done.stderr
    assert git(project, "for-each-ref", "refs/ar/queue")
    assert not git(project, "for-each-ref", "refs/ar/running")


def test_no_commit_can_carry_leave_along(hostile: Path, tmp_path: Path) -> None:
    run(hostile, *AR, "allow")
    other = tmp_path / "other"
    run(tmp_path, "git", "clone", "-q", "--mirror", str(hostile), str(other / ".git"))
    run(other, "git", "config", "core.bare", "false")
    run(other, "git", "checkout", "-q", "-f")
    assert demands.not_allowed(Project.open(other))
    assert not git(hostile, "status", "--porcelain")


@pytest.mark.parametrize(
    "line",
    [
        "sandbox: {network: true}",
        "sandbox: {env: [HOME_KEY]}",
        "sandbox: {read: [~/.ssh]}",
        "sandbox: {stages: {fit: {network: true}}}",
        "sandbox: {stages: {fit: {read: [/etc]}}}",
        "sandbox: {memory: 999GB}",
        "sandbox: {processes: 100000}",
        "agent: {kind: claude, base_url: 'https://example.com'}",
        "agent: {kind: command, command: x, env: [KEY]}",
    ],
)
def test_whatever_widens_a_wall_or_starts_something_is_asked_for(project: Path, line: str) -> None:
    assert not demands.not_allowed(Project.open(project))
    edit(project / "program.md", "budget:", f"{line}\nbudget:")
    found = Project.open(project)
    assert demands.not_allowed(found)
    demands.allow(found)
    assert not demands.not_allowed(found)


@pytest.mark.parametrize("path", ["/etc/shadow", "../secret", "data/../../secret"])
def test_a_stage_that_depends_on_a_file_outside_is_asked_for(project: Path, path: str) -> None:
    edit(project / "dvc.yaml", "deps: [fit.awk]", f"deps: [fit.awk, {path}]")
    commit(project, "Read more")
    [line] = demands.not_allowed(Project.open(project))
    assert ("/etc/shadow" if path.startswith("/") else str(project.parent / "secret")) in line


@pytest.mark.parametrize("file", [".dvc/config", ".dvc/config.local"])
def test_a_cache_that_a_commit_names_is_asked_for(project: Path, file: str) -> None:
    (project / file).write_text("[Cache]\n    Dir = /somewhere/else\n")
    assert not demands.not_allowed(Project.open(project))  # the user's own, as long as it is not committed
    git(project, "add", "-f", file)
    commit(project, "Keep it elsewhere")
    [line] = demands.not_allowed(Project.open(project))
    assert "/somewhere/else" in line


def test_a_project_without_demands_needs_no_leave(project: Path, ar: Ar) -> None:
    assert demands.of_project(Project.open(project)) == ()
    run(project, *AR, "next")
    assert "sandbox" in ar(project, "allow").stdout


def test_a_broken_record_allows_nothing(hostile: Path) -> None:
    repo = Project.open(hostile).repo
    for content in ("", "{}", "[1, [2]]", "[" * 100_000):
        (repo.own_folder() / "allowed.json").write_text(content)
        assert allowed.read(repo) == frozenset()


def test_a_line_cannot_hide_what_it_says() -> None:
    text = PROGRAM.replace(
        "budget:", 'agent: {kind: command, command: ["a\\u202eb", "\\u001b[2K", c]}\nbudget:'
    )
    [line] = demands.of_agent(parse(text).agents[0])
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 130), (b"y\n", 0)])
def test_on_a_terminal_it_asks(project: Path, answer: bytes, code: int) -> None:
    edit(project / "program.md", "budget:", "sandbox: {network: true}\nbudget:")
    commit(project, "Ask for the network")
    leader, follower = pty.openpty()
    ran = subprocess.Popen(
        [*AR, "next"], cwd=project, stdin=follower, stdout=subprocess.DEVNULL, stderr=follower
    )
    os.close(follower)
    os.write(leader, answer)
    assert ran.wait(timeout=120) == code
    assert (not demands.not_allowed(Project.open(project))) == (code == 0)
    os.close(leader)


# -- what DVC itself would do, outside every sandbox -------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine: its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("ETag", "x")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"hi")

        do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815 - http.server's names

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}", asked
    web.shutdown()
    web.server_close()


def _plant(root: Path, files: Mapping[str, str]) -> None:
    """Commit files, those of DVC's settings too."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(root, "add", "-f", "dvc.yaml", *files)
    git(root, "commit", "-qm", "Plant")


def _data_file(dep: str, out: str = "dl") -> str:
    return f"frozen: false\ndeps:\n- {dep}\nouts:\n- {out}\n"


def test_settings_of_a_clone_make_dvc_send_fetch_and_run_nothing(
    project: Path, tmp_path: Path, server: tuple[str, list[str]], ar: Ar
) -> None:
    url, asked = server
    mark = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    settings = f"""[core]
    remote = evil
    autostage = true
    check_update = true
    site_cache_dir = {tmp_path}/site
[exp]
    auto_push = true
    git_remote = origin
[studio]
    token = aaaa
    url = {url}
    repo_url = {url}/r
    offline = false
[hydra]
    enabled = true
    config_dir = conf
    plugins_path = plug
['remote "evil"']
    url = {tmp_path}/evil
"""
    names = ("plug/hydra_plugins/x/a.py", "plug/hydra_plugins/x/__init__.py")
    conf = {"conf/config.yaml": "x: 1.5\ny: 0.03\nseed: 1\n", ".dvc/config": settings}
    _plant(project, dict.fromkeys(names, mark) | conf)
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(project), str(clone))
    before = git(project, "for-each-ref")
    assert not demands.not_allowed(Project.open(clone))
    ar(clone, "run", "-n", "1", "--plain")
    assert Project.open(clone).repo.refs("refs/exps")
    assert not asked
    assert not {path.name for path in tmp_path.iterdir()} & {"ran", "evil", "site"}
    assert git(project, "for-each-ref") == before
    assert git(clone, "diff", "--cached", "--name-only") == ""


@pytest.mark.parametrize(
    ("dep", "shown"),
    [
        ("path: URL/x", "URL/x"),
        ("{path: x, repo: {url: URL/r.git, rev_lock: '0'}}", "URL/r.git"),
        ("{db: {connection: c, query: drop table x, file_format: csv}}", "drop table x"),
        ("path: /home/somebody/secret", "/home/somebody/secret"),
        ("path: ../../../../../secret", "../../../../../secret"),
        ("path: [&a [*a]]", "sha256"),
    ],
)
def test_what_dvc_would_bring_in_is_asked_for(
    project: Path, server: tuple[str, list[str]], dep: str, shown: str
) -> None:
    url, asked = server
    _plant(project, {"data/dl.dvc": _data_file(dep.replace("URL", url))})
    [line] = demands.not_allowed(Project.open(project))
    assert shown.replace("URL", url) in line and '"data/dl.dvc"' in line
    demands.allow(Project.open(project))
    assert not demands.not_allowed(Project.open(project))
    _plant(project, {"data/dl.dvc": f"md5: {'a' * 32}\n{_data_file(dep.replace('URL', url))}"})
    assert bool(demands.not_allowed(Project.open(project))) == (shown == "sha256")
    _plant(project, {"data/dl.dvc": _data_file(f"path: {url}/other")})
    assert demands.not_allowed(Project.open(project))
    assert not asked


def test_what_stages_have_dvc_fetch_is_asked_for(project: Path, server: tuple[str, list[str]]) -> None:
    url, asked = server
    edit(project / "dvc.yaml", "deps: [fit.awk]", f"deps: [fit.awk, '{url}/x', 'remote://evil/y']")
    _plant(project, {".dvc/config": f"['remote \"evil\"']\n    url = {url}/base\n"})
    lines = demands.not_allowed(Project.open(project))
    assert [f"{url}/x" in lines[0], f"{url}/base" in lines[1]] == [True, True]
    done = run(project, *AR, "baseline", "--plain", check=False)
    assert done.returncode == 2
    assert not asked


def test_commands_of_hidden_folders_are_asked_for_too(project: Path) -> None:
    """DVC runs them as it runs others, and so it does what an old `.dvc` file has for a stage."""
    program = swap((project / "program.md").read_text(), "budget:", "sandbox: off\nbudget:")
    stages = {".x/dvc.yaml": "stages: {a: {cmd: one}}\n", "y.dvc": "cmd: two\n"}
    _plant(project, {"program.md": program, **stages})
    lines = demands.not_allowed(Project.open(project))
    assert [line for line in lines if '"one"' in line and '".x/dvc.yaml"' in line]
    assert [line for line in lines if '"two"' in line and '"y.dvc"' in line]


@pytest.mark.parametrize("path", ["/home/somebody/keys.yaml", "../../keys.yaml", "sub/../../keys.yaml"])
def test_values_that_commands_take_from_outside_are_asked_for(project: Path, path: str) -> None:
    """What stands there ends in a command line, and that in dvc.lock, which is pushed."""
    edit(project / "dvc.yaml", "stages:", f"vars:\n- '{path}:token'\nstages:")
    edit(project / "dvc.yaml", "cmd: awk", "cmd: echo ${token}; awk")
    commit(project, "Harmless")
    [line] = demands.not_allowed(Project.open(project))
    assert "keys.yaml" in line


def test_no_output_lies_outside_whatever_is_allowed(
    project: Path, tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    """DVC removes an output before its stage runs, and writes what it fetches: anywhere, as the user."""
    url, asked = server
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (project / "link").symlink_to(tmp_path)
    git(project, "add", "link")
    dvc_yaml, up = (project / "dvc.yaml").read_text(), "../" * 4
    for out in (
        victim,
        f"{up}victim",
        "link/victim",
        f"{url}/out",
        ".git/config",
        ".dvc/config.local",
        "x.dvc",
    ):
        own = swap(dvc_yaml, "    metrics:", f"    outs:\n    - {out}: {{cache: false}}\n    metrics:")
        brought = {
            "dvc.yaml": swap(dvc_yaml, "deps: [fit.awk]", f"deps: [fit.awk, '{out}']"),
            "dl.dvc": _data_file(f"path: {url}/x", f"{{path: {out}, cache: false}}"),
        }
        for files in ({"dvc.yaml": own, "dl.dvc": "outs: []\n"}, brought):
            _plant(project, {**files, "note.txt": f"{out} {len(files['dvc.yaml'])}"})
            demands.allow(Project.open(project))
            repo = Repo.open(project)
            pipeline, head = Pipeline(repo), repo.head()
            with pipeline.workspace("run", head, head) as workspace:
                config = (workspace.top / ".git/config").read_bytes()
                assert isinstance(
                    pipeline.reproduce(workspace, "Run", ["dvc.yaml"], lambda _: None), Failure
                ), files
                assert (workspace.top / ".git/config").read_bytes() == config
            assert victim.read_text() == "precious"
    assert not asked


def test_a_run_brings_in_nothing_that_its_baseline_does_not(
    project: Path, tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    """Whatever the tree of a queued experiment says: its demands were those of the baseline."""
    url, asked = server
    (tmp_path / "secret").write_text("secret")
    repo, pipeline = Repo.open(project), Pipeline(Repo.open(project))
    head, dvc_yaml = repo.head(), (project / "dvc.yaml").read_text()
    for files in (
        {"dl.dvc": _data_file(f"path: {tmp_path}/secret").encode()},
        {"dl.dvc": _data_file(f"path: {url}/x").encode()},
        {"dvc.yaml": swap(dvc_yaml, "deps: [fit.awk]", f"deps: [fit.awk, {tmp_path}/secret]").encode()},
        {"dvc.yaml": swap(dvc_yaml, "deps: [fit.awk]", f"deps: [fit.awk, '{url}/x']").encode()},
        {"dvc.yaml": swap(dvc_yaml, "params: [", f"params: [{{{tmp_path}/secret: }}, ").encode()},
    ):
        rev = repo.commit_tree(repo.write_tree(repo.tree(head), files), [head], "Odd")
        with pipeline.workspace("run", rev, head) as workspace:
            assert isinstance(pipeline.reproduce(workspace, "Run", ["dvc.yaml"], lambda _: None), Failure), (
                files
            )
    assert not asked

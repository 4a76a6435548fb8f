"""A command-line agent works in a checkout of its own; whatever it does there, the user's stays untouched."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import Ar, allow, commit, edit, git, snapshot, swap, wait_for
from synthetic import Made, write

from ar.agents import Briefing, Channel, account
from ar.agents import command as agent_command
from ar.agents.base import Dropped
from ar.agents.command import CommandAgent
from ar.agents.transcript import proposal, read
from ar.campaign.campaign import Campaign
from ar.changes.proposal import Change
from ar.errors import AgentFailed, ArError, BadProposal, OutOfBudget
from ar.git.repo import Repo
from ar.history.spend import Spend
from ar.local import allowed
from ar.project.program import Sandbox
from ar.project.program_file import load
from ar.project.project import Project
from ar.runs import demands, sandbox

Script = Callable[[str], Campaign]


@pytest.fixture
def root(project: Path) -> Path:
    """A project with a package in scope, a file that is not, and a holdout."""
    (project / "src").mkdir()
    for name, text in (("src/a.py", "a = 1\n"), ("src/b.py", "b = 1\n"), ("src/run.sh", "echo 1\n")):
        (project / name).write_text(text)
    (project / "src" / "run.sh").chmod(0o755)
    (project / "src" / "table.bin").write_bytes(bytes(range(256)))
    (project / "kept").symlink_to("src//a.py")
    (project / "notes.txt").write_text("notes\n")
    (project / ".gitignore").write_text("*.tmp\n")
    edit(project / "program.md", "[fit.awk]", '[fit.awk, "src/**"]')
    commit(project, "Add source")
    return project


@pytest.fixture
def script(root: Path, tmp_path: Path) -> Script:
    """A campaign whose agent is a shell script; what it leaves in `$OUT` is kept for the test."""

    def make(text: str, **settings: object) -> Campaign:
        path = tmp_path / "agent.sh"
        path.write_text(f"#!/bin/sh\nset -e\nOUT={tmp_path}\n{text}\n")
        path.chmod(0o755)
        agent = {"kind": "command", "command": [str(path), "an argument"], "timeout": 20, **settings}
        edit(root / "program.md", "budget:", f"agent: {json.dumps(agent)}\nbudget:")
        commit(root, "Choose an agent")
        repo = Repo.open(root)
        allow(repo.root)
        return Campaign(Project.open(repo.root))

    return make


def _changed(root: Path, change: Change) -> dict[str, str]:
    lines = git(root, "diff", "--name-status", "--no-renames", "HEAD", change.tree).splitlines()
    return {line.split("\t")[1]: line.split("\t")[0] for line in lines}


def test_what_it_changed_is_the_proposal(root: Path, script: Script, ar: Ar, tmp_path: Path) -> None:
    script(
        """
        test "$1" = "an argument"
        cat > "$OUT/stdin"; cp .ar-briefing.md "$OUT/file"; pwd > "$OUT/pwd"; git log --oneline > "$OUT/log"
        ls > "$OUT/ls"
        cat "$AR_CAMPAIGN"/experiments/*/hypothesis.md .ar-campaign/notebook.md > "$OUT/campaign"
        echo mine > "$AR_CAMPAIGN/notebook.md" 2>/dev/null || echo "read-only" >> "$OUT/campaign"
        echo "the floor" > .ar-working-on
        echo "a = 2" > src/a.py
        sed -i 's/x: 1.5/x: 2.5/' params.yaml
        echo "thinking aloud" >&2
        echo "# Double a, and move x"
        echo
        echo "The floor lies further right, as baseline-s1 suggests."
        echo "**Expected:** -0.1"
        """
    )
    write(root, [Made(2.2, 1.5, agent="claude")])
    (root / "untracked.txt").write_text("mine\n")
    (root / "src" / "b.py").write_text("b = 'mine'\n")
    git(root, "status")
    before = snapshot(root)
    time.sleep(0.02)

    ar(root, "next")

    assert snapshot(root) == before
    rev = git(root, "for-each-ref", "refs/ar/queue", "--format=%(objectname)")
    assert git(root, "show", f"{rev}:src/a.py") == "a = 2"
    assert git(root, "show", f"{rev}:src/b.py") == "b = 1"
    assert "x: 2.5" in git(root, "show", f"{rev}:params.yaml")
    message = git(root, "show", "-s", "--format=%B", rev)
    assert message.startswith(
        "Double a, and move x\n\nThe floor lies further right, as baseline-s1 suggests.\n"
    )
    assert "Ar-Agent: command" in message
    campaign = (tmp_path / "campaign").read_text()
    assert "x 1.5 → 2.2" in campaign and "Lessons" in campaign
    if os.geteuid() or sandbox.find(Sandbox()).program:
        assert "read-only" in campaign
    assert "Ar-Expected: -0.1" in message
    briefing = (tmp_path / "stdin").read_text()
    assert briefing == (tmp_path / "file").read_text()
    assert "Find the floor of the bowl." in briefing
    assert not Path((tmp_path / "pwd").read_text().strip()).is_relative_to(root)
    assert "Baseline" in (tmp_path / "log").read_text()
    assert "m.json" not in (tmp_path / "ls").read_text()  # measured values, the holdout's among them
    assert not Path((tmp_path / "pwd").read_text().strip()).exists()


def test_edits_outside_the_scope_come_back_with_the_reason(
    script: Script, root: Path, tmp_path: Path
) -> None:
    """Asked again, it finds its checkout as it left it."""
    campaign = script(
        """
        cat > "$OUT/stdin"
        if grep -q "were refused" "$OUT/stdin"; then
            git checkout -q notes.txt
        else
            echo "a = 3" > src/a.py
            echo "more" >> notes.txt
        fi
        echo "Triple a"
        """
    )
    change = campaign.propose()
    assert _changed(root, change) == {"src/a.py": "M"}
    assert "notes.txt lies outside the scope" in (tmp_path / "stdin").read_text()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("echo x > notes.txt", "notes.txt lies outside the scope"),
        ("rm notes.txt", "notes.txt lies outside the scope"),
        ("chmod +x notes.txt", "notes.txt lies outside the scope"),
        ("ln -sf /etc kept", "kept lies outside the scope"),
        ("mkdir -p .dvc && echo x > .dvc/config.local.x", "outside the scope"),
        ("echo x >> dvc.yaml", "dvc.yaml lies outside the scope"),
        ("sed -i 's/seed: 1/seed: 2/' params.yaml", "seed is the seed"),
        ("sed -i 's/x: 1.5/x: [/' params.yaml", "params.yaml does not parse"),
        ("rm params.yaml", "may be neither added nor deleted"),
        ("rm src/a.py; ln -s /etc/passwd src/a.py", "src/a.py is a link"),
        ("rm -r src; ln -s /etc src", "src lies outside the scope"),
        ("mkfifo src/pipe", "src/pipe is no regular file"),
        ("truncate -s 3000000000 src/huge.bin", "src/huge.bin is longer than 1000000 bytes"),
        ("echo 'a = (' > src/a.py", "src/a.py does not compile"),
        ("for n in $(seq 300); do echo > src/f$n; done", "300 changed files are too many"),
        ("printf x > \"src/$(printf 'a\\377b')\"", "not UTF-8"),
        ("printf x > \"src/$(printf 'a\\nb')\"", "no path inside the project"),
        (
            "echo x > ignored.tmp; echo 'not much to do'",
            "changed no file that counts; it said: not much to do",
        ),
    ],
)
def test_what_it_may_not(script: Script, root: Path, text: str, says: str) -> None:
    campaign = script(text)
    agent = CommandAgent(campaign.program.agents[0], campaign.repo, Channel())
    history = campaign.history()
    with pytest.raises(ArError) as caught:
        campaign.check(agent.propose(Briefing(campaign.program, history)))
    assert says in str(caught.value)
    assert git(root, "status", "--porcelain") == ""


def test_commits_deletions_modes_and_binary_files(script: Script, root: Path) -> None:
    campaign = script(
        """
        echo "n = 1" > src/new.py; echo "echo 2" > src/new.sh; chmod +x src/new.sh; chmod -x src/run.sh
        printf '\\000\\001' > src/table.bin
        git add -A; git commit -qm "Mine"
        git rm -q src/b.py; git commit -qm "And again"
        mkdir src/__pycache__; echo > src/__pycache__/a.pyc; echo > src/x.tmp; echo '*.log' >> .gitignore
        echo "{}" > m.json; echo > dvc.lock
        echo "A change of many files"
        """
    )
    assert _changed(root, campaign.propose()) == {
        "src/new.py": "A",
        "src/new.sh": "A",
        "src/run.sh": "M",
        "src/table.bin": "M",
        "src/b.py": "D",
    }


@pytest.mark.parametrize(
    "text", ["rm -rf .git", "rm -rf .git; echo 'gitdir: /nowhere' > .git", "mv .git src/g"]
)
def test_its_git_directory_is_of_no_importance(script: Script, root: Path, text: str) -> None:
    campaign = script(f"{text}; rm -rf src/g; echo 'a = 5' > src/a.py; git init -q src/sub; echo Five")
    assert _changed(root, campaign.propose()) == {"src/a.py": "M"}


def test_the_users_checkout_is_not_there(script: Script, root: Path, tmp_path: Path) -> None:
    wall = sandbox.find(Sandbox())
    if not wall.program:
        pytest.skip(wall.why)
    campaign = script(
        f"""
        ls -A {root} > "$OUT/seen" || true; echo x > {root}/fit.awk || true; rm -rf {root}/.git || true
        echo 'a = 4' > src/a.py; echo Four
        """
    )
    before = snapshot(root)
    assert _changed(root, campaign.propose()) == {"src/a.py": "M"}
    assert snapshot(root) == before
    assert (tmp_path / "seen").read_text() == ""


def test_a_file_may_give_way_to_a_folder(script: Script, root: Path) -> None:
    campaign = script("rm src/b.py; mkdir src/b.py; echo 'b = 2' > src/b.py/c.py; echo Split b")
    assert _changed(root, campaign.propose()) == {"src/b.py": "D", "src/b.py/c.py": "A"}


def _running(mark: str) -> str:
    lines = subprocess.run(["ps", "axo", "args"], capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in lines.splitlines() if mark in line)


def test_one_that_hangs_is_ended_with_all_it_started(script: Script, ar: Ar, root: Path) -> None:
    script("echo so far; (trap '' TERM; setsid sleep 87654) & sleep 87654", timeout="1s")
    done = ar(root, "next", check=False)
    assert done.returncode == 2
    assert "was ended after 1 s, its time limit; it had said: so far" in done.stderr
    assert "raise timeout of this agent in program.md" in done.stderr
    assert _running("sleep 87654") == ""


def test_one_that_ends_leaves_nothing_running(script: Script, root: Path) -> None:
    campaign = script("setsid sleep 87653 > /dev/null 2>&1 & echo 'a = 6' > src/a.py; echo Six")
    assert _changed(root, campaign.propose()) == {"src/a.py": "M"}
    assert _running("sleep 87653") == ""


def test_an_answer_that_nobody_wants_any_more_is_dropped(script: Script) -> None:
    campaign = script("sleep 87652")
    channel = Channel()
    threading.Timer(0.5, channel.dropped.set).start()
    with pytest.raises(Dropped):
        CommandAgent(campaign.program.agents[0], campaign.repo, channel).propose(
            Briefing(campaign.program, campaign.history())
        )
    assert _running("sleep 87652") == ""


def test_failures_say_what_happened(script: Script, root: Path) -> None:
    campaign = script("echo 'no credit left' >&2; exit 3")
    with pytest.raises(AgentFailed, match="exited with 3: no credit left"):
        campaign.propose()
    edit(root / "program.md", "agent.sh", "nothing-of-that-name")
    allow(root)
    with pytest.raises(AgentFailed, match="nothing-of-that-name does not exist"):
        Campaign(Project(campaign.repo, load(root))).propose()
    nobody = replace(campaign.program.agents[0], command=("nobody-home",))
    allowed.add(campaign.repo, demands.of_agent(nobody))
    with pytest.raises(AgentFailed, match="nobody-home is not on PATH"):
        Campaign(Project(campaign.repo, replace(campaign.program, agents=(nobody,)))).propose()


def test_its_environment_is_a_list_of_allowed_names(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-planted-secret-of-ours")
    monkeypatch.setenv("MY_AGENT_LOGIN", "planted-login-of-the-agent")
    monkeypatch.setenv("GIT_DIR_OF_NOBODY", "x")
    campaign = script(
        """env > "$OUT/env"; echo 'a = 7' > src/a.py; echo "Seven with $MY_AGENT_LOGIN" """,
        env=["MY_AGENT_LOGIN"],
    )
    change = campaign.propose()
    environment = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    assert environment["MY_AGENT_LOGIN"] == "planted-login-of-the-agent"
    assert environment["HOME"] == os.environ["HOME"]
    assert environment["PWD"].endswith("/checkout")
    assert not {"ANTHROPIC_API_KEY", "GIT_DIR_OF_NOBODY", "OLDPWD"} & environment.keys()
    assert "planted" not in change.proposal.title


def test_what_it_cost_is_counted_and_bounded(script: Script, root: Path) -> None:
    usage = {"input_tokens": 100, "cache_read_input_tokens": 900, "output_tokens": 50}
    answer = {"type": "result", "result": "Eight", "total_cost_usd": 0.25, "usage": usage}
    campaign = script(f"cat > /dev/null; echo 'a = 8' > src/a.py; echo '{json.dumps(answer)}'")
    edit(root / "program.md", "runs: 200", "runs: 200, usd: 0.2")
    campaign = Campaign(Project(campaign.repo, load(root)))
    change = campaign.propose()
    assert change.proposal.title == "Eight"
    assert change.proposal.spend == account.total(campaign.repo) == Spend(1000, 900, 50, 0.25)
    with pytest.raises(OutOfBudget, match=r"budget\.usd is 0\.2"):
        campaign.propose()


def _answer(name: str, text: str, sent: int = 1000) -> dict[str, object]:
    """An event of Claude Code, whose usage is that of an answer's beginning."""
    usage = {"input_tokens": sent, "cache_read_input_tokens": 500, "output_tokens": 1}
    return {
        "type": "assistant",
        "message": {"id": name, "content": [{"type": "text", "text": text}], "usage": usage},
    }


def _lines(*events: dict[str, object]) -> str:
    return "\n".join(f"echo '{json.dumps(event)}'" for event in events)


def test_events_count_where_the_command_is_ended(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_command, "_TELL", 0.1)
    events = _lines(_answer("a", "x" * 300), _answer("a", "y" * 300), _answer("b", "z", 2000))
    campaign = script(
        f"{events}\nsleep 87651", timeout="1s", prices={"input": 1000.0, "cached": 0.0, "output": 0.0}
    )
    with pytest.raises(AgentFailed, match="was ended after 1 s") as failure:
        campaign.propose()
    assert failure.value.passing
    spent = account.total(campaign.repo)
    assert (spent.input, spent.cached) == (4000, 1000)
    assert spent.output > 200
    assert spent.usd == pytest.approx(3.0)


def test_a_command_that_tells_nothing_before_it_fails_is_estimated(script: Script) -> None:
    used = {"type": "item.completed", "item": {"type": "command_execution", "command": "ls"}}
    campaign = script(f"{_lines({'type': 'turn.started'}, used, used)}\nexit 1")
    with pytest.raises(AgentFailed):
        campaign.propose()
    once = account.total(campaign.repo)
    assert once.input > 3 * 800  # three calls of a briefing
    with pytest.raises(AgentFailed):
        campaign.propose()
    assert account.total(campaign.repo).tokens == 2 * once.tokens


def test_what_it_spent_so_far_is_on_the_account_should_we_be_killed(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_command, "_TELL", 0.1)
    campaign = script(f"{_lines(_answer('a', 'x', 7000))}\nsleep 87650", timeout="20s")
    channel = Channel()

    def ask() -> None:
        with contextlib.suppress(Dropped):
            campaign.ask(campaign.program.agents[0], channel)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: account.total(campaign.repo).input == 7500)
    channel.dropped.set()
    thread.join()
    assert account.total(campaign.repo).input == 7500


def test_a_total_counts_though_what_arrived_looks_like_more() -> None:
    usage = {"input_tokens": 1000, "cache_read_input_tokens": 500, "output_tokens": 40}
    end = {"type": "result", "result": "t", "total_cost_usd": 0.02, "usage": usage}
    told = read("\n".join(json.dumps(event) for event in (_answer("a", "x" * 900), end)))
    assert told.spent == Spend(1500, 500, 40, 0.02)
    # Answers that it does not count are told by themselves; the dollars are all there are.
    told = read("\n".join(json.dumps(it) for it in (_answer("a", "x"), _answer("b", "y", 9000), end)))
    assert told.spent is not None
    assert (told.spent.input, told.spent.usd) == (11000, 0.02)


def test_a_command_that_had_no_answer_fails_for_that_and_not_for_what_it_does_not_tell(
    script: Script, root: Path
) -> None:
    campaign = script("echo 'API Error: 529 overloaded' >&2; exit 1")
    edit(root / "program.md", "runs: 200", "runs: 200, usd: 3")
    with pytest.raises(AgentFailed, match="529") as failure:
        Campaign(Project(campaign.repo, load(root))).propose()
    assert failure.value.passing


def test_an_answer_under_way_counts_with_what_the_agent_s_answers_cost(script: Script, root: Path) -> None:
    campaign = script("sleep 87649", timeout="20s")
    account.record(campaign.repo, "command", Spend(1000, 0, 50, 2.0))
    edit(root / "program.md", "runs: 200", "runs: 200, usd: 3")
    campaign = Campaign(Project(campaign.repo, load(root)))
    channel, spec = Channel(), campaign.program.agents[0]

    def ask() -> None:
        with contextlib.suppress(Dropped):
            campaign.ask(spec, channel)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: account.total(campaign.repo).usd == 4.0)
    with pytest.raises(OutOfBudget, match=r"budget\.usd is 3"):
        campaign.ask(replace(spec, lane="another"))
    channel.dropped.set()
    thread.join()
    assert account.total(campaign.repo).usd == 2.0


REFUSED = {"type": "result", "is_error": True, "result": "Invalid API key", "api_error_status": 401}
TURNS = {"type": "result", "is_error": True, "subtype": "error_max_turns", "errors": ["Reached 3 turns"]}


@pytest.mark.parametrize(
    ("event", "code", "words", "passing"),
    [(REFUSED, 1, "exited with 1: Invalid API key", False), (TURNS, 0, "Reached 3 turns", True)],
)
def test_a_failure_is_told_in_the_client_s_words_and_tried_again_only_where_it_may_pass(
    script: Script, event: dict[str, object], code: int, words: str, passing: bool
) -> None:
    campaign = script(f"echo 'a = 5' > src/a.py\n{_lines(event)}\nexit {code}")
    with pytest.raises(AgentFailed) as failure:
        campaign.propose()
    assert words in failure.value.message
    assert failure.value.passing == passing


@pytest.mark.parametrize(
    ("budget", "says"), [("tokens: 900", "budget.tokens cannot be held"), ("usd: 5", "budget.usd cannot be")]
)
def test_a_budget_that_nothing_counts_on_is_refused(
    script: Script, root: Path, budget: str, says: str
) -> None:
    campaign = script("echo 'a = 9' > src/a.py; echo Nine")
    edit(root / "program.md", "runs: 200", f"runs: 200, {budget}")
    with pytest.raises(AgentFailed, match=says):
        Campaign(Project(campaign.repo, load(root))).propose()


def test_prices_make_dollars_of_tokens(script: Script) -> None:
    event = {"type": "turn.completed", "usage": {"input_tokens": 3_000_000, "cached_input_tokens": 2_000_000}}
    campaign = script(
        f"echo 'a = 9' > src/a.py; echo '{json.dumps(event)}'",
        prices={"input": 1.0, "cached": 0.1, "output": 8.0},
    )
    spent = campaign.propose().proposal.spend
    assert spent is not None
    assert spent.usd == pytest.approx(1.2)


def test_a_key_that_it_wrote_into_a_file_goes_nowhere(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_AGENT_KEY", "planted-key-of-the-agent")
    campaign = script("env > src/a.txt; echo Environment", env=["MY_AGENT_KEY"])
    with pytest.raises(BadProposal, match=r"src/a\.txt would hold a secret"):
        campaign.propose()


# -- what it says -----------------------------------------------------------------------------------------


def test_codex_events_are_understood() -> None:
    events = [
        {"type": "thread.started", "thread_id": "t"},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "Looking."}},
        {"type": "item.completed", "item": {"type": "command_execution", "command": "ls"}},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "Widen the head\n\nWhy."}},
        {
            "type": "turn.completed",
            "usage": {"input_tokens": 30, "cached_input_tokens": 20, "output_tokens": 5},
        },
    ]
    output = "\n".join(map(json.dumps, events))
    said = read(output)
    assert (said.text, said.spent) == ("Widen the head\n\nWhy.", Spend(30, 20, 5))


@pytest.mark.parametrize(
    ("events", "words", "status"),
    [
        ([REFUSED], "Invalid API key", 401),
        ([TURNS], "Reached 3 turns", None),
        ([{**REFUSED, "is_error": False}], "", None),
        ([{"type": "result", "is_error": True, "result": "API Error: 529 busy"}], "API Error: 529 busy", 529),
        ([{"type": "turn.failed", "error": {"message": "unexpected status 404: gpt-x"}}],
         "unexpected status 404: gpt-x", 404),
        ([{"type": "error", "message": '{"error": {"type": "invalid_request_error"}}'}],
         '{"error": {"type": "invalid_request_error"}}', 400),
        ([{"type": "error", "message": "Reconnecting"}, {"type": "turn.completed"}], "", None),
        ([{"type": "turn.failed"}], "turn.failed", None),
    ],
)  # fmt: skip
def test_what_went_wrong_is_told_by_the_events(
    events: list[dict[str, object]], words: str, status: int | None
) -> None:
    for output in ("\n".join(map(json.dumps, events)), json.dumps(events)):
        said = read(output)
        assert (said.failure, said.status) == (words, status)


@pytest.mark.parametrize("output", ["Just text", '{"a": 1}', "[1, 2]", "", '{"type": "result"', "12"])
def test_other_output_is_the_message(output: str) -> None:
    said = read(output)
    assert (said.text, said.spent) == (output, None)


def test_titles_and_fields() -> None:
    said = proposal("\n## **Use RoPE before the norm**\n\nIt helps.\n\nSimplification: yes\n", "command")
    assert (said.title, said.hypothesis, said.simplification) == (
        "Use RoPE before the norm",
        "It helps.",
        True,
    )
    said = proposal(f"I have made the change that {'was asked for ' * 6}\nTitle: Halve the rate\n", "command")
    assert said.title == "Halve the rate"
    assert said.hypothesis.startswith("I have made")
    said = proposal("word " * 40, "command")
    assert len(said.title) <= 72
    assert said.hypothesis == ("word " * 40).strip()
    assert proposal("\x1b[31m \n", "command").title == "A change without a message"


def test_a_command_is_split_and_never_run_by_a_shell(root: Path) -> None:
    program = root / "program.md"
    text = program.read_text()
    edit(program, "budget:", """agent: {kind: command, command: "x -p 'a b'"}\nbudget:""")
    assert load(root).agents[0].command == ("x", "-p", "a b")
    for command, says in (
        ("x | tail", "no shell runs it"),
        ("x 'y", "cannot be split"),
        ("", "names no command"),
    ):
        program.write_text(swap(text, "budget:", f'agent: {{kind: command, command: "{command}"}}\nbudget:'))
        with pytest.raises(ArError, match=says):
            load(root)

"""`ar mcp`, through the SDK's own client: what an agent is told, what it may do, and what it never sees."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import pytest
from helpers import allow, commit, edit, git, names_of, run, run_next, snapshot, wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judged import LOSS, WIN, tried
from test_outputs import EVIL, OBEYED

from ar.campaign.campaign import Campaign
from ar.git import refs
from ar.history import notebook
from ar.history.ideas import Proposal
from ar.project.project import Project
from ar.serve.desk import Desk
from ar.serve.server import build

mcp = pytest.importorskip("mcp", reason="the MCP SDK is not installed")

SECRET = "0.734512"  # the holdout's value, at the head and in every experiment
CURVE = 'print "step,val,test_loss\\n1,2.5," unseen "\\n2,1.5," unseen > "curve.csv"'
READS = {"status", "history", "experiment", "compare", "judge", "wait"}
WRITES = {"propose": False, "note": False, "stop": True}  # whether a client should ask its user first


class Session:
    """A client of one server, in a thread of its own, for tests that know nothing of event loops.

    Args:
        server: what `mcp.Client` takes.
    """

    def __init__(self, server: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._ready, self._ended = threading.Event(), asyncio.Event()
        self._client: Any = None
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._live(server)])
        self._thread.start()
        assert self._ready.wait(60)

    async def _live(self, server: Any) -> None:
        async with mcp.Client(server) as self._client:
            self._ready.set()
            await self._ended.wait()

    def start(self, method: str, *args: Any, **more: Any) -> concurrent.futures.Future[Any]:
        return asyncio.run_coroutine_threadsafe(getattr(self._client, method)(*args, **more), self._loop)

    def ask(self, method: str, *args: Any, **more: Any) -> Any:
        return self.start(method, *args, **more).result(100)

    def call(self, tool: str, **given: Any) -> dict[str, Any]:
        """What a tool answers, where that is no error."""
        done = self.ask("call_tool", tool, given)
        assert not done.is_error, done.content[0].text
        assert json.loads(done.content[0].text) == done.structured_content
        return done.structured_content  # type: ignore[no-any-return]

    def refused(self, tool: str, **given: Any) -> str:
        done = self.ask("call_tool", tool, given)
        assert done.is_error
        text: str = done.content[0].text
        assert "Traceback" not in text and len(text) < 4_000
        return text

    def read(self, uri: str) -> str:
        return self.ask("read_resource", uri).contents[0].text  # type: ignore[no-any-return]

    def prompt(self, name: str, arguments: Mapping[str, str] | None = None) -> str:
        return self.ask("get_prompt", name, arguments).messages[0].content.text  # type: ignore[no-any-return]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(60)
        self._loop.close()


def serve(root: Path, *args: str) -> Session:
    """A real server process, as a client starts it."""
    return Session(
        mcp.StdioServerParameters(
            command=sys.executable, args=["-m", "ar", "mcp", *args], cwd=root, env=dict(os.environ)
        )
    )


@pytest.fixture(scope="module")
def root(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a holdout, of which two changes ran: one was discarded, one is not decided."""
    root = tmp_path_factory.mktemp("mcp") / "project"
    shutil.copytree(template, root, symlinks=True)
    (root / "unseen.txt").write_text(f"{SECRET}\n")
    edit(root / "fit.awk", "END {", 'END {\n  getline unseen < "unseen.txt"')
    edit(root / "fit.awk", '%.6f}\\n", loss)', '%.6f, \\"test_loss\\": %s}\\n", loss, unseen)')
    edit(
        root / "fit.awk",
        '  print "loss", loss',
        f'  print "loss", loss; print "test_loss", unseen\n  {CURVE}',
    )
    edit(root / "dvc.yaml", "deps: [fit.awk]", "deps: [fit.awk, unseen.txt]")
    edit(root / "dvc.yaml", "    metrics:", "    plots:\n    - curve.csv: {cache: false}\n    metrics:")
    (root / "program.md").write_text(PROGRAM)
    (root / "papers").mkdir()
    (root / "papers" / "bowls.md").write_text(CARD)
    run(root, "dvc", "repro", "-q")
    commit(root, "Look at a holdout, and draw a curve")
    allow(root)
    campaign = Campaign(Project.open(root))
    campaign.measure_incumbent(campaign.history(), 1)
    run_next(root)
    campaign.pipeline.close()
    tried(root, LOSS, 5.5)
    tried(root, None, 2.5)
    return root


CARD = f"---\ntitle: On bowls\nsource: arXiv:2410.17897\n---\nTheir floor is deep; test_loss {SECRET} here.\n"
PROGRAM = """\
---
objective: {metric: "m.json:val_loss", direction: minimize}
guards:
  - {metric: "c.yaml:cost", direction: minimize}
holdout: "m.json:test_loss"
seed: seed
scope: {files: [fit.awk], params: [x, y]}
search:
  x: {low: 0.5, high: 6.0}
budget: {runs: 200, timeout: 60s}
---
Find the floor of the bowl.
"""


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[Session]:
    session = serve(root)
    yield session
    session.close()


@pytest.fixture
def names(client: Session) -> list[str]:
    """The attempts: the discarded one, then the open one. Of one second, the history knows no order."""
    rows = client.call("history", sort="oldest", fields=["name"], limit=100)["rows"]
    return sorted((row["name"] for row in rows), key=lambda name: "-5.5-" not in name)


# -- the contract -----------------------------------------------------------------------------------------


def test_tools_say_what_they_are(client: Session) -> None:
    tools = {tool.name: tool for tool in client.ask("list_tools").tools}
    assert tools.keys() == READS | WRITES.keys()
    for name, tool in tools.items():
        hints = tool.annotations
        assert hints.read_only_hint is (name in READS) and hints.open_world_hint is False
        assert hints.destructive_hint is WRITES.get(name)
        assert tool.description and tool.title and "caller" not in tool.input_schema["properties"]
        assert tool.input_schema["additionalProperties"] is False
        assert tool.output_schema["type"] == "object" and tool.output_schema["properties"]
    # Parameters that only a description tells of have one.
    bare = [
        (name, key)
        for name, tool in tools.items()
        for key, value in tool.input_schema["properties"].items()
        if "description" not in value
    ]
    assert not bare


def test_resources_and_prompts_are_listed(client: Session) -> None:
    assert {str(it.uri) for it in client.ask("list_resources").resources} == {
        "ar://program",
        "ar://history",
        "ar://notebook",
        "ar://literature",
    }
    templates = {it.uri_template for it in client.ask("list_resource_templates").resource_templates}
    assert templates == {"ar://experiment/{name}", "ar://literature/{words}"}
    assert {it.name for it in client.ask("list_prompts").prompts} == {"next_idea", "near_misses", "report"}


def test_clients_of_earlier_versions_are_served_and_the_wire_is_clean(root: Path) -> None:
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "An Editor", "version": "1"},
    }
    change = {"title": "x up", "hypothesis": "Nearer.", "params": {"x": 1.875}}
    with subprocess.Popen(
        [sys.executable, "-m", "ar", "mcp"], cwd=root, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True
    ) as process:
        assert process.stdin and process.stdout
        said = []
        for number, (method, params) in enumerate(
            [
                ("initialize", hello),
                ("notifications/initialized", {}),
                ("tools/call", {"name": "propose", "arguments": change}),
                ("tools/call", {"name": "stop", "arguments": {"name": "x-up"}}),
            ]
        ):
            identity = {} if method.startswith("notifications") else {"id": number}
            message = {"jsonrpc": "2.0", "method": method, "params": params, **identity}
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
            if identity:
                said.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        assert process.stdout.read() == ""  # nothing but answers, at its end either
    assert process.returncode == 0
    assert [one["id"] for one in said] == [0, 2, 3]
    assert said[0]["result"]["protocolVersion"] == "2025-06-18"
    assert said[2]["result"]["structuredContent"]["status"] == "cancelled"
    name = said[1]["result"]["structuredContent"]["name"]
    assert Campaign(Project.open(root)).history().attempts[-1].agent == "mcp/an-editor", name


# -- looking ----------------------------------------------------------------------------------------------


def test_the_status_is_that_of_the_campaign(client: Session, root: Path) -> None:
    said = client.call("status")
    assert (said["objective"], said["direction"], said["budget"]) == ("m.json:val_loss", "minimize", 200)
    assert said["head"] == git(root, "rev-parse", "HEAD")
    assert said["now"]["runs"] == 1 and said["now"]["value"] == said["first"]["value"]
    assert said["outcomes"]["discarded"] == 1
    assert not said["at_work"]


def test_the_history_is_filtered_sorted_and_paged(client: Session) -> None:
    page = client.call(
        "history", contains="X 1.5", sort="oldest", fields=["name", "outcome", "effect"], limit=1
    )
    assert [row.keys() for row in page["rows"]] == [{"name", "outcome", "effect"}]
    assert page["rows"][0]["effect"] == LOSS.effect and page["next_skip"] == 1
    rest = client.call("history", contains="X 1.5", sort="oldest", skip=1)
    assert rest["skipped"] == 1 and page["rows"][0]["name"] not in {row["name"] for row in rest["rows"]}
    lost = client.call("history", outcome="discarded")
    assert [row["outcome"] for row in lost["rows"]] == ["discarded"]


def test_an_experiment_is_told_with_all_there_is(client: Session, names: list[str]) -> None:
    said = client.call("experiment", name=names[0])
    assert said["hypothesis"] == "Nearer to the floor." and "+x: 5.5" in said["diff"]
    assert said["verdict"]["reason"] == LOSS.reason and said["effect"]
    assert said["runs"][0]["metrics"].keys() == {"m.json:val_loss", "c.yaml:cost"}
    assert said["curves"] == [{"path": "curve.csv", "rows": [["step", "val"], ["1", "2.5"], ["2", "1.5"]]}]
    assert "loss" in said["log"]


def test_two_are_compared_by_the_seeds_that_both_have(client: Session, names: list[str]) -> None:
    said = client.call("compare", a=names[0], b=names[1])
    assert said["params"] == [{"key": "params.yaml:x", "a": 5.5, "b": 2.5}]
    loss = next(one for one in said["metrics"] if one["metric"] == "m.json:val_loss")
    assert loss["seeds"] == 1 and loss["difference"] == pytest.approx(loss["b"] - loss["a"])
    assert "+x: 2.5" in said["diff"]
    curve = [["step", "val"], ["1", "2.5"], ["2", "1.5"]]
    assert said["curves"] == [{"path": "curve.csv", "a": curve, "b": curve}]


def test_the_judge_is_asked_as_things_stand(client: Session, names: list[str]) -> None:
    said = client.call("judge", name=names[1])
    assert said["verdict"]["decision"] == "open"
    assert said["seeds"] == [1] and said["base_seeds"] == [1]
    assert "no experiment is called 'nobody'" in client.refused("judge", name="nobody")


def test_what_others_do_meanwhile_is_seen(client: Session, root: Path) -> None:
    run(root, sys.executable, "-m", "ar", "note", "-m", "Written beside it")
    assert "Written beside it" in client.read("ar://notebook")


def test_literature_is_searched(client: Session) -> None:
    assert "bowls | On bowls | arXiv:2410.17897" in client.read("ar://literature")
    found = client.read("ar://literature/floor%20deep")
    assert "card bowls" in found and "experiments that cite it: none" in found
    assert "none" in client.read("ar://literature/transformers")


# -- doing ------------------------------------------------------------------------------------------------


def test_a_proposal_is_queued_once_waited_for_and_stopped(client: Session, root: Path) -> None:
    before = snapshot(root)
    change = {"title": "x a bit up", "hypothesis": "Nearer.", "params": {"x": 1.75}, "expected": "-0.2"}
    first = client.call("propose", **change)
    assert first["is_new"] and "+x: 1.75" in first["diff"] and not first["at_work"]
    again = client.call("propose", **change | {"title": "the same in other words"})
    assert (again["is_new"], again["name"], again["outcome"]) == (False, first["name"], "queued")
    assert names_of(root, refs.QUEUE) == [first["name"]]
    waited = client.call("wait", name=first["name"], seconds=0)
    assert (waited["is_settled"], waited["left"]) == (False, 1) and "ar run" in waited["advice"]
    details = client.call("experiment", name=first["name"])
    assert (details["expected"], details["agent"]) == ("-0.2", "mcp/mcp")
    assert client.call("stop", name=first["name"])["status"] == "cancelled"
    assert client.call("wait", name=first["name"])["is_settled"]
    said = client.refused("propose", **change)
    assert first["name"] in said and "cancelled" in said and "propose something else" in said
    assert snapshot(root) == before


def test_a_wait_ends_when_something_comes_of_it(client: Session, root: Path) -> None:
    told: list[tuple[float, str | None]] = []

    async def report(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    name = client.call("propose", title="y up", hypothesis="Nearer.", params={"y": 0.07})["name"]
    waiting = client.start("call_tool", "wait", {"name": name, "seconds": 90}, progress_callback=report)
    wait_for(lambda: told)
    run_next(root)
    wait_for(lambda: any("1 of its runs ended" in (said or "") for _, said in told))
    assert not waiting.done()  # it ran, and nobody has decided
    campaign = Campaign(Project.open(root))
    campaign.record(next(item for item in campaign.history().attempts if item.name == name), LOSS)
    done = waiting.result(60).structured_content
    assert (done["outcome"], done["is_settled"], done["verdict"]["reason"]) == (
        "discarded",
        True,
        LOSS.reason,
    )
    assert [at for at, _ in told] == sorted({at for at, _ in told})


def test_a_wait_can_be_cancelled(client: Session) -> None:
    change = {"edits": [{"path": "fit.awk", "old": "0.01 * noise", "new": "0.02 * noise"}]}
    name = client.call("propose", title="More noise", hypothesis="Why not.", **change)["name"]
    waiting = client.start("call_tool", "wait", {"name": name, "seconds": 3600})
    waiting.cancel()
    assert client.call("stop", name=name)["status"] == "cancelled"


def test_a_change_comes_as_a_patch_or_once_more(client: Session, root: Path) -> None:
    edit(root / "fit.awk", "(x - 3) ^ 2", "(x - 3) ^ 4")
    patch = git(root, "diff") + "\n"
    git(root, "checkout", "fit.awk")
    said = client.call(
        "propose", title="A steeper bowl", hypothesis="Steeper.", diff=patch, params={"x": 2.2}
    )
    assert "(x - 3) ^ 4" in said["diff"] and "+x: 2.2" in said["diff"]
    client.call("stop", name=said["name"])
    both = {"diff": patch, "edits": [{"path": "fit.awk", "old": "", "new": "x"}]}
    assert "do not go together" in client.refused("propose", title="Both", hypothesis="", **both)
    said_of_old = client.refused("propose", title="Again", hypothesis="Why not.", revisit=said["name"])
    assert "measured against the branch as it is" in said_of_old


@pytest.mark.parametrize(
    "change",
    [
        {"params": {"seed": 3}},
        {"params": {"x": "$(touch pwned)"}},
        {"params": {"nobody": 1}},
        {"params": {"x": {"a": [[[1]]]}}},
        {"edits": [{"path": "../outside", "old": "", "new": "x"}]},
        {"edits": [{"path": ".git/hooks/post-checkout", "old": "", "new": "x"}]},
        {"edits": [{"path": "program.md", "old": "Find", "new": "Lose"}]},
        {"edits": [{"path": "fit.awk", "old": "not there", "new": "x"}]},
        {"diff": "no patch"},
        {"diff": "--- a/../../x\n+++ b/../../x\n@@ -0,0 +1 @@\n+x\n"},
        {},
    ],
)
def test_what_may_not_be_tried_is_refused_in_words(
    change: dict[str, Any], client: Session, root: Path
) -> None:
    queued = names_of(root, refs.QUEUE)
    said = client.refused("propose", title="Hostile", hypothesis="Because.", **change)
    assert "this is a bug" not in said
    assert names_of(root, refs.QUEUE) == queued


def test_two_clients_at_once_queue_one(client: Session, root: Path) -> None:
    other = Session(build(Desk(root)))
    change = {"title": "x twice", "hypothesis": "Both think so.", "params": {"x": 2.125}}
    asked = [session.start("call_tool", "propose", change) for session in (client, other)]
    said = [one.result(100).structured_content for one in asked]
    other.close()
    assert sorted(one["is_new"] for one in said) == [False, True]
    assert names_of(root, refs.QUEUE) == [said[0]["name"]] == [said[1]["name"]]
    client.call("stop", name=said[0]["name"])


def test_a_lesson_is_written_and_told(client: Session, root: Path, names: list[str]) -> None:
    said = client.call("note", text="Large x hurts.", cites=[names[0]])
    assert (said["standing"], said["cites"]) == ("open", [names[0]])
    said = client.call("note", lesson=said["lesson"], standing="supported")
    assert (said["text"], said["standing"]) == ("Large x hurts.", "supported")
    found = notebook.find(notebook.read(Project.open(root).repo).lessons(), said["lesson"])
    assert found.who == "mcp/mcp"
    assert "says so already" in client.refused("note", text="large x hurts")
    assert "Large x hurts." in client.read("ar://notebook")


def test_promoting_is_offered_only_where_it_is_allowed(root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "project"
    shutil.copytree(root, mine, symlinks=True)
    allow(mine)
    name = tried(mine, WIN, 2.9).name
    session = Session(build(Desk(mine), may_promote=True))
    try:
        tools = {tool.name: tool for tool in session.ask("list_tools").tools}
        assert len(tools) == 10 and tools["promote"].annotations.destructive_hint
        worse = session.call("history", outcome="discarded")["rows"][0]["name"]
        assert LOSS.reason in session.refused("promote", name=worse)
        said = session.call("promote", name=name)
        assert (
            said["commit"] == git(mine, "rev-parse", "HEAD")
            and "x: 2.9" in (mine / "params.yaml").read_text()
        )
        assert [row["name"] for row in session.call("history", outcome="promoted")["rows"]] == [name]
    finally:
        session.close()


# -- what nobody is told ----------------------------------------------------------------------------------


def everything(client: Session, names: list[str]) -> Iterator[str]:
    """All that a client can get to read."""
    texts = ["ar://program", "ar://history", "ar://notebook", *(f"ar://experiment/{name}" for name in names)]
    texts += ["ar://literature", "ar://literature/bowls"]
    yield from map(client.read, texts)
    for prompt in ("next_idea", "near_misses", "report"):
        yield client.prompt(prompt)
    calls: list[tuple[str, dict[str, Any]]] = [("status", {}), ("history", {"limit": 100})]
    for name in names:
        calls += [
            ("experiment", {"name": name}),
            ("judge", {"name": name}),
            ("wait", {"name": name, "seconds": 0}),
        ]
        calls += [("compare", {"a": names[0], "b": name})]
    for tool, arguments in calls:
        done = client.ask("call_tool", tool, arguments)
        yield done.content[0].text + json.dumps(done.structured_content)


def test_the_holdout_is_in_nothing(client: Session, root: Path, names: list[str]) -> None:
    campaign = Campaign(Project.open(root))
    attempt = campaign.history().attempts[1]
    campaign.repo.update_note(
        attempt.first.rev, lambda note: {**note, "reason": f"worse, at {SECRET} where nobody looks"}
    )
    client.call("note", text=f"Of {names[0]}: 0.7345 was what came.", cites=[names[0]])
    told = list(everything(client, names))
    assert len(told) >= 20
    assert not [text for text in told if "0.7345" in text]
    assert "[holdout]" in client.read("ar://notebook")


def test_texts_of_experiments_are_tame(client: Session, root: Path, names: list[str]) -> None:
    campaign = Campaign(Project.open(root))
    proposal = Proposal(f"Title {EVIL}"[:72].replace("\n", " "), f"Why {EVIL}", "evil", {"x": 1.625})
    _, name = campaign.submit(campaign.check(proposal))
    campaign.pipeline.close()
    hostile = {**LOSS.to_json(), "reason": EVIL, "device": EVIL, "failed_guard": EVIL}
    attempt = next(item for item in campaign.history().attempts if item.name == names[0])
    campaign.repo.update_note(attempt.first.rev, lambda note: {**note, "verdict": hostile})
    for text in everything(client, [*names, name]):
        assert not OBEYED.search(text)
    client.call("stop", name=name)


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "--help", "HEAD", "refs/heads/main", "\x00", "a" * 200, "x\ny", "\u202eevil", "*"],
)
def test_a_name_is_a_name_and_nothing_else(name: str, client: Session) -> None:
    for tool, key in (("experiment", "name"), ("judge", "name"), ("wait", "name"), ("stop", "name")):
        said = client.refused(tool, **{key: name})
        assert not OBEYED.search(said) and "this is a bug" not in said
    with pytest.raises(mcp.MCPError):
        client.read("ar://experiment/..%2F..%2Fetc%2Fpasswd")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KEYS = [
    *("name", "a", "b", "seconds", "contains", "sort", "fields", "skip", "limit", "params", "edits", "diff"),
    *("title", "hypothesis", "text", "cites", "standing", "lesson", "revisit", "builds_on", "caller", "self"),
]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from([*READS - {"wait"}, *WRITES, "nobody", "promote"]),
    st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=5),
)
def test_whatever_it_is_called_with_it_lives_on(
    client: Session, tool: str, arguments: dict[str, Any]
) -> None:
    done = client.ask("call_tool", tool, arguments)
    assert "Traceback" not in done.content[0].text and "this is a bug" not in done.content[0].text
    assert client.ask("list_tools").tools


# -- without it -------------------------------------------------------------------------------------------


def test_without_the_sdk_it_says_what_to_install(project: Path, tmp_path: Path) -> None:
    (tmp_path / "mcp").mkdir()
    (tmp_path / "mcp" / "__init__.py").write_text("raise ImportError('no such thing')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = run(project, sys.executable, "-m", "ar", "mcp", check=False, env=environment)
    assert done.returncode == 2 and "pip install 'mcp" in done.stderr and not done.stdout


def test_outside_of_a_project_it_does_not_start(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, "-m", "ar", "mcp", check=False)
    assert done.returncode == 2 and not done.stdout

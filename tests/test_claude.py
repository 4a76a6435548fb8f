"""Claude as an agent, through the real client, against a real server that speaks the Messages API."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import messages_api as wire
import pytest
from helpers import allowed_agent, wait_for
from messages_api import KEY, Reply, Server, calls, fails, proposes, says
from rich.console import Console
from synthetic import fill

from ar.agents import Briefing, Channel, Dropped, account, api, prompt, rows
from ar.agents.fence import tokens
from ar.campaign.asking import Asking
from ar.campaign.campaign import Campaign
from ar.campaign.progress import Snapshot
from ar.errors import AgentFailed, OutOfBudget
from ar.git.repo import Repo
from ar.history import reader
from ar.history.ideas import Proposal
from ar.history.spend import Spend
from ar.project.program import AgentSpec, Budget, Prices, Program
from ar.project.program_file import load
from ar.project.project import Project
from ar.views.lines import PlainView
from ar.views.live import frame

SPEC = AgentSpec("claude", prices=Prices(4.0, 0.4, 20.0))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(api, "_FIRST_PAUSE", 0.01)
    return


class Asked:
    """One question to Claude, with what was said meanwhile."""

    def __init__(self, root: Path, server: Server, monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> None:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        self.repo = Repo.open(root)
        self.program = load(root)
        if "budget" in kwargs:
            self.program = replace(self.program, budget=kwargs.pop("budget"))
        self.said: list[str] = []
        self.channel = Channel(say=self.said.append, event=self.said.append)
        self.agent = allowed_agent(self.repo, replace(SPEC, **kwargs), self.channel)

    def briefing(self, *refused: str) -> Briefing:
        return brief(self.repo, self.program, *refused)

    def propose(self, *refused: str) -> Proposal:
        return self.agent.propose(self.briefing(*refused))


def brief(repo: Repo, program: Program, *refused: str) -> Briefing:
    history = reader.read(Project(repo, program))
    return Briefing(program, history, reader.baseline_params(Project(repo, program)), refused)


def last_result(request: wire.Request) -> str:
    return "".join(block.get("content", block.get("text")) for block in request["messages"][-1]["content"])


def test_it_looks_around_and_proposes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = [
        calls(("list_files", {"pattern": ""}), ("read_file", {"path": "fit.awk", "start": 1, "lines": 99})),
        lambda request: proposes(simplification="noise" in last_result(request)),
    ]
    with Server(script) as server:
        asked = Asked(project, server, monkeypatch)
        proposal = asked.propose()
    assert proposal.params == {"x": 2.5}
    assert proposal.simplification
    assert "Refuted if: val_loss is not lower." in proposal.hypothesis
    assert proposal.expected == "-1.0"
    assert "* fit.awk" in last_result(server.requests[1])
    assert "Find the floor of the bowl." in server.requests[0]["system"][1]["text"]
    assert KEY in server.headers[0].get("x-api-key", server.headers[0].get("authorization", ""))
    assert "reads fit.awk" in asked.said


def test_what_it_cost_is_on_the_account_and_on_the_proposal(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server([says("Hm."), proposes()]) as server:
        asked = Asked(project, server, monkeypatch)
        proposal = asked.propose()
    assert proposal.spend == account.total(asked.repo)
    first, second = server.usages
    assert second["cache_read_input_tokens"] > 0.9 * first["cache_creation_input_tokens"]
    sums = {key: first[key] + second[key] for key in first}
    read, written = sums["cache_read_input_tokens"], sums["cache_creation_input_tokens"]
    assert proposal.spend.cached == read
    assert proposal.spend.input == read + written + sums["input_tokens"]
    assert proposal.spend.output == 100
    usd = (sums["input_tokens"] * 4 + written * 5 + read * 0.4 + 100 * 20) / 1e6
    assert proposal.spend.usd == pytest.approx(usd)


@pytest.mark.parametrize(
    ("thinking", "sent"),
    [
        ("", None),
        ("adaptive", {"type": "adaptive"}),
        ("off", {"type": "disabled"}),
        (20_000, {"type": "enabled", "budget_tokens": 20_000}),
    ],
)
def test_it_thinks_as_the_programme_says(
    thinking: str | int, sent: object, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = calls(("list_files", {"pattern": ""}))
    thought = {"type": "thinking", "thinking": "Which files are there?", "signature": "c2lnbmVk"}
    with Server([replace(looks, content=(thought, *looks.content)), proposes()]) as server:
        Asked(project, server, monkeypatch, thinking=thinking, effort="xhigh" if sent else "").propose()
    for request in server.requests:
        assert request.get("thinking") == sent
        assert request.get("output_config") == ({"effort": "xhigh"} if sent else None)
    assert server.requests[1]["messages"][1]["content"][0] == thought  # as it came, its signature too


def test_less_thinking_where_the_budget_nears_its_end(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([proposes()]) as server:
        asked = Asked(project, server, monkeypatch, budget=Budget(tokens=30_000), thinking=30_000)
        asked.propose()
    (request,) = server.requests
    assert request["thinking"]["budget_tokens"] == request["max_tokens"] - 1 < 30_000


def test_what_a_model_does_not_take_is_said_with_the_setting(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".ar").mkdir(exist_ok=True)
    (project / "program.md").rename(project / ".ar" / "program.md")
    with Server([fails(400, "invalid_request_error")]) as server:
        asked = Asked(project, server, monkeypatch, thinking=2_000)
        with pytest.raises(AgentFailed) as failure:
            asked.propose()
    assert failure.value.mend and "thinking" in failure.value.mend and ".ar/program.md" in failure.value.mend


def test_a_refused_proposal_goes_on_in_the_same_conversation(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server([proposes(), proposes(params=[{"key": "y", "value": 0.1}])]) as server:
        asked = Asked(project, server, monkeypatch)
        asked.propose()
        assert asked.propose("x lies outside scope.params").params == {"y": 0.1}
    assert "outside scope.params" in last_result(server.requests[1])
    assert wire.prefix(server.requests[1]).startswith(wire.prefix(server.requests[0]))


@pytest.mark.parametrize(
    "trouble",
    [
        fails(500),
        fails(529, "overloaded_error"),
        fails(429, "rate_limit_error", retry_after="0"),
        proposes() and replace(proposes(), cut=4),
        replace(proposes(), cut=4, politely=True),
        replace(proposes(), cut=0),
        replace(proposes(), broken="overloaded_error"),
    ],
    ids=["500", "529", "429", "cut", "cut politely", "cut at once", "error in the stream"],
)
def test_what_passes_is_tried_again(trouble: Reply, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([trouble, trouble, proposes()]) as server:
        asked = Asked(project, server, monkeypatch)
        assert asked.propose().params == {"x": 2.5}
    assert len(server.requests) == 3
    assert any("asking again in" in words for words in asked.said)


def test_retry_after_is_waited_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([fails(429, "rate_limit_error", retry_after="1.2"), proposes()]) as server:
        began = time.monotonic()
        asked = Asked(project, server, monkeypatch)
        asked.propose()
    assert time.monotonic() - began >= 1.2
    assert any("rate limit is reached (429); asking again in 1 s" in words for words in asked.said)


def test_the_reason_for_a_wait_is_shown_while_it_lasts(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_FIRST_PAUSE", 60.0)
    with Server([fails(529, "overloaded_error")]) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        allowed_agent(Repo.open(project), SPEC)
        questions = Asking(Campaign(Project.open(project)))
        questions.ask(SPEC)
        wait_for(lambda: "again" in questions.activity)
        live, plain = Console(file=StringIO(), width=120), StringIO()
        live.print(frame(Snapshot(asking=questions.activity), 120))
        for words in questions.events():
            PlainView(plain).event(words)
        questions.drop()
    for stream in (live.file, plain):
        assert "overloaded (529); asking again in" in stream.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("slow", [{"silence": 3.0}, {"pause": 0.4}], ids=["silent", "dripping"])
def test_a_slow_answer_is_given_up(
    slow: dict[str, float], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server([replace(proposes(), **slow), proposes()]) as server:  # type: ignore[arg-type]
        asked = Asked(project, server, monkeypatch, timeout=0.8)
        assert asked.propose().params == {"x": 2.5}
    assert any("too slow" in words for words in asked.said)
    assert account.total(asked.repo).tokens > server.usages[-1]["input_tokens"]  # it may have been charged


def test_trouble_that_stays_is_reported_as_passing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "TRIES", 3)
    with Server([fails(529, "overloaded_error")], endless=True) as server:
        asked = Asked(project, server, monkeypatch)
        with pytest.raises(AgentFailed, match=r"overloaded \(529\)") as failure:
            asked.propose()
    assert failure.value.passing
    assert len(server.requests) == 3
    assert account.total(asked.repo) == Spend(usd=0.0)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (fails(401, "authentication_error"), "set ANTHROPIC_API_KEY"),
        (fails(403, "permission_error"), "set ANTHROPIC_API_KEY"),
        (fails(404, "not_found_error"), "correct the agent's model"),
        (fails(402, "billing_error"), "top it up"),
        (fails(413, "request_too_large"), "shorten"),
        (fails(400, "invalid_request_error"), "refused the request"),
    ],
)
def test_what_somebody_must_mend_says_what(
    trouble: Reply, words: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server([trouble], endless=True) as server:
        asked = Asked(project, server, monkeypatch)
        with pytest.raises(AgentFailed) as failure:
            asked.propose()
    assert words in str(failure.value)
    assert not failure.value.passing
    assert len(server.requests) == 1


def test_without_a_key_it_says_which_variable(project: Path) -> None:
    agent = allowed_agent(Repo.open(project), SPEC)
    with pytest.raises(AgentFailed, match="ANTHROPIC_API_KEY"):
        agent.propose(brief(Repo.open(project), load(project)))


def test_nobody_listens(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "TRIES", 2)
    with Server([]) as server:
        pass
    asked = Asked(project, server, monkeypatch)
    with pytest.raises(AgentFailed, match=r"connection to http://127\.0\.0\.1") as failure:
        asked.propose()
    assert failure.value.passing
    assert account.total(asked.repo) == Spend(usd=0.0)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (replace(proposes(), raw_input='{"title": ]'), "could not be read"),
        (replace(proposes(), raw_input='{"title": "x", "hypo'), "could not be read"),
        (replace(proposes(), stop_reason="max_tokens"), "cut off for its length"),
        (says("No.", stop_reason="refusal"), "declined for safety"),
        (Reply((), stop_reason="end_turn"), "end with `propose`"),
        (calls(("fly", {})), "there is no tool 'fly'"),
        (calls(("show_experiment", {"name": 3})), "should be of type string"),
        (calls(("read_file", {"path": "fit.awk"})), "lacks 'start'"),
        (proposes(evidence=["no-such"]), "no experiment is called 'no-such'"),
        (proposes(params=[{"key": "x"}]), "lacks 'value'"),
    ],
)
def test_an_odd_answer_is_answered(
    odd: Reply, words: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server([odd, proposes()]) as server:
        asked = Asked(project, server, monkeypatch)
        assert asked.propose().params == {"x": 2.5}
    assert words in last_result(server.requests[1])
    assert wire.prefix(server.requests[1]).startswith(wire.prefix(server.requests[0]))


@pytest.mark.parametrize("odd", [says("", stop_reason="refusal"), replace(proposes(), raw_input="{]")])
def test_an_answer_that_stays_odd_ends_the_question(
    odd: Reply, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server([odd], endless=True) as server:
        asked = Asked(project, server, monkeypatch)
        with pytest.raises(AgentFailed, match="no usable answer 3 times"):
            asked.propose()
    assert account.total(asked.repo).output > 0


def test_a_tool_loop_ends_early(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(_: object) -> Reply:
        return calls(("list_files", {"pattern": "fit.awk"}))

    with Server([look], endless=True) as server:
        asked = Asked(project, server, monkeypatch)
        with pytest.raises(AgentFailed, match="round in circles") as failure:
            asked.propose()
    assert failure.value.in_vain
    assert len(server.requests) == 4
    assert "fit.awk" in last_result(server.requests[1])
    assert "the answer stands above" in last_result(server.requests[2])


def test_something_new_ends_a_loop(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(_: object) -> Reply:
        return calls(("list_files", {"pattern": "fit.awk"}))

    other = calls(("list_files", {"pattern": ""}))
    with Server([look, look, look, other, look, look, proposes()]) as server:
        assert Asked(project, server, monkeypatch).propose().params == {"x": 2.5}


@pytest.mark.parametrize("trouble", [fails(529, "overloaded_error"), replace(proposes(), silence=0.6)])
def test_while_it_is_tried_again_the_channel_is_stalled(
    trouble: Reply, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_FIRST_PAUSE", 0.3)
    monkeypatch.setattr(api, "_PATIENCE", 0.2)
    with Server([trouble, proposes()]) as server:
        asked = Asked(project, server, monkeypatch)
        thread = threading.Thread(target=asked.propose)
        thread.start()
        wait_for(lambda: asked.channel.is_stalled)
        thread.join()
        assert not asked.channel.is_stalled


def test_endless_talk_ends(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([says("Interesting.")], endless=True) as server:
        asked = Asked(project, server, monkeypatch)
        with pytest.raises(AgentFailed, match="no proposal in 30 answers"):
            asked.propose()
    assert "5 answers left" in json.dumps(server.requests[-1])


def test_a_gateway_that_does_not_stream(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([replace(proposes(), plain=True)]) as server:
        asked = Asked(project, server, monkeypatch)
        proposal = asked.propose()
    assert proposal.params == {"x": 2.5}
    assert proposal.spend and proposal.spend.output == 50


@pytest.mark.parametrize("plain", [True, False])
def test_an_answer_that_tells_no_usage_is_estimated(
    plain: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server([replace(proposes(), plain=plain, uncounted=True)]) as server:
        asked = Asked(project, server, monkeypatch)
        spent = asked.propose().spend
    assert spent == account.total(asked.repo)
    assert spent is not None
    assert spent.input > 2000
    assert spent.output > 50


def test_the_token_and_the_programmes_own_address(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([proposes()]) as server:
        asked = Asked(project, server, monkeypatch, base_url=server.url)
        monkeypatch.delenv("ANTHROPIC_API_KEY")
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "a-bearer-token")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
        asked.propose()
    assert server.headers[0]["authorization"] == "Bearer a-bearer-token"


# -- budgets ----------------------------------------------------------------------------------------------


def test_a_budget_is_never_exceeded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 30_000
    with Server([says("Hm.", output_tokens=400)], endless=True) as server:
        asked = Asked(project, server, monkeypatch, budget=Budget(tokens=limit))
        with pytest.raises(OutOfBudget, match=r"budget.tokens is 30,000"):
            asked.propose()
        spent = account.total(asked.repo).tokens
        assert 0.5 * limit < spent <= limit
        # Neither does a new question of a new process, and none is asked where nothing is left.
        for _ in range(2):
            asked_so_far = len(server.requests)
            with pytest.raises(OutOfBudget):
                allowed_agent(asked.repo, SPEC).propose(asked.briefing())
        assert len(server.requests) == asked_so_far
    assert account.total(asked.repo).tokens <= limit
    assert min(request["max_tokens"] for request in server.requests) < api.MAX_TOKENS


def test_a_budget_in_dollars(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([says("Hm.", output_tokens=400)], endless=True) as server:
        asked = Asked(project, server, monkeypatch, budget=Budget(usd=0.2))
        with pytest.raises(OutOfBudget, match=r"budget.usd is 0.2"):
            asked.propose()
        assert 0.1 < (account.total(asked.repo).usd or 0.0) <= 0.2
    with pytest.raises(AgentFailed, match="prices"):
        Asked(project, server, monkeypatch, budget=Budget(usd=0.2), prices=None).propose()


def test_a_dropped_question_is_on_the_account(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([replace(proposes(), pause=0.2)], endless=True) as server:
        asked = Asked(project, server, monkeypatch)
        threading.Timer(0.5, asked.channel.dropped.set).start()
        with pytest.raises(Dropped):
            asked.propose()
    assert account.total(asked.repo).input > 0


# -- the layout -------------------------------------------------------------------------------------------


def test_seven_hundred_experiments_fit_and_are_cached(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(project, 700)
    with Server([proposes(), proposes(), proposes()]) as server:
        asked = Asked(project, server, monkeypatch)
        briefing = asked.briefing()
        text = prompt.compose(briefing)
        asked.propose()
        # One more experiment has ended, another is queued: a new question, from the beginning.
        newest = briefing.history.attempts[-1]
        more = replace(newest, name="one-more-abcdef", candidate="c1", created=newest.created + 60)
        waiting = replace(more, name="waiting-abcdef", candidate="c2", outcome="queued", experiments=())
        history = replace(briefing.history, attempts=(*briefing.history.attempts, more, waiting))
        allowed_agent(asked.repo, SPEC).propose(replace(briefing, history=history))
    first, second = (wire.prefix(request) for request in server.requests[:2])
    assert tokens(first.decode()) < prompt.LIMIT
    assert b"one-more-abcdef" in second
    assert b"waiting-abcdef" in second
    shared = next(
        (place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first)
    )
    assert shared >= 0.85 * len(first)
    assert server.usages[1]["cache_read_input_tokens"] >= 0.85 * tokens(first.decode())
    # Nobody is dropped: each has a line.
    whole = "\n".join(text.past)
    missing = [item.name for item in rows.ended(briefing.history) if item.name not in whole]
    assert not missing

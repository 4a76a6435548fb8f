"""What an agent can look at and try while it makes up its mind, and how it ends its turn.

Every answer is data between tags: free of secrets and of the holdout, and short enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ar.agents import literature, memory, schemas, smoke
from ar.agents.base import Briefing, Channel
from ar.agents.branch_files import BranchFiles
from ar.agents.experiments import Experiments
from ar.agents.fence import fence
from ar.agents.schemas import BadInput, check
from ar.changes.proposal import prepare
from ar.errors import NotFound, nearest
from ar.git.repo import Repo
from ar.history.attempts import find
from ar.history.ideas import Edit, Proposal
from ar.history.records import History, Outcome
from ar.project import papers
from ar.project.project import Project
from ar.text import one_line, plain

MAX_REPAIRS = 2  # of one crashed experiment
_DIFF = 12_000  # characters


class Tools:
    """The tools of one turn, over the history and the head that its briefing has.

    Args:
        channel: by which the answer may be dropped while a tool takes its time.
        before: those of the same question before its answer was refused, which count too.
    """

    def __init__(
        self, repo: Repo, briefing: Briefing, channel: Channel | None = None, before: Tools | None = None
    ) -> None:
        self.repo = repo
        self.project = Project(repo, briefing.program)
        self.briefing = briefing
        self.program = briefing.program
        self.history = briefing.history
        self.head = briefing.history.head
        self.files = BranchFiles(repo, self.program, self.head)
        self.experiments = Experiments(self.project, self.history)
        self.channel = channel or Channel()
        self.notes: int = before.notes if before else 0
        self.trials: int = before.trials if before else 0
        self._answers: dict[str, Callable[..., str]] = {
            "list_files": self.files.listed,
            "read_file": self.files.read,
            "search_code": self.files.search,
            "history": self.experiments.listed,
            "show_experiment": self.experiments.opened,
            "compare": self.experiments.compared,
            "lessons": self._lessons,
            "literature": self._literature,
            "note": self._note,
            "try_edit": self._try_edit,
            "smoke_run": self._smoke_run,
            "work_on": self._work_on,
        }

    def answer(self, name: str, given: Mapping[str, Any]) -> str:
        """What a tool says.

        Raises:
            ArError: it cannot say it, and what would help.
        """
        if name not in self._answers:
            raise BadInput(f"there is no tool '{name}'", nearest(name, schemas.SCHEMAS))
        check(given, schemas.SCHEMAS[name][1], name)
        return self._answers[name](**given)

    def concluded(self, name: str, given: Mapping[str, Any]) -> Proposal:
        """What a tool that ends the turn was called with, as a proposal.

        Raises:
            ArError: it is not what the schema asks for, or that cannot be tried.
        """
        if name == "propose":
            return self.proposal(given)
        check(given, schemas.SCHEMAS[name][1], name)
        if name == "revisit":
            return memory.revisit(self.project, self.briefing, given["name"], given["why"])
        return memory.combine(self.project, self.briefing, (given["a"], given["b"]), given["why"])

    def proposal(self, given: Mapping[str, Any]) -> Proposal:
        """What `propose` was called with, as a proposal.

        Raises:
            BadInput: it is not what the schema asks for, or names experiments that do not exist.
        """
        check(given, schemas.SCHEMAS["propose"][1], "propose")
        cited, rests_on = self._cited(given["evidence"])
        try:
            for name in rests_on:
                find(self.history, name)
            if given["builds_on"]:
                refuse_third_repair(self.history, given["builds_on"])
        except NotFound as error:
            raise BadInput(error.message, f"cite experiments by their names. {error.mend}") from None
        parts = [plain(given["hypothesis"]).strip()]
        if rests_on:
            parts.append(f"Evidence: {', '.join(map(one_line, rests_on))}.")
        if given["refuted_by"].strip():
            parts.append(f"Refuted if: {one_line(given['refuted_by'])}")
        return Proposal(
            title=one_line(given["title"]),
            hypothesis="\n\n".join(parts),
            agent="claude",
            **_change(given),
            expected=one_line(given["expected"]),
            simplification=given["simplification"],
            parent=one_line(given["builds_on"]),
            insist=one_line(given["insist"]),
            sources=tuple(cited),
        )

    def _cited(self, names: list[str]) -> tuple[list[str], list[str]]:
        """Those of the names that are cards', and the others, which are experiments'.

        A card is meant where no experiment has the name, or by its path.
        """
        known = {attempt.name for attempt in self.history.attempts}
        cards = papers.read(self.repo, self.head).cards if names else {}
        cited = [name for name in names if papers.named(name) in cards and name not in known]
        return list(dict.fromkeys(map(papers.named, cited))), [name for name in names if name not in cited]

    def _lessons(self, contains: str) -> str:
        return memory.lessons(self.repo, self.briefing, contains)

    def _literature(self, query: str) -> str:
        return literature.found(self.repo, self.program, self.history, query)

    def _note(self, text: str, status: str, cites: list[str], lesson: str) -> str:
        if self.notes == memory.MOST_NOTES:
            raise BadInput(f"{self.notes} notes are enough for one proposal", "propose now")
        said = memory.note(self.repo, self.briefing, text, status, cites, lesson)
        self.notes += 1
        return said

    def _work_on(self, text: str) -> str:
        self.channel.claim(text)
        return "The others are told."

    def _smoke_run(self, params: list[Any], edits: list[Any]) -> str:
        if self.trials == schemas.MOST_TRIALS:
            raise BadInput(f"{self.trials} smoke runs are enough for one proposal", "propose now")
        tree = self._tried(params, edits)
        self.trials += 1
        return smoke.told(self.repo, self.briefing, tree, self.channel)

    def _try_edit(self, params: list[Any], edits: list[Any]) -> str:
        patch = self.repo.diff(self.head, self._tried(params, edits))
        return "It applies, keeps to the scope and is new.\n" + fence(patch, "the change", _DIFF)

    def _tried(self, params: list[Any], edits: list[Any]) -> str:
        """The tree of a change that would pass every check."""
        tried = Proposal("try", agent="claude", **_change({"params": params, "edits": edits}))
        return prepare(self.project, tried, self.history).tree


def refuse_third_repair(history: History, name: str) -> None:
    """Hold a change that builds on another to the number of times that a crashed one may be repaired.

    Raises:
        BadInput: it was repaired often enough.
        NotFound: there is no such experiment.
    """
    broken, _ = find(history, name)
    tries = [item for item in history.attempts if item.first.parent == broken.name]
    if broken.outcome is Outcome.CRASHED and len(tries) >= MAX_REPAIRS:
        words = f"{broken.name} was repaired {len(tries)} times already"
        raise BadInput(words, "let it be; propose something else")


def _change(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "params": {item["key"]: item["value"] for item in given["params"]},
        "edits": tuple(Edit(item["path"], item["old"], item["new"]) for item in given["edits"]),
    }

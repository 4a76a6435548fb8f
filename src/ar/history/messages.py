"""The commit message of an experiment: title, hypothesis, trailers; written and parsed here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ar.git.refs import is_name
from ar.history.records import Experiment, Proposal, Spend
from ar.redaction import redact

TITLE_LIMIT = 72
# The agent's name under which the incumbent is measured, so that its runs are never taken for a candidate's.
BASELINE_AGENT = "baseline"

_TRAILER = re.compile(r"^Ar-(?P<key>[A-Za-z]+): ?(?P<value>.*)$")


@dataclass(frozen=True)
class Message:
    """What a commit message says of an experiment. A commit that is not ours has a title only."""

    title: str
    body: str = ""
    agent: str = ""
    candidate: str = ""
    seed: int | None = None
    parent: str = ""
    rung: str = ""
    expected: str = ""
    simplification: bool = False
    spend: Spend | None = None
    audit: bool = False
    stack: tuple[str, ...] = ()
    reverts: str = ""

    def __str__(self) -> str:
        trailers = {
            "Agent": self.agent,
            "Candidate": self.candidate,
            "Seed": "" if self.seed is None else str(self.seed),
            "Parent": self.parent,
            "Rung": self.rung,
            "Expected": redact(self.expected),
            "Simplification": "yes" if self.simplification else "",
            "Spend": self.spend.words if self.spend else "",
            "Audit": "yes" if self.audit else "",
            "Stack": " ".join(self.stack),
            "Reverts": self.reverts,
        }
        lines = [f"Ar-{key}: {_one_line(value)}" for key, value in trailers.items() if value]
        parts = [
            redact(_one_line(self.title))[:TITLE_LIMIT] or "experiment",
            redact(_without_trailers(self.body)),
            "\n".join(lines),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    @classmethod
    def of(cls, proposal: Proposal, candidate: str, seed: int | None) -> Message:
        return cls(
            title=proposal.title,
            body=proposal.hypothesis,
            agent=proposal.agent,
            candidate=candidate,
            seed=seed,
            parent=proposal.parent,
            expected=proposal.expected,
            simplification=proposal.simplification,
            spend=proposal.spend,
            stack=proposal.stack,
            reverts=proposal.reverts,
        )

    @classmethod
    def again(cls, first: Experiment, candidate: str, seed: int | None) -> Message:
        """For another run of what `first` tried; what it cost to propose stays with `first`."""
        return cls(
            title=first.title,
            body=first.hypothesis,
            agent=first.agent,
            candidate=candidate,
            seed=seed,
            parent=first.parent,
            rung=first.rung,
            expected=first.expected,
            simplification=first.simplification,
            stack=first.stack,
            reverts=first.reverts,
        )

    @classmethod
    def parse(cls, text: str) -> Message:
        title, _, rest = text.strip().partition("\n")
        body, _, last = rest.strip().rpartition("\n\n")
        found: dict[str, str] = {}
        for line in last.splitlines():
            match = _TRAILER.match(line)
            if match:
                found[match["key"].lower()] = match["value"].strip()
        if not found:
            return cls(title=title, body=rest.strip())
        seed = found.get("seed", "")
        return cls(
            title=title,
            body=body.strip(),
            agent=found.get("agent", ""),
            candidate=found.get("candidate", ""),
            seed=int(seed) if re.fullmatch(r"-?\d+", seed) else None,
            parent=found.get("parent", ""),
            rung=found.get("rung", ""),
            expected=found.get("expected", ""),
            simplification=found.get("simplification") == "yes",
            spend=Spend.parse(found.get("spend", "")),
            audit=found.get("audit") == "yes",
            stack=tuple(name for name in found.get("stack", "").split() if is_name(name)),
            reverts=found["reverts"] if is_name(found.get("reverts", "")) else "",
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _without_trailers(text: str) -> str:
    """A hypothesis must not be able to write trailers of its own."""
    return "\n".join(
        line.rstrip() for line in text.strip().splitlines() if not line.lstrip().startswith("Ar-")
    )

"""The commit message of an experiment: title, hypothesis, trailers; written and parsed here."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field

from ar.git.refs import is_name
from ar.history.ideas import Idea
from ar.history.spend import Spend
from ar.project import papers
from ar.redaction import redact
from ar.text import shorten_middle

TITLE_LIMIT = 72
HYPOTHESIS_LIMIT = 6000  # characters, whoever proposes
MOST_SOURCES = 20  # cards that one change cites
# The agent's name under which the incumbent is measured, so that its runs are never taken for a candidate's.
BASELINE_AGENT = "baseline"
FOREIGN_AGENT = "dvc"  # an experiment that somebody ran by `dvc exp run`

# DVC's own message names a hash of the experiment, in 64 digits, and nothing of what was tried.
_DVCS_TITLE = re.compile(r"dvc: commit experiment [0-9a-f]+")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRAILER = re.compile(r"^Ar-(?P<key>[A-Za-z]+): ?(?P<value>.*)$")


@dataclass(frozen=True)
class Message(Idea):
    """What a commit message says of an experiment. A commit that is not ours has a title only.

    Args:
        candidate: identity of the change, equal for all seeds of it; the baseline's own runs carry the
            baseline's identity.
        seed: None where the programme has no seed.
        rung: scale it runs at; empty for the base scale.
        audit: one of the closing runs that re-measure the incumbent.
        aa: one of the runs of an A/A check, which repeat the incumbent's.
        edits: it changes other files than those of parameters.
        only_on: class of devices that it is to run on; empty for any.
        only_at: machine that it is to run on, by its host name; empty for any.
        imported: the tool whose record tells of it; empty where it was run here or in another clone.
        earlier: it measures the branch as it was earlier, or a change of that, for an audit.
    """

    candidate: str = ""
    seed: int | None = None
    rung: str = field(default="", kw_only=True)
    audit: bool = field(default=False, kw_only=True)
    aa: bool = field(default=False, kw_only=True)
    edits: bool = field(default=False, kw_only=True)
    only_on: str = field(default="", kw_only=True)
    only_at: str = field(default="", kw_only=True)
    imported: str = field(default="", kw_only=True)
    earlier: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        return self.text()

    def text(self, name: str = "") -> str:
        """The commit's message.

        Args:
            name: of the run. Two that are alike to the last byte and end within one second would else be one
                commit, and share its note.
        """
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
            "Aa": "yes" if self.aa else "",
            "Edits": "yes" if self.edits else "",
            "Device": self.only_on,
            "Machine": self.only_at,
            "Stack": " ".join(self.stack),
            "Reverts": self.reverts,
            "Observed": self.observed,
            "Imported": self.imported,
            "Earlier": "yes" if self.earlier else "",
            "Source": " ".join(filter(papers.is_name, self.sources)),
            "Name": name,
        }
        title = redact(_one_line(self.title)).lstrip("-# ")[:TITLE_LIMIT] or "experiment"
        body = inert(self.hypothesis)
        last = "\n".join(f"Ar-{key}: {_one_line(value)}" for key, value in trailers.items() if value)
        return "\n\n".join(part for part in (title, body, last) if part) + "\n"

    @classmethod
    def of(cls, idea: Idea, candidate: str, seed: int | None, rung: str = "", edits: bool = False) -> Message:
        """For a run of an idea."""
        said = {spec.name: getattr(idea, spec.name) for spec in dataclasses.fields(Idea)}
        return cls(**said, candidate=candidate, seed=seed, rung=rung, edits=edits)

    @classmethod
    def again(cls, first: Message, candidate: str, seed: int | None) -> Message:
        """For another run of what `first` tried; what it cost to propose stays with `first`."""
        made = cls.of(first, candidate, seed, first.rung, first.edits)
        return dataclasses.replace(made, spend=None, earlier=first.earlier)

    @classmethod
    def parse(cls, text: str) -> Message:
        title, _, rest = text.strip().partition("\n")
        body, _, last = rest.strip().rpartition("\n\n")
        matches = (_TRAILER.match(line) for line in last.splitlines())
        found = {match["key"].lower(): match["value"].strip() for match in matches if match}
        if not found:
            return cls("dvc exp run" if _DVCS_TITLE.fullmatch(title) else title, rest.strip())
        seed = found.get("seed", "")
        return cls(
            title=title,
            hypothesis=body.strip(),
            agent=found.get("agent", ""),
            candidate=found.get("candidate", ""),
            seed=int(seed) if re.fullmatch(r"-?[0-9]{1,300}", seed) else None,
            parent=found.get("parent", ""),
            rung=found.get("rung", ""),
            expected=found.get("expected", ""),
            simplification=found.get("simplification") == "yes",
            spend=Spend.parse(found.get("spend", "")),
            audit=found.get("audit") == "yes",
            aa=found.get("aa") == "yes",
            edits=found.get("edits") == "yes",
            only_on=found.get("device", ""),
            only_at=found.get("machine", ""),
            stack=tuple(name for name in found.get("stack", "").split() if is_name(name)),
            reverts=found["reverts"] if is_name(found.get("reverts", "")) else "",
            observed=found["observed"] if _COMMIT.fullmatch(found.get("observed", "")) else "",
            imported=found.get("imported", ""),
            earlier=found.get("earlier") == "yes",
            sources=tuple(filter(papers.is_name, found.get("source", "").split()[:MOST_SOURCES])),
        )


def headed(title: str, why: str) -> tuple[str, str]:
    """A title within the limit, and the hypothesis, in which one that is too long stands whole."""
    if len(title) <= TITLE_LIMIT:
        return title, why
    return f"{title[: TITLE_LIMIT - 1]}…", "\n\n".join(filter(None, (title, why)))


def inert(hypothesis: str) -> str:
    """A hypothesis as part of a commit message, in which it can write no trailers of its own.

    Git takes what comes before a line of `---`, or before one to cut along (`# --- >8 ---`), for the whole
    message, and its last paragraph for trailers; no such line begins with a space.
    """
    said = (line.rstrip() for line in hypothesis.strip().splitlines())
    kept = (line for line in said if not line.lstrip().startswith("Ar-"))
    text = "\n".join(f" {line}" if line.startswith(("---", "#")) else line for line in kept)
    return shorten_middle(redact(text), HYPOTHESIS_LIMIT).strip("\n")


def _one_line(text: str) -> str:
    return " ".join(text.split())

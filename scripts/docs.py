"""Write what the documents show of the code and of recorded runs: `make docs`. With --check, say what is old.

docs/commands.md is written whole; in the others, what stands between two markers.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from imports import GROUND, PACKAGE, package_graph

from ar.campaign.audit import AuditReport
from ar.cli.main import CONTEXT, cli
from ar.history.records import Finding, Verdict
from ar.project.program import Metric, Program
from ar.text import signed
from ar.views.audit import cells, whole_words

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "benchmarks" / "recorded" / "greedy_branch"
WIDTH = 100
HEAD = """\
# Commands

What `ar COMMAND --help` prints. Written by `make docs` from the commands; do not edit.
"""


def commands(_old: str) -> str:
    """The whole page: the group first, then every command in the order in which the group lists them."""
    top = click.Context(cli, info_name="ar", terminal_width=WIDTH, max_content_width=WIDTH, **_settings())
    parts = [HEAD, _section(top, cli, "##")]
    for heading, part in cli.sections.items():
        parts.append(f"## {heading}\n")
        for command in part:
            context = click.Context(command, top, info_name=command.name, terminal_width=WIDTH, **_settings())
            parts.append(_section(context, command, "###"))
    return "\n".join(parts)


def _settings() -> dict[str, Any]:
    return {name: CONTEXT[name] for name in ("help_option_names", "show_default")}


def _section(context: click.Context, command: click.Command, level: str) -> str:
    text = command.get_help(context).rstrip()
    return f"{level} {context.command_path}\n\n```\n{text}\n```\n"


def architecture(old: str) -> str:
    """The page with its table of packages as they are."""
    rows = [
        *("| package | what it is | imports |", "|---|---|---|"),
        f"| (ground) | {', '.join(f'`{name}`' for name in GROUND)} | |",
        *(f"| `{name}` | {_purpose(name)} | {', '.join(used)} |" for name, used in package_graph().items()),
    ]
    return _between(old, "packages", rows)


def audit(old: str) -> str:
    """The page with the whole of the recorded audit."""
    found = _recorded()
    program = Program(Metric("metrics.json", "val_bpb"))
    header = ("commit", "what it changed", "claimed", "measured", "runs", "verdict")
    rows = [f"| {' | '.join(header)} |", "|---|---|---:|---:|---:|---|"]
    rows += [f"| {' | '.join(cells(keep))} |" for keep in found.keeps]
    return _between(
        old, "audit", [*rows, "", f"The head against the first commit: {whole_words(found.whole, program)}."]
    )


def readme(old: str) -> str:
    """README with the recorded audit in short."""
    found = _recorded()
    whole, runs = found.whole, (RECORDED / "results.tsv").read_text(encoding="utf-8").splitlines()[1:]
    tried = [line for line in runs if not line.endswith("\tbaseline")]
    counts = ", ".join(f"{count} {finding}" for finding in Finding if (count := found.count(finding)))
    assert whole.change is not None and whole.claimed is not None
    rows = [
        "| | by the agent's single runs | by the audit |",
        "|---|---:|---:|",
        f"| keeps, of {len(tried)} changes tried | {len(found.keeps)} | {counts} |",
        f"| `val_bpb`, the branch against its first commit | {signed(round(whole.claimed, 3))} "
        f"| {signed(whole.change, whole.standard_error)} |",
    ]
    promoted = RECORDED / "promoted.json"
    if promoted.is_file():
        held = Verdict.from_json(json.loads(promoted.read_text(encoding="utf-8"))["verdict"])
        assert held.effect is not None
        rows.append(f"| the real keeps alone against it | | {signed(held.effect, held.standard_error)} |")
    return _between(old, "audit", [*rows, f"| runs | {len(runs)} | {found.runs} |"])


def _recorded() -> AuditReport:
    return AuditReport.from_json(json.loads((RECORDED / "audit.json").read_text(encoding="utf-8")))


def _between(old: str, what: str, lines: Sequence[str]) -> str:
    """A page with other lines between its markers."""
    begin, end = f"<!-- {what}: written by `make docs` -->\n", f"<!-- end of {what} -->\n"
    before, _, rest = old.partition(begin)
    _, _, after = rest.partition(end)
    return "\n".join([f"{before}{begin}", *lines, "", f"{end}{after}"])


def _purpose(package: str) -> str:
    """The first sentence of a package's docstring."""
    tree = ast.parse((PACKAGE / package / "__init__.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").splitlines()[0].rstrip(".")


def main() -> int:
    stale = []
    pages = {
        "docs/commands.md": commands,
        "docs/architecture.md": architecture,
        "docs/audit.md": audit,
        "README.md": readme,
    }
    for name, write in pages.items():
        page = ROOT / name
        old = page.read_text(encoding="utf-8")
        if (new := write(old)) != old:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                page.write_text(new, encoding="utf-8")
    if stale and "--check" in sys.argv[1:]:
        print(f"{' and '.join(stale)}: out of date; run: python scripts/docs.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`ar agent-kit`: what is there stays, what was added goes, and nothing is written through a link."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from helpers import Ar, git, snapshot, typed

from ar.errors import BadState
from ar.serve import kit

OURS = {"command": "ar", "args": ["mcp"]}
THEIRS = {
    ".mcp.json": '{"mcpServers": {"other": {"command": "x"}}, "more": 1}\n',
    ".codex/config.toml": '# mine\nmodel = "m"\n\n[mcp_servers.other]\ncommand = "x"  # kept\n',
    "AGENTS.md": "# Rules\n\nBe kind.\n",
}


def apply(root: Path, client: str, remove: bool = False) -> list[str]:
    changes = kit.plan(root, client, remove)
    for change in changes:
        kit.write(root, change)
    return [change.path for change in changes]


@pytest.mark.parametrize("client", sorted(kit.CLIENTS))
def test_it_is_written_once_and_leaves_no_trace(client: str, tmp_path: Path) -> None:
    assert apply(tmp_path, client) == list(kit.CLIENTS[client])
    assert apply(tmp_path, client) == []
    assert apply(tmp_path, client, remove=True) == list(kit.CLIENTS[client])
    assert list(tmp_path.iterdir()) == []
    assert apply(tmp_path, client, remove=True) == []


@pytest.mark.parametrize("client", sorted(kit.CLIENTS))
def test_what_is_there_stays(client: str, tmp_path: Path) -> None:
    for path, text in THEIRS.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    apply(tmp_path, client)
    if client == "claude":
        data = json.loads((tmp_path / ".mcp.json").read_text())
        assert data == {"mcpServers": {"other": {"command": "x"}, "ar": OURS}, "more": 1}
    else:
        text = (tmp_path / ".codex/config.toml").read_text()
        servers = tomllib.loads(text)["mcp_servers"]
        assert servers["other"] == {"command": "x"} and servers["ar"].items() >= OURS.items()
        assert servers["ar"]["required"]  # or its first turn is without our tools
        assert text.startswith('# mine\nmodel = "m"') and "# kept" in text
        assert (tmp_path / "AGENTS.md").read_text().startswith(THEIRS["AGENTS.md"])
    apply(tmp_path, client, remove=True)
    assert json.loads((tmp_path / ".mcp.json").read_text()) == json.loads(THEIRS[".mcp.json"])
    assert tomllib.loads((tmp_path / ".codex/config.toml").read_text()) == tomllib.loads(
        THEIRS[".codex/config.toml"]
    )
    assert (tmp_path / "AGENTS.md").read_text() == THEIRS["AGENTS.md"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".mcp.json", "{"),
        (".mcp.json", "[]"),
        (".mcp.json", '{"mcpServers": []}'),
        (".codex/config.toml", "= 1"),
        (".codex/config.toml", "mcp_servers = 1"),
        (".mcp.json", "\udcff"),
    ],
)
def test_what_cannot_be_read_is_left_alone(path: str, text: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(text.encode(errors="surrogateescape"))
    client = "claude" if path == ".mcp.json" else "codex"
    for remove in (False, True):
        with pytest.raises(BadState):
            kit.plan(tmp_path, client, remove)


def test_a_skill_of_somebody_else_s_is_left_alone(tmp_path: Path) -> None:
    skill = tmp_path / ".claude/skills/ar/SKILL.md"
    skill.parent.mkdir(parents=True)
    skill.write_text("mine\n")
    with pytest.raises(BadState):
        kit.plan(tmp_path, "claude", remove=False)
    assert kit.plan(tmp_path, "claude", remove=True) == []


@pytest.mark.parametrize("path", [".mcp.json", ".claude", "AGENTS.md", ".codex"])
def test_nothing_is_written_through_a_link(path: str, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / path).symlink_to(outside / "file" if path.endswith((".json", ".md")) else outside)
    client = "claude" if path in (".mcp.json", ".claude") else "codex"
    with pytest.raises(BadState, match="link"):
        kit.plan(root, client, remove=False)


def test_the_diff_is_shown_and_asked_for(project: Path, ar: Ar) -> None:
    before = snapshot(project)
    shown = typed(project, "n\n", "agent-kit", "claude", code=130)
    assert '+    "ar": {' in shown and "Write this?" in shown
    assert snapshot(project) == before
    shown = ar(project, "agent-kit", "claude").stdout
    assert "Wrote .mcp.json" in shown and "+name: ar" in shown
    assert git(project, "--no-optional-locks", "status", "--short").split("\n") == [
        "?? .claude/",
        "?? .mcp.json",
    ]
    assert "Deleted .mcp.json" in ar(project, "agent-kit", "claude", "--remove").stdout
    assert snapshot(project) == before

"""The template of docs/harness.md, as it stands there, against an honest candidate and four that are not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data import walls
from tests.lab.conftest import ROOT

HONEST = "def answer(shown): return shown\n"
AHEAD = "def answer(shown): return [*shown[1:], shown[-1]]\n"
READS = "import json\ndef answer(shown): return json.load(open('held_out.json'))[1:]\n"
WRITES = "def answer(shown): open('metrics.json', 'w').write('{}'); return shown\n"
CUNNING = "import sys\nsys.stderr.write('judge: refused')\ndef answer(shown): return 'ab'\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with what the page tells to put there, and a series."""
    text = (ROOT / "docs/harness.md").read_text()
    blocks = re.findall(r"```python\n# (\w+\.py): (.*?)```", text, re.DOTALL)
    assert [name for name, _ in blocks] == ["judge.py", "inside.py"]
    for name, code in blocks:
        (tmp_path / name).write_text("# " + code)
    shutil.copy(ROOT / "data/walls.py", tmp_path)
    (tmp_path / "candidate").mkdir()
    (tmp_path / "held_out.json").write_text(json.dumps([(7 * n % 11) / 3 for n in range(50)]))
    return tmp_path


def judge(project: Path, candidate: str) -> int:
    (project / "candidate/__init__.py").write_text(candidate)
    return subprocess.run([sys.executable, "judge.py"], cwd=project, check=False, timeout=60).returncode


def test_an_honest_candidate_is_scored(project: Path) -> None:
    assert judge(project, HONEST) == 0
    metrics = json.loads((project / "metrics.json").read_text())
    assert metrics["error"] > 0
    assert metrics["walls"] == ("kernel" if walls.holds() else "unprotected")


@pytest.mark.parametrize(
    ("candidate", "status"),
    [
        (AHEAD, 77),
        pytest.param(READS, 1, marks=pytest.mark.skipif(not walls.holds(), reason="no Landlock")),
        pytest.param(WRITES, 1, marks=pytest.mark.skipif(not walls.holds(), reason="no Landlock")),
        (CUNNING, 1),
    ],
)
def test_a_candidate_that_cheats_gets_no_score(project: Path, candidate: str, status: int) -> None:
    assert judge(project, candidate) == status
    assert not (project / "metrics.json").exists()

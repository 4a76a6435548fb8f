"""What a run of the lab costs beside an earlier one's: CPU seconds of all its processes, in pairs.

The code of another commit and that of the working tree run in turns on the same shards, so that the machine's
other work falls on both alike. Prints each pair, the median ratio, and what both scored.

    python benchmarks/lab_cost.py 43ed597 --pairs 6
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("data", "model", "params.yaml")


def cpu_seconds(folder: Path, module: str) -> float:
    """Of `python -m MODULE` and all that it started. Raises CalledProcessError when it fails."""
    command = [sys.executable, "-m", module]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Prints a line for each pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rev", help="the commit to compare with")
    parser.add_argument("--pairs", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        before, now = Path(name, "before"), Path(name, "now")
        before.mkdir()
        archive = ["git", "archive", "--format=tar", f"--output={name}/tar", options.rev, "--", *PARTS]
        subprocess.run(archive, cwd=ROOT, check=True)
        with tarfile.open(Path(name, "tar")) as tar:
            tar.extractall(before, filter="data")
        cpu_seconds(before, "data.prepare")
        leave = shutil.ignore_patterns("shards", "checkpoint", "downloads", "__pycache__")
        for part in ("data", "model"):
            shutil.copytree(ROOT / part, now / part, ignore=leave)
        shutil.copytree(before / "data/shards", now / "data/shards")
        shutil.copy(ROOT / "params.yaml", now)
        ratios = []
        for number in range(options.pairs):
            turns = (before, now) if number % 2 == 0 else (now, before)
            used = {folder: cpu_seconds(folder, "data.harness") for folder in turns}
            ratios.append(used[now] / used[before])
            print(f"before {used[before]:6.2f} s  now {used[now]:6.2f} s  ratio {ratios[-1]:.3f}", flush=True)
        print(f"median ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
        for folder in (before, now):
            metrics = json.loads((folder / "metrics.json").read_text())
            print(f"{folder.name:6} val_bpb {metrics['val_bpb']!r}")


if __name__ == "__main__":
    main()

"""A command that stands in for a coding agent, good or bad: `python simulated_agent.py KIND`.

What it does is drawn anew for each answer. Each change is a file of `model/` with
words and a line `gain NUMBER`, by which the stage's loss falls; words that say `crash` or `diverge` do that.

- good: thinks for half a second; four of ten changes help. 0.05 US dollars an answer.
- expensive: the same, for 1 dollar.
- repetitive: mostly one family of changes, of which none helps.
- wild: changes what none may change, crashes runs, fails, leaves processes behind; one in ten helps.
- hanging: says nothing until it is ended, two times of three.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

COSTS = {"good": 0.05, "expensive": 1.0, "repetitive": 0.05, "wild": 0.05, "hanging": 0.05}
LEFT = "86412"  # seconds that a process sleeps which the wild one leaves
_SYLLABLES = ("ka", "lo", "mi", "ru", "te", "so", "vi", "na", "pe", "du", "gar", "bel")


def main() -> None:
    """Answer the briefing."""
    kind = sys.argv[1]
    sys.stdin.read()
    draw = random.Random()
    _KINDS[kind](draw)


def change(draw: random.Random, gain: float, *lines: str) -> None:
    """A change unlike all others, by an effect; the message tells its price."""
    words = ["".join(draw.choices(_SYLLABLES, k=3)) for _ in range(12)]
    text = "\n".join([*words, *lines, f"gain {gain}"])
    Path(f"model/{words[0]}-{words[1]}.txt").write_text(text + "\n", encoding="utf-8")
    say(f"{' '.join(words[:4])}\n\n{' '.join(words[4:])} may help.\nExpected: -{gain}")


def say(message: str, error: bool = False) -> None:
    """Print what Claude Code prints at its end."""
    usage = {"input_tokens": 9000, "output_tokens": 300}
    end = {"type": "result", "result": message, "is_error": error, "usage": usage}
    print(json.dumps({**end, "total_cost_usd": COSTS[sys.argv[1]]}), flush=True)


def good(draw: random.Random) -> None:
    """Four of ten help."""
    time.sleep(0.5)
    change(draw, 0.3 if draw.random() < 0.4 else 0.0)


def repetitive(draw: random.Random) -> None:
    """The same again, with another number."""
    if draw.random() < 0.3:
        change(draw, 0.0)
        return
    Path("model/scale.txt").write_text(f"scale by {1 + draw.random():.2f}\n", encoding="utf-8")
    say("Scale by another number\n\nA larger scale may help.")


def wild(draw: random.Random) -> None:
    """Anything at all."""
    if draw.random() < 0.3:
        change(draw, *draw.choice([(0.0, "crash"), (0.0, "diverge"), (0.3,)]))
        return
    acts: list[Callable[[], object]] = [
        lambda: Path("dvc.yaml").write_text("stages: {}\n", encoding="utf-8"),
        lambda: Path("params.yaml").write_text("x: .nan\nseed: 7\n", encoding="utf-8"),
        lambda: Path("model/large.txt").write_text("x" * 3_000_000, encoding="utf-8"),
        lambda: Path("model/link.txt").symlink_to("/etc/passwd"),
        lambda: subprocess.Popen(["sleep", LEFT], start_new_session=True),
        lambda: os.kill(os.getpid(), 9),
        lambda: sys.exit(3),
    ]
    draw.choice(acts)()
    say("\x1b[2J" + "wild " * 1000)


def hanging(draw: random.Random) -> None:
    """Two of three answers never come."""
    if draw.random() < 2 / 3:
        time.sleep(3600)
    change(draw, 0.0)


_KINDS = {"good": good, "expensive": good, "repetitive": repetitive, "wild": wild, "hanging": hanging}

if __name__ == "__main__":
    main()

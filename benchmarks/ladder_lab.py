"""What small runs of the lab say of larger ones: a campaign over depth 2, 3, 4 and 6, and its forecasts.

One idea is one parameter moved, from a list that was written beforehand. All are tried at depth 2,
`ar climb --all` measures what tells most of depth 6 on the way there, and every idea that came to be measured
at depth 6 is compared with what the model expected of it from the rungs below alone.

    python benchmarks/ladder_lab.py make FOLDER     # about two hours on two cores
    python benchmarks/ladder_lab.py record FOLDER   # a table, and benchmarks/recorded/ladder_lab/effects.json

`make` may be killed and run again: it carries on.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from scipy.stats import spearmanr

from ar.campaign.campaign import Campaign
from ar.project.project import Project
from ar.surrogate.climbs import Climbs, climbs_of
from ar.surrogate.transfer import Forecast

HERE = Path(__file__).resolve().parents[1]
RECORDED = HERE / "benchmarks" / "recorded" / "ladder_lab"
TOKENS = {2: 65_536, 3: 131_072, 4: 262_144, 6: 262_144}
ETA = 2  # of 26 ideas four are confirmed at depth 6
IDEAS = (
    ("optim.matrix_lr=0.04", "Matrices learn too slowly in a short run"),
    ("optim.matrix_lr=0.08", "Four times the rate for matrices"),
    ("optim.matrix_lr=0.01", "A lower rate for matrices is steadier"),
    ("optim.embedding_lr=0.6", "Embeddings are seen rarely: a higher rate"),
    ("optim.embedding_lr=0.15", "A lower rate for embeddings"),
    ("optim.unembedding_lr=0.008", "The output layer learns too slowly"),
    ("optim.unembedding_lr=0.016", "Four times the rate for the output layer"),
    ("optim.scalar_lr=0.25", "Scalars move too far"),
    ("optim.scalar_lr=1.0", "Scalars move too little"),
    ("optim.weight_decay=0.0", "A short run needs no weight decay"),
    ("optim.weight_decay=0.4", "More weight decay"),
    ("optim.batch_tokens=1024", "More steps of half the batch"),
    ("schedule.warmdown=0.8", "Warm down over most of the run"),
    ("schedule.warmdown=0.3", "Warm down late"),
    ("schedule.final_lr=0.1", "End with a tenth of the rate"),
    ("schedule.warmup=0.1", "Warm up over a tenth of the run"),
    ("optim.momentum_warmup=30", "Momentum is up to speed sooner"),
    ("optim.momentum=0.9", "Less momentum"),
    ("optim.adam_beta1=0.7", "Less memory in Adam's mean"),
    ("optim.adam_beta2=0.9", "Less memory in Adam's variance"),
    ("model.softcap=10.0", "A tighter cap on logits"),
    ("model.value_embedding_every=1", "A value embedding in each layer"),
    ("model.value_embedding_every=0", "No value embeddings"),
    ("model.x0_init=0.0", "Start without the embedding's shortcut"),
    ("model.qk_scale=1.2", "Attention may start sharper"),
    ("model.rope_base=1000", "A lower base of rotary positions suits short contexts"),
)


def make(folder: Path) -> None:
    """The campaign, in a clone of this repository."""
    if not folder.exists():
        subprocess.run(["git", "clone", "-q", str(HERE), str(folder)], check=True)
        _settings(folder)
        _run(folder, "dvc", "repro", "-q")
        _run(folder, "git", "commit", "-qam", "Start at depth 2")
        for value, hypothesis in IDEAS:
            _run(folder, "ar", "next", "--set", value, "-m", hypothesis)
    _run(folder, "ar", "run", "-n", "0", "--no-promote")
    _run(folder, "ar", "climb", "--all", "--to", "d6", "--eta", str(ETA))


def _settings(folder: Path) -> None:
    params = folder / "params.yaml"
    text = params.read_text()
    for old, new in (
        (r"^  depth: \d+", "  depth: 2"),
        (r"^  tokens: \d+", f"  tokens: {TOKENS[2]}"),
        (r"^  eval_tokens: \d+", "  eval_tokens: 16384"),
    ):
        text = re.sub(old, new, text, flags=re.MULTILINE)
    params.write_text(text)
    rungs = [
        f"  - {{name: d{depth}, params: {{model.depth: {depth}, train.tokens: {tokens}}}}}"
        for depth, tokens in TOKENS.items()
        if depth > 2
    ]
    ladder = "\n".join(["ladder:", "  - {name: d2}", *rungs, "curve:"])
    program = folder / "program.md"
    text = re.sub(r"^ladder:.*?^curve:", ladder, program.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^early_stop:.*\n", "", text, flags=re.MULTILINE)
    program.write_text(text.replace("timeout: 5m", "timeout: 15m"))


def record(folder: Path) -> None:
    """Print what was measured beside what was expected, and keep it."""
    project = Project.open(folder)
    history = Campaign(project).history()
    climbs = climbs_of(project.program, history, "d6")
    below = replace(climbs, verdicts=tuple((*row[:-1], None) for row in climbs.verdicts))
    rows = [_row(climbs, below.forecasts[place], place) for place in range(len(climbs.ideas))]
    rows.sort(key=lambda row: row["forecast"]["effect"])
    runs = dict.fromkeys(climbs.rungs, 0)
    for attempt in (*history.attempts, *history.at_rungs):
        runs[attempt.rung or climbs.rungs[0]] += sum(run.status.ended for run in attempt.own)
    RECORDED.mkdir(parents=True, exist_ok=True)
    (RECORDED / "effects.json").write_text(json.dumps({"runs": runs, "ideas": rows}, indent=1) + "\n")
    print(_table(rows, climbs.rungs))
    print(f"\nruns: {', '.join(f'{rung} {count}' for rung, count in runs.items())}")


def _row(climbs: Climbs, forecast: Forecast, place: int) -> dict:
    measured = {
        rung: {"effect": verdict.effect, "error": verdict.standard_error, "runs": verdict.runs}
        for rung, verdict in zip(climbs.rungs, climbs.verdicts[place], strict=True)
        if verdict is not None
    }
    return {
        "idea": climbs.ideas[place].title,
        "measured": measured,
        "forecast": {"effect": forecast.effect, "error": forecast.error, "interval": forecast.interval},
    }


def _table(rows: list[dict], rungs: tuple[str, ...]) -> str:
    """The ideas that were measured at the target, and how the forecasts did."""
    *below, target = rungs
    seen = [row for row in rows if target in row["measured"]]
    lines = [
        f"| idea | {' | '.join(below)} | expected at {target} | {target} |",
        "|---|" + "---:|" * (len(rungs) + 1),
    ]
    for row in seen:
        at = row["measured"]
        cells = [_cell(at[rung]) if rung in at else "" for rung in below]
        lines.append(
            f"| {row['idea']} | {' | '.join(cells)} | *{_cell(row['forecast'])}* | {_cell(at[target])} |"
        )
    pairs = [(row["forecast"], row["measured"][target]) for row in seen]
    order = spearmanr([said["effect"] for said, _ in pairs], [at["effect"] for _, at in pairs]).statistic
    inside = sum(
        abs(said["effect"] - at["effect"]) <= 1.96 * math.hypot(said["error"], at["error"])
        for said, at in pairs
    )
    lines += ["", f"rank correlation {order:.2f}; {inside} of {len(pairs)} within 95 %"]
    return "\n".join(lines)


def _cell(found: dict) -> str:
    return f"{found['effect']:+.3f} ±{found['error']:.3f}".replace("-", "−")


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["make", "record"])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    sys.exit({"make": make, "record": record}[given.what](given.folder.resolve()))

"""Every kind of chart by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ar.campaign.campaign import Campaign
from ar.errors import ArError
from ar.history.records import History
from ar.history.selection import EVERYTHING, Selection
from ar.history.tracks import scales
from ar.views.charts import files
from ar.views.charts.ladder import ladder
from ar.views.charts.pareto import pareto
from ar.views.charts.progress import progress
from ar.views.charts.stack import stack
from ar.views.charts.surface import surface
from ar.views.charts.time_to_target import time_to_target

_OF_ATTEMPTS = {"progress": progress, "pareto": pareto, "ladder": ladder}


def specification(
    kind: str, campaign: Campaign, history: History, selection: Selection = EVERYTHING
) -> dict[str, Any]:
    """The Vega-Lite specification of a chart.

    Args:
        selection: the attempts that it shows, beside the branch.

    Raises:
        ArError: there is nothing to draw yet, and what would help; or the chart shows no single attempts.
    """
    program = campaign.program
    if kind in _OF_ATTEMPTS:
        return _OF_ATTEMPTS[kind](history, program, selection)
    if selection:
        raise ArError(f"{kind} shows the branch or the model, not single attempts", "leave the filter out")
    if kind == "surface":
        return surface(campaign.model.surface(history), program)
    if kind == "time-to-target":
        return time_to_target(scales(campaign.project, history), program)
    return stack(history, program)


def draw(
    kind: str, campaign: Campaign, history: History, path: Path, selection: Selection = EVERYTHING
) -> None:
    """Draw a chart into a file.

    Raises:
        ArError: there is nothing to draw yet, or the file's ending is unknown.
    """
    files.check_ending(path)
    files.save(specification(kind, campaign, history, selection), path)

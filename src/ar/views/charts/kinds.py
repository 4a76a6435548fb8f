"""Every kind of chart by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ar.campaign.campaign import Campaign
from ar.history.records import History
from ar.history.time_to_target import scales
from ar.views.charts import files
from ar.views.charts.ladder import ladder
from ar.views.charts.pareto import pareto
from ar.views.charts.progress import progress
from ar.views.charts.stack import stack
from ar.views.charts.surface import surface
from ar.views.charts.time_to_target import time_to_target

_OF_HISTORY = {"progress": progress, "pareto": pareto, "ladder": ladder, "stack": stack}


def specification(kind: str, campaign: Campaign, history: History) -> dict[str, Any]:
    """The Vega-Lite specification of a chart.

    Raises:
        ArError: there is nothing to draw yet, and what would help.
    """
    program = campaign.program
    if kind == "surface":
        return surface(campaign.model.surface(history), program)
    if kind == "time-to-target":
        return time_to_target(scales(campaign.project, history), program)
    return _OF_HISTORY[kind](history, program)


def draw(kind: str, campaign: Campaign, history: History, path: Path) -> None:
    """Draw a chart into a file.

    Raises:
        ArError: there is nothing to draw yet, or the file's ending is unknown.
    """
    files.check_ending(path)
    files.save(specification(kind, campaign, history), path)

"""Every kind of chart by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ar.history.records import History
from ar.project.project import Project
from ar.views import curves, plots
from ar.views.charts.ladder import ladder
from ar.views.charts.pareto import pareto
from ar.views.charts.stack import stack
from ar.views.charts.timing import time_to_target


def specification(kind: str, project: Project, history: History) -> dict[str, Any]:
    """The Vega-Lite specification of a chart.

    Raises:
        ArError: there is nothing to draw yet, and what would help.
    """
    if kind == "progress":
        return plots.progress_chart(history, project.program)
    if kind == "time-to-target":
        scales = {}
        for rung in ("", *(rung.name for rung in project.program.ladder[1:])):
            found = curves.tracks(project, history, rung)
            if found:
                scales[rung] = (found, curves.reaches(found))
        return time_to_target(scales, project.program)
    return {"pareto": pareto, "ladder": ladder, "stack": stack}[kind](history, project.program)


def draw(kind: str, project: Project, history: History, path: Path) -> None:
    """Draw a chart into a file.

    Raises:
        ArError: there is nothing to draw yet, or the file's ending is unknown.
    """
    if kind == "progress":
        plots.progress(history, project.program, path)
        return
    plots.check_ending(path)
    plots.save(specification(kind, project, history), path)

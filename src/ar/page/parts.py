"""The first page and its parts, each of which is sent anew by itself when it has changed."""

from __future__ import annotations

from ar.page.charts import kinds, progress
from ar.page.news import News, chart_data
from ar.page.render import Pages
from ar.page.rows import Row
from ar.page.scene import Scene

PARTS = ("numbers", "running", "waiting", "agents", "notebook", "ladder", "machines", "errands")


def page_data(scene: Scene) -> dict[str, object]:
    """What the scripts need of a campaign."""
    return {
        "fields": Row._fields,
        "rows": scene.rows,
        "kinds": kinds(),
        "progress": progress(scene.metric),
        **chart_data(scene),
    }


def first_page(pages: Pages, news: News, scene: Scene) -> str:
    return pages(
        "overview.html",
        scene=scene,
        parts={name: html for name, (_, html) in news.parts.items()},
        order=PARTS,
        data=page_data(scene),
        generation=news.generation,
    )

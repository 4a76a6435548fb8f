"""The table is as a reading of the whole history makes it, whatever was kept of the last one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import commit, edit, git
from synthetic import fill

from ar.campaign.campaign import Campaign
from ar.errors import NotFound
from ar.git import refs
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.history.messages import Message
from ar.history.selection import EVERYTHING, Order, Selection
from ar.local import joined, memo, pulled
from ar.project.project import Project
from ar.views import glimpse
from ar.views.excerpt import Excerpt


@pytest.fixture
def filled(project: Path) -> Path:
    fill(project, 20)
    return project


def shown(
    folder: Path, selection: Selection = EVERYTHING, sort: str = Order.NEWEST, limit: int = 20
) -> Excerpt:
    """By a process that has read nothing yet."""
    return glimpse.excerpt(Campaign(Project.open(folder)), selection, sort, limit)


def read_anew(folder: Path) -> Excerpt:
    shutil.rmtree(_folder(folder), ignore_errors=True)
    return shown(folder)


def _folder(folder: Path) -> Path:
    return Repo.open(folder).git_dir / "ar" / memo.FOLDER


def test_nothing_is_read_where_nothing_has_changed(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shown(filled)
    assert (len(first.shown), first.total) == (13, 13)
    monkeypatch.setattr(Campaign, "history", lambda _: pytest.fail("the history was read"))
    assert shown(filled) == first


def test_what_is_kept_may_be_thrown_away_or_broken(filled: Path) -> None:
    first = shown(filled)
    (file,) = (path for path in _folder(filled).rglob("*") if path.is_file())
    whole = file.read_bytes()
    for broken in (
        b"",
        whole[:-1],
        whole[: len(whole) // 2],
        whole.replace(b"discard", b"promote"),
        b"\0" * 99,
    ):
        file.write_bytes(broken)
        assert shown(filled) == first
        assert file.read_bytes() == whole
    assert read_anew(filled) == first
    shutil.rmtree(_folder(filled))
    _folder(filled).write_text("in the way")
    assert shown(filled) == first


def _experiments(repo: Repo) -> list[str]:
    return [ref for ref in repo.refs(refs.EXPS) if refs.ExperimentRef.parse(ref)]


def _noted(folder: Path) -> None:
    repo = Repo.open(folder)
    rev = str(repo.resolve(_experiments(repo)[-1]))
    repo.update_note(rev, lambda note: {**note, "reason": "Nobody knows."})


def _queued(folder: Path) -> None:
    repo = Repo.open(folder)
    message = str(Message("A change", "Why.", agent="human", candidate="0" * 16, seed=1))
    rev = repo.commit_tree(repo.tree("HEAD"), [repo.head()], message)
    repo.update_refs((refs.queued("a-change-000000"), rev, ZERO))


def _moved(folder: Path) -> None:
    edit(folder / "params.yaml", "x: 1.5", "x: 1.6")
    commit(folder, "Another head")


def _gone(folder: Path) -> None:
    repo = Repo.open(folder)
    repo.update_refs((_experiments(repo)[-1], ZERO, None))


def _programme(folder: Path) -> None:
    edit(folder / "program.md", 'guards:\n  - {metric: "c.yaml:cost", direction: minimize}\n', "")


def _foreign(folder: Path) -> None:
    repo = Repo.open(folder)
    pulled.add(repo, _experiments(repo))


def _elsewhere(folder: Path) -> None:
    git(
        folder,
        "update-ref",
        refs.at_remote("origin", refs.queued("b-000000")),
        refs.queued("a-change-000000"),
    )


def _joined(folder: Path) -> None:
    joined.add(Repo.open(folder), "origin")


CHANGES = (_noted, _queued, _moved, _gone, _programme, _elsewhere, _joined, _foreign)


def test_what_has_changed_is_seen(filled: Path) -> None:
    seen = [shown(filled)]
    for change in CHANGES:
        change(filled)
        seen.append(shown(filled))
        assert seen[-1] == read_anew(filled), change
    assert len({str(excerpt) for excerpt in seen}) == len(seen)


def test_each_question_has_its_own_answer(filled: Path) -> None:
    oldest = [shown(filled, sort=Order.OLDEST) for _ in range(2)]
    assert oldest[0] == oldest[1] != shown(filled)
    assert shown(filled, Selection(contains="nothing")).shown == ()
    assert shown(filled, limit=2).shown == shown(filled).shown[:2]
    with pytest.raises(NotFound):
        shown(filled, sort="no-such-column")
    for number in range(20):
        memo.write(Repo.open(filled), "numbers", str(number), "", number)
    assert [memo.read(Repo.open(filled), "numbers", str(number), "") for number in (3, 19)] == [None, 19]

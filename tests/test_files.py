"""Files that are whole or not at all; records in a claim's folder, and no request lost to a weaker one."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from ar.stage import files
from ar.stage.files import Cause, Inside, Limits, Place, Plan, Request, Requested, Stage, Usage

PLAN = Plan(
    worker=12,
    slots=[Place("gpu0", {"CUDA_VISIBLE_DEVICES": "0"}, "/tokens/gpu0"), Place()],
    timeout=None,
    usual=Inside(["bwrap", "--unshare-all"], {"PATH": "/bin"}),
    own={"fetch": Inside(["bwrap"], {})},
    workspace="/project/exps/x",
    outputs={"fit": ["/project/exps/x/out"]},
    rewrite=[],
    fixed=["/project/exps/x/data"],
    cache="/cache",
    limits=Limits(1, 2, 3),
)


@pytest.mark.parametrize(
    "record",
    [
        PLAN,
        Stage(12, "boot/1", 1.5, "cpu0"),
        Usage(),
        Usage(1.5, 1.0, 20.0, 77, 1, 2, Cause.REFUSED, "it changed the data"),
        Requested(Request.CANCEL, "hopeless"),
    ],
)
def test_a_record_comes_back_as_it_was(tmp_path: Path, record: Plan | Stage | Usage | Requested) -> None:
    path = tmp_path / "record"
    files.write(path, record)
    assert files.read(type(record), path) == record  # type: ignore[type-var]
    assert [item.name for item in tmp_path.iterdir()] == ["record"]


def test_a_claim_that_is_over_gets_no_folder_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path / "gone" / "record", Usage())
    assert not any(tmp_path.iterdir())


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    files.write_whole(path, b"first", mode=0o600)
    with pytest.raises(TypeError):
        files.write_whole(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"first" and path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"request": "sing"}'])
def test_what_is_no_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "record").write_text(text)
    assert files.read(Stage, tmp_path / "record") is None
    assert files.read(Requested, tmp_path / "record") is None
    assert files.read(Stage, tmp_path / "missing") is None


def test_what_a_newer_version_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / "record").write_text('{"request": "yield", "by": "somebody"}')
    assert files.read(Requested, tmp_path / "record") == Requested(Request.YIELD)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(Request, Request)))
def test_the_stronger_request_stands(tmp_path: Path, first: Request, second: Request) -> None:
    order = list(Request)
    assert files.leave_request(tmp_path, first, "first")
    stands = order.index(second) >= order.index(first)
    assert files.leave_request(tmp_path, second, "second") is stands
    left = files.read(Requested, tmp_path / files.REQUEST)
    assert left and left.request is max(first, second, key=order.index)
    assert left.why == ("second" if stands and first is not second else "first")


def test_no_request_stands_where_nobody_has_the_experiment(tmp_path: Path) -> None:
    assert not files.leave_request(tmp_path / "missing", Request.CANCEL)


def test_of_requests_left_at_once_the_strongest_stands(tmp_path: Path) -> None:
    for number in range(30):
        folder = tmp_path / str(number)
        folder.mkdir()
        start = threading.Barrier(len(Request))

        def leave(request: Request, folder: Path = folder, start: threading.Barrier = start) -> None:
            start.wait()
            files.leave_request(folder, request)

        threads = [threading.Thread(target=leave, args=(request,)) for request in Request]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left = files.read(Requested, folder / files.REQUEST)
        assert left and left.request is list(Request)[-1]

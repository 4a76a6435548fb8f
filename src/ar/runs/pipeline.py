"""DVC, and nothing but DVC: its experiment queue, and one run of the pipeline.

The only module that imports DVC. What it uses of DVC's internals is pinned by contract tests
(`tests/test_pipeline.py`), so that an upgrade that changes them is noticed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import pickle
import posixpath
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ar.errors import ArError, BadState, full_disk, writing
from ar.git import command, refs, transfer
from ar.git.repo import Repo
from ar.project import imports
from ar.project.cache import Cache
from ar.project.pipeline_file import ARGS_FILE, LOCK_FILE, Declared
from ar.runs import reach
from ar.runs.interpreter import environments
from ar.stage import snapshot

_REV = re.compile(r"[0-9a-f]{40}")
_LOCK_WAIT = 30.0
# Of DVC's local settings what a run goes by. Others may hold keys: of remotes, of databases, of DVC Studio.
_LOCAL = ("cache", "core", "hydra", "index", "parsing", "state")
MOST_KEPT = 50_000_000  # bytes of what a run wrote that go into git, for ever
_HALF_WRITTEN = 2.0  # seconds after which a file that is no JSON will not become any


# Absolute paths that each stage writes, by the name that DVC tells it; by an empty one, that any may write.
Outputs = Mapping[str, list[str]]


@dataclass(frozen=True)
class Failure:
    """Why a run did not succeed, in one line.

    Args:
        code: by which a stage's command ended it, below zero for a signal; None where no command failed.
    """

    reason: str
    code: int | None = None

    @property
    def launcher_died(self) -> bool:
        """Whether the shell that DVC ran the command through was killed: a launcher that comes to its end
        passes on a command's signal as 128 and more."""
        return self.code is not None and self.code < 0


class Pipeline:
    """DVC's view of one project. Importing DVC takes a second; it happens on first use."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        # DVC keeps a state database per working folder under this; each experiment has a folder of its own.
        os.environ.setdefault("DVC_SITE_CACHE_DIR", str(repo.root / ".dvc" / "tmp" / "ar" / "site"))
        os.environ["DVC_NO_ANALYTICS"] = "1"

    @functools.cached_property
    def _dvc(self) -> Any:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo as DvcRepo

        for name in ("dvc", "dvc_data", "dvc_objects"):
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            return DvcRepo(str(self.repo.root))
        except DvcException as error:
            raise ArError(f"DVC cannot open {self.repo.root}: {error}", "run: dvc doctor") from None

    def load(self) -> None:
        """Import DVC and open the project, now rather than at first use."""
        _ = self._celery

    def close(self) -> None:
        if (opened := self.__dict__.pop("_dvc", None)) is not None:
            opened.close()

    # -- the queue ----------------------------------------------------------------------------------------

    def pack_arguments(self, name: str, baseline: str) -> bytes:
        """The file that tells `dvc exp` how to reproduce a queued experiment: DVC reads it back as a pickle.

        It is always written by us. `run_cache` is off, since an experiment is a measurement: an answer from
        the cache would repeat an old one.
        """
        run_env = self._run_env(name, baseline)
        return pickle.dumps({"args": (), "kwargs": {"run_env": run_env, "run_cache": False}})

    def _run_env(self, name: str, baseline: str) -> dict[str, str]:
        """What DVC tells a stage of the experiment that it is part of."""
        return {"DVC_EXP_BASELINE_REV": baseline, "DVC_EXP_NAME": name, "DVC_ROOT": str(self.repo.root)}

    def enqueue(self, name: str, stash_rev: str, baseline: str, message: str) -> None:
        """Hand a stash-shaped commit to DVC's queue; `dvc queue` and `dvc exp show` then know it."""
        from dvc.repo.experiments.queue.base import QueueEntry
        from dvc.repo.experiments.queue.tasks import run_exp
        from dvc.repo.experiments.stash import ExpStash

        _ = self._celery  # a task made before the app exists would go to a broker on the network
        with self._stash_lock():
            reflog = "commit: " + ExpStash.format_message(baseline, baseline, name)
            self.repo.push_reflog(refs.STASH, stash_rev, reflog)
        entry = QueueEntry(
            str(self.repo.root), str(self.repo.top), refs.STASH, stash_rev, baseline, None, name, baseline
        )
        self._celery.signature(run_exp.s(entry.asdict(), copy_paths=None, message=message)).delay()

    def take(self, stash_rev: str) -> bool:
        """Take an entry out of DVC's queue, so that no `dvc queue` worker starts it. Whether it was there."""
        taken = False
        for message, entry in list(self._queue._iter_queued()):
            if entry.stash_rev == stash_rev:
                with contextlib.suppress(ValueError, FileNotFoundError):  # a DVC worker was faster
                    self._celery.reject(message.delivery_tag)
                    taken = True
        with self._stash_lock():
            stash = self._queue.stash
            while (entry := stash.stash_revs.get(stash_rev)) is not None:
                stash.drop(entry.stash_index)
        return taken

    def mend(self) -> None:
        """Clear what a process that was killed while it wrote to DVC's queue left: half a message, half a
        lock file. DVC would trip over either for ever."""
        tmp = self.repo.root / ".dvc" / "tmp"
        for path in [*tmp.glob("exps/celery/broker/*/*.msg"), tmp / "rwlock", tmp / "exps" / "rwlock"]:
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _HALF_WRITTEN:
                    try:
                        json.loads(path.read_bytes())
                    except ValueError:
                        path.unlink()

    def queued(self) -> set[str]:
        """Stash commits that wait in DVC's queue."""
        return {entry.stash_rev for entry in self._queue.iter_queued()}

    def active(self) -> set[str]:
        """Stash commits that DVC's own workers run now (or that a killed one left behind)."""
        return {entry.stash_rev for entry in self._queue.iter_active()}

    def reclaim(self) -> None:
        """Take back what DVC's own workers had when they were killed: to DVC it is active for ever."""
        active = self.active()
        left = [message for message, entry in self._queue._iter_processed() if entry.stash_rev in active]
        if left and not self._dvc_works():
            for message in left:
                with contextlib.suppress(ValueError, FileNotFoundError):  # somebody else took it back
                    self._celery.purge(message.delivery_tag)

    def _dvc_works(self) -> bool:
        """Whether a worker of DVC's is alive for this project, or a run that one started."""
        import psutil

        node = hashlib.sha256(self._queue.wdir.encode()).hexdigest()[:6]  # as DVC names its workers
        signs = (f"dvc-exp-{node}-", str(self.repo.root / ".dvc" / "tmp" / "exps" / "run"))
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(sign in word for word in process.cmdline() for sign in signs):
                    return True
        return False

    @property
    def _queue(self) -> Any:
        return self._dvc.experiments.celery_queue

    @property
    def _celery(self) -> Any:
        return self._queue.celery

    @contextlib.contextmanager
    def _stash_lock(self) -> Iterator[None]:
        """DVC's own lock on the stash ref: without it entries lose their names when another is dropped."""
        from dvc.lock import LockError
        from dvc.repo.experiments.utils import get_exp_rwlock
        from dvc.rwlock import RWLockFileCorruptedError

        deadline, hint = time.monotonic() + _LOCK_WAIT, "see which process holds it: dvc queue status"
        with contextlib.ExitStack() as held:
            while True:
                try:
                    held.enter_context(get_exp_rwlock(self._dvc, writes=[refs.STASH]))
                    break
                except (LockError, RWLockFileCorruptedError) as error:
                    self.mend()  # a kill may have left half of the lock's file
                    if time.monotonic() > deadline:
                        raise BadState(f"DVC's queue is locked: {error}", hint) from None
                    time.sleep(0.02)
            # Whoever writes the ref holds this lock: a file that git locked it by is a killed process's.
            (self.repo.git_dir / f"{refs.STASH}.lock").unlink(missing_ok=True)
            yield

    @property
    def cache(self) -> str:
        """The folder that DVC keeps outputs in."""
        return str(Cache.of(self.repo.root).folder)

    def checkout(self) -> None:
        """Bring the outputs that DVC keeps into line with the checked-out `dvc.lock`.

        Raises:
            BadState: outputs in the working tree were changed and are kept nowhere else.
        """
        from dvc.exceptions import CheckoutError, DvcException

        try:
            self.close()  # DVC remembers the pipeline as it was before the branch moved
            self._dvc.checkout(allow_missing=True)
        except CheckoutError as error:
            what = f"outputs are missing in DVC's cache: {_shorten(str(error))}"
            raise BadState(what, "run: dvc pull, or dvc repro") from None
        except DvcException as error:
            what = f"DVC left outputs of yours as they are: {_shorten(str(error))}"
            raise BadState(what, "run: dvc checkout") from None

    # -- one run ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def workspace(self, name: str, stash_rev: str, baseline: str) -> Iterator[Workspace]:
        """A folder with the experiment's tree, set up for DVC; gone afterwards."""
        folder = self._folder(name, baseline)
        with writing(folder):
            self.remove_workspace(name)
            folder.mkdir(parents=True)
        try:
            yield self._set_up(folder, name, stash_rev, baseline)
        finally:
            self.remove_workspace(name)

    @property
    def _workspaces(self) -> Path:
        return self.repo.root / ".dvc" / "tmp" / "ar" / "exps"

    def _folder(self, name: str, baseline: str) -> Path:
        """The top of an experiment's working tree: below folders named as those above the project, as many as
        its dependencies go up by."""
        beside = Declared.read(self.repo, baseline).beside(self.repo.prefix)
        up = max((path.split("/").count("..") for path in beside), default=0)
        parts = self.repo.top.parts[1:]
        return self._workspaces.joinpath(name, *parts[len(parts) - up :])

    def workspaces(self) -> set[str]:
        """Names of the experiments that have a folder."""
        return {path.name for path in self._workspaces.glob("*")}

    def remove_workspace(self, name: str) -> None:
        """Remove an experiment's folder, whatever its run left: folders without end, or closed ones, too."""
        snapshot.remove(str(self._workspaces / name))

    def _set_up(self, folder: Path, name: str, stash_rev: str, baseline: str) -> Workspace:
        """A git repository that borrows the project's objects: set-up costs the same at any history."""
        transfer.start(folder)
        (folder / ".git/objects/info/alternates").write_text(f"{self.repo.git_dir / 'objects'}\n")
        (folder / ".git/HEAD").write_text(f"{baseline}\n")
        command.run(folder, "read-tree", "--reset", "-u", stash_rev)
        links = tuple(_linked(self.repo, folder, baseline))
        workspace = Workspace(name, baseline, folder, self.repo.prefix, links)
        self._configure(workspace.root)
        for name in environments(self.repo.root, Declared.read(self.repo, stash_rev).commands):
            if not (workspace.root / name).exists():  # git does not have it; a stage's command names it
                (workspace.root / name).symlink_to(self.repo.root / name)
        return workspace

    def _configure(self, root: Path) -> None:
        """Point the workspace at the project's cache; only such local settings come along as hold no keys."""
        from configobj import ConfigObj

        types = self._dvc.config["cache"].get("type") or []
        settings = _keyless(self._dvc.config.read("local"), self.cache, types)
        config = ConfigObj(settings, encoding="utf-8")
        config.filename = str(root / ".dvc" / "config.local")
        config.write()

    def reproduce(
        self, workspace: Workspace, message: str, targets: Sequence[str], begin: Callable[[Outputs], None]
    ) -> Failure | str:
        """Run the pipeline in the workspace and commit the result there.

        Stage commands go through the shell that `$SHELL` names; their output goes to our own stdout.

        Args:
            targets: the `dvc.yaml` files to reproduce, with what they need of others.
            begin: called with their outputs before the first stage.

        Returns:
            The experiment's commit, which no ref of the project's points to so far; or what failed.
        """
        from dvc.exceptions import DvcException
        from dvc.repo.experiments.executor.local import TempDirExecutor

        (workspace.root / ARGS_FILE).unlink(missing_ok=True)  # for DVC's own workers
        codes: list[int] = []
        try:
            with self._opened(workspace) as dvc, _noted(codes):
                if words := _out_of_reach(self.repo, dvc, workspace):
                    return Failure(_shorten(words))
                top_level = TempDirExecutor._get_top_level_paths(dvc)
                if cached := [out.fs_path for out in dvc.index.outs if out.use_cache]:
                    dvc.checkout(cached, force=True, allow_missing=True)
                begin(_outputs(dvc, workspace.root, top_level))
                env = self._run_env(workspace.name, workspace.baseline)
                with _kept({Path(stage.path) for stage in dvc.index.stages if not stage.is_data_source}):
                    stages = dvc.reproduce(list(targets), run_env=env, run_cache=False)
            paths = {posixpath.join(workspace.prefix, path) for path in (*top_level, *_files(stages))}
            if (size := _size(workspace.top / path for path in paths)) > MOST_KEPT:
                return Failure(f"git would keep {size} bytes of what it wrote, more than {MOST_KEPT}")
            ref = refs.ExperimentRef(workspace.baseline, workspace.name)
            rev = transfer.commit_in(self.repo, workspace.top, ref, message, paths)
        except Exception as error:
            if full_disk(error):
                raise
            # DVC reads a tree that a proposal wrote: whatever it trips over is this run's failure, not ours.
            cause = error.__cause__ or error
            words = str(cause) if isinstance(cause, DvcException) else f"{error}: {cause!r}"
            return Failure(_shorten(words), codes[-1] if codes else None)
        transfer.take_over(self.repo, workspace.top, rev)
        return rev

    @contextlib.contextmanager
    def _opened(self, workspace: Workspace) -> Iterator[Any]:
        """DVC in the workspace, and we too: it takes paths from the working directory."""
        from diskcache.core import DEFAULT_SETTINGS
        from dvc.repo import Repo as DvcRepo
        from dvc.repo import lock_repo

        # DVC's database of what files hash to goes with the workspace: SQLite need not wait for the disk.
        quick = {"sqlite_auto_vacuum": 0, "sqlite_journal_mode": "memory", "sqlite_synchronous": 0}
        root, settings = str(workspace.root), changed(DEFAULT_SETTINGS, quick)
        site = changed(os.environ, {"DVC_SITE_CACHE_DIR": str(workspace.root / ".dvc" / "tmp" / "site")})
        with contextlib.chdir(root), site, settings, DvcRepo(root) as dvc, lock_repo(dvc):
            dvc.scm_context.quiet = True
            # Every experiment really runs, so that an answer kept for later would never be asked for.
            dvc.stage_cache.save = lambda stage: None
            yield dvc

    def left_behind(self, name: str, baseline: str) -> str | None:
        """The result of a run that finished in a folder that its worker never came to collect from."""
        top = self._folder(name, baseline)
        with contextlib.suppress(OSError):
            rev = (top / ".git" / str(refs.ExperimentRef(baseline, name))).read_text().strip()
            if _REV.fullmatch(rev):
                transfer.take_over(self.repo, top, rev)
                return rev if self.repo.commit(rev).parents == (baseline,) else None
        return None


def keep(repo: Repo, path: str) -> None:
    """Have DVC keep a file or a folder of data, as `dvc add` does: `PATH.dvc` stands for it in git.

    Raises:
        BadState: DVC cannot.
    """
    from dvc.exceptions import DvcException

    try:
        Pipeline(repo)._dvc.add(str(repo.root / path))
    except DvcException as error:
        raise BadState(f"DVC cannot keep {path}: {_shorten(str(error))}", f"run: dvc add {path}") from None


def move(pipeline: Pipeline, hashes: Iterable[str], there: bool) -> None:
    """Copy what DVC keeps under some MD5s from its default remote into the cache, or the other way.

    Raises:
        BadState: not all of it could be copied.
    """
    from dvc_data.hashfile.hash_info import HashInfo

    wanted = {HashInfo("md5", md5) for md5 in hashes}
    logging.disable()  # what DVC logs may hold addresses with their logins
    try:
        cloud = pipeline._dvc.cloud
        failed = len((cloud.push if there else cloud.pull)(wanted).failed)
    except Exception as error:  # of whichever library DVC reaches that remote by
        raise BadState(_shorten(str(error) or type(error).__name__)) from None
    finally:
        logging.disable(logging.NOTSET)
    if failed:
        raise BadState(f"{failed} of its files could not be copied")


@dataclass(frozen=True)
class Workspace:
    """A folder in which one experiment runs.

    Args:
        top: top of its git working tree.
        prefix: the project's root relative to `top`; empty where they are the same.
        links: to dependencies that lie outside of `top`.
    """

    name: str
    baseline: str
    top: Path
    prefix: str
    links: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        return self.top / self.prefix


def _out_of_reach(repo: Repo, dvc: Any, workspace: Workspace) -> str:
    """Why DVC must not work on what it has read in a workspace; empty if nothing speaks against it."""
    declared, known = Declared.read(repo, workspace.baseline), imports.read(repo, workspace.baseline)
    beside = (os.path.normpath(workspace.top / path) for path in declared.beside(repo.prefix))
    return reach.flaw(dvc.index.stages, str(workspace.root), declared, beside, known)


def _linked(repo: Repo, folder: Path, baseline: str) -> Iterator[str]:
    """Have what lies outside where DVC and the stages look for it, from an experiment's folder."""
    for path in Declared.read(repo, baseline).beside(repo.prefix):
        link, there = Path(os.path.normpath(folder / path)), repo.top / path
        if there.exists() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(there.resolve())
            yield str(link)


def _files(stages: list[Any]) -> list[str]:
    """What DVC wrote of the stages it ran, and what they read and wrote that is git's to keep."""
    found = [str(Path(stage.path).with_name(LOCK_FILE)) for stage in stages]
    items = [item for stage in stages for item in (*stage.deps, *stage.outs)]
    found += [str(item.fs_path) for item in items if not item.use_scm_ignore and item.is_in_repo]
    return [os.path.relpath(path, stages[0].repo.root_dir) for path in found]


def _keyless(local: Mapping[str, Any], cache: str, types: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Local settings of DVC's for a workspace: with the project's cache, and nothing that may hold a key."""
    settings = {key: dict(value) for key, value in local.items() if key in _LOCAL and value}
    settings.get("core", {}).pop("remote", None)  # which stays behind with its keys
    settings["cache"] = settings.get("cache", {}) | {"dir": cache}
    # A hard link into the cache could be written through; in the sandbox a symbolic one cannot.
    if "hardlink" in types:
        kinds = ("symlink" if kind == "hardlink" else kind for kind in types)
        settings["cache"]["type"] = ",".join(kinds)
    return settings


def _outputs(dvc: Any, root: Path, shared: Iterable[str]) -> Outputs:
    """What the stages of the pipeline in `root` write, and what any of them may."""

    def places(items: Iterable[Any]) -> list[str]:
        return [str(root / os.path.relpath(item.fs_path, dvc.root_dir)) for item in items if item.is_in_repo]

    stages = list(dvc.index.stages)
    read = {path for stage in stages for path in places(stage.deps)}
    found = {stage.addressing: places(stage.outs) for stage in stages}
    return found | {"": [path for path in (str(root / path) for path in shared) if path not in read]}


def _size(paths: Iterable[Path]) -> int:
    """Bytes of files, and of those in folders."""
    places = [place for path in paths for place in ([path] if not path.is_dir() else path.rglob("*"))]
    return sum(place.lstat().st_size for place in places if os.path.lexists(place) and not place.is_dir())


@contextlib.contextmanager
def _kept(paths: Iterable[Path]) -> Iterator[None]:
    """Have files as they were after a `with` block that ends well: a run does not change its own pipeline,
    though DVCLive adds what it logs to `dvc.yaml`."""
    before = {path: path.read_bytes() for path in paths}
    yield
    for path, content in before.items():
        if path.is_symlink() or not path.exists() or path.read_bytes() != content:
            path.unlink(missing_ok=True)
            path.write_bytes(content)


@contextlib.contextmanager
def _noted(codes: list[int]) -> Iterator[None]:
    """Note the codes by which stage commands fail: DVC puts them into its message only."""
    from dvc.stage import run
    from dvc.stage.exceptions import StageCmdFailedError

    def failed(command: str, code: int) -> StageCmdFailedError:
        codes.append(code)
        return StageCmdFailedError(command, code)

    with changed(vars(run), {"StageCmdFailedError": failed}):
        yield


@contextlib.contextmanager
def changed(settings: MutableMapping[str, Any], values: Mapping[str, Any]) -> Iterator[None]:
    """Other values in a mapping, for the length of a `with` block."""
    before = {name: settings[name] for name in values if name in settings}
    settings.update(values)
    try:
        yield
    finally:
        for name in values.keys() - before.keys():
            del settings[name]
        settings.update(before)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:299]}…"

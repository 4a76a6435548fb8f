"""Ray, and all that is asked of it: nodes, and processes on them that come and go."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from ar.cluster import token
from ar.cluster.node_worker import NodeWorker
from ar.cluster.state import Node, State
from ar.errors import ArError
from ar.formats import BadData
from ar.redaction import redact
from ar.text import one_line

_SPACE = "ar"  # Ray's namespace for our actors: `ar cluster status` finds them there
_ANSWER = 2.0  # seconds for which an address is tried
_MOST = 300  # characters of what Ray says


class NoCluster(ArError):
    """Ray is not installed, or no cluster of it can be joined."""


class Silence(StrEnum):
    """Why a worker's state is not known."""

    AWAITED = "awaited"  # Ray has no place for it yet, or the answer is under way
    AWAY = "away"  # it cannot be reached just now
    DIED = "died"  # its process or node is gone for good


class Connection:
    """One process's part in a Ray cluster, which ends with it, and with it all that it started there.

    Args:
        address: of the cluster; `auto` for the one that this machine is a node of.

    Raises:
        NoCluster: there is no Ray here, no cluster there, or one of another version.
    """

    def __init__(self, address: str) -> None:
        token.guard()
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # we hide GPUs ourselves
        if address.startswith("ray://"):
            raise NoCluster("a Ray client's address cannot be used", "run ar on a node of the cluster")
        try:
            import ray
        except ImportError:
            mend = "on this machine and on every node: pip install 'ray>=2.50,<3'"
            raise NoCluster("--cluster needs Ray, and it is not installed", mend) from None
        self.ray: Any = ray
        try:
            ray.init(address=address, namespace=_SPACE, log_to_driver=False, logging_level="ERROR")
        except (ray.exceptions.RayError, RuntimeError, ValueError, OSError) as error:
            is_login = isinstance(error, getattr(ray.exceptions, "AuthenticationError", ()))
            is_login |= isinstance(error, ConnectionError) and _answers(address)
            raise _no_cluster(address, ray.__version__, error, is_login) from None
        self._class = ray.remote(NodeWorker)

    def close(self) -> None:
        self.ray.shutdown()

    def start(self, slot: int, gpus: float, arguments: Sequence[str | int | bool | list[str]]) -> Any:
        """Ask for a worker wherever there is room, far from the others. It may take long to come up."""
        return self._class.options(
            name=f"slot-{slot}-{secrets.token_hex(4)}",
            num_cpus=1,
            num_gpus=gpus,
            scheduling_strategy="SPREAD",
            max_restarts=0,  # whoever asked breaks its lease first, and then asks for another
        ).remote(*arguments)

    def ask(self, worker: Any) -> Any:
        """Ask a worker for its state; see `answer`."""
        return worker.state.remote()

    def answer(self, asked: Any) -> State | tuple[Silence, str]:
        """What a worker has answered, or why it has not, with what Ray says of that."""
        errors = self.ray.exceptions
        ready, _ = self.ray.wait([asked], timeout=0)
        if not ready:
            return Silence.AWAITED, ""
        try:
            return State.parse(self.ray.get(asked))
        except errors.ActorUnavailableError as error:
            return Silence.AWAY, _brief(error)
        except (errors.RayError, BadData, TypeError, ValueError) as error:
            return Silence.DIED, _brief(error)

    def end(self, worker: Any, at_once: bool) -> None:
        """Have a worker end by itself."""
        worker.end.remote(at_once)

    def kill(self, worker: Any) -> None:
        """Give a worker's place back."""
        self.ray.kill(worker)

    def states(self, seconds: float = 10.0) -> list[State]:
        """What the workers of all heads say that answer in time."""
        named = self.ray.util.list_named_actors(all_namespaces=True)
        asked = []
        for each in named:
            if each["namespace"] == _SPACE:
                with contextlib.suppress(ValueError):  # it has ended meanwhile
                    asked.append(self.ask(self.ray.get_actor(each["name"], namespace=_SPACE)))
        if asked:
            self.ray.wait(asked, num_returns=len(asked), timeout=seconds)
        answers = map(self.answer, asked)
        return sorted((it for it in answers if isinstance(it, State)), key=lambda it: it.slot)

    def nodes(self) -> list[Node]:
        found = [
            Node(
                node["NodeID"][:8],
                node["NodeManagerHostname"],
                bool(node["Alive"]),
                float(node["Resources"].get("CPU", 0)),
                float(node["Resources"].get("GPU", 0)),
            )
            for node in self.ray.nodes()
        ]
        return sorted(found, key=lambda it: (not it.is_alive, it.host, it.name))


def _no_cluster(address: str, version: str, error: Exception, is_login: bool) -> NoCluster:
    """Args:
    version: Ray's here.
    is_login: what is there lets nobody in without its token.
    """
    what = f"no Ray cluster at {address}: {_brief(error)}"
    if is_login:
        mend = "something answers there: if that is your cluster, give its token, by RAY_AUTH_MODE=token and "
        return NoCluster(what, f"{mend}RAY_AUTH_TOKEN or ~/.ray/auth_token; see docs/cluster.md")
    mend = f"every node needs Ray {version} and Python {sys.version.partition(' ')[0]}, as here; "
    return NoCluster(what, f"{mend}to start a cluster: ray start --head; see docs/cluster.md")


def _answers(address: str) -> bool:
    """Whether anything can be reached at `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError, ValueError), socket.create_connection((host, int(port)), _ANSWER):
        return True
    return False


def _brief(error: Exception) -> str:
    return one_line(redact(str(error)))[:_MOST]

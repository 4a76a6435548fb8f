"""Ray clusters: how `ar run` joins one, and ar cluster status."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ar.cli.common import say

if TYPE_CHECKING:
    from ar.campaign.campaign import Campaign
    from ar.cluster.connection import Connection


def connect(campaign: Campaign, address: str) -> Connection:
    """Take part in a cluster, and keep its address for `ar cluster status`.

    Raises:
        NoCluster: Ray is not installed here, or the cluster cannot be joined.
    """
    from ar.cluster.connection import Connection
    from ar.cluster.head import ADDRESS
    from ar.local import lines

    connection = Connection(address)
    lines.write(campaign.repo, ADDRESS, [address])
    return connection


def on_this_disk(campaign: Campaign, connection: Connection) -> str:
    """The name of a remote on this machine's disk, for a cluster that is this machine alone.

    Raises:
        NoCluster: it has other machines.
    """
    from ar.cluster import home
    from ar.cluster.connection import NoCluster

    others = {node.host for node in connection.nodes() if node.is_alive} - {os.uname().nodename}
    if others:
        mend = "put the queue on a git remote that all nodes reach: --remote NAME"
        raise NoCluster(f"{', '.join(sorted(others))} cannot reach this machine's disk", mend)
    return home.remote(campaign.repo)


@click.group()
def cluster() -> None:
    """The Ray cluster that ar run --cluster works on."""


@cluster.command()
def status() -> None:
    """Show its nodes, the slots with their devices and what they run, and what failed.

    It is the one of the last ar run --cluster, or the one that this machine is a node of.
    """
    from ar.cluster.connection import Connection
    from ar.cluster.head import ADDRESS, FAILURES
    from ar.git.repo import Repo
    from ar.local import lines
    from ar.views.cluster import nodes_table, slots_table
    from ar.views.console import echo

    repo = Repo.open()
    connection = Connection(next(filter(None, lines.read(repo, ADDRESS)), "auto"))
    try:
        echo(nodes_table(connection.nodes()))
        states = connection.states()
    finally:
        connection.close()
    if states:
        echo(slots_table(states))
    else:
        say("No slot has a worker now; to have some: ar run --cluster auto")
    failed = [line for line in lines.read(repo, FAILURES) if line]
    for line in failed:
        say(line)

"""``regnb kube collect`` and ``regnb kube release``: what the CronJobs of ``regnb kube expose --collect`` run."""

from __future__ import annotations

import signal
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from regnb.change.collect.planning import seconds
from regnb.cli.collecting import Dir
from regnb.cli.terminal import INCOMPLETE, INTERRUPTED, OK, say
from regnb.cluster.switch import Switch
from regnb.environment import variable
from regnb.storage import Storage, open_storage

if TYPE_CHECKING:
    from regnb.change.journal import Receipt
    from regnb.change.sweep import Sweep

_ROLLOUT = timedelta(minutes=15)
_MOST = timedelta(hours=6)

Namespace = Annotated[str, Option(metavar="NAME", help="Namespace of the registry's Deployment.")]
Deployment = Annotated[str, Option(metavar="NAME", help="The registry's Deployment.")]
Server = Annotated[str, Option(metavar="URL", help="Kubernetes API server. Default: that of this command's pod.")]


def collect(
    storage: Dir,
    namespace: Namespace = "kube-system",
    deployment: Deployment = "kube-registry",
    server: Server = "",
    port: Annotated[int, Option(metavar="PORT", help="Port of the registry in its pods.")] = 5000,
    endpoint: Annotated[
        list[str] | None,
        Option(metavar="URL", help="Ask this instead of each pod, such as a Service with credentials (repeatable)."),
    ] = None,
    grace: Annotated[str, Option(metavar="AGE", help="Minimum age of what is removed, such as 24h.")] = "24h",
    uploads_older_than: Annotated[
        str, Option(metavar="AGE", help="Minimum age of abandoned uploads, such as 7d.")
    ] = "7d",
    empty_older_than: Annotated[str, Option(metavar="AGE", help="Remove trash older than this.")] = "14d",
    apply: Annotated[bool, Option("--apply", help="Apply the plan. Without this, only print it.")] = False,
) -> None:
    """Make a registry read-only, collect garbage, verify the result, and make the registry writable again.

    The registry becomes writable again after every error. After a kill, regnb kube release does this.

    Exit code 0: done, 1: error, 4: some rows were not done, or a registry process remembers blobs that are gone.
    """
    here = open_storage(storage)
    for age in (grace, uploads_older_than, empty_older_than):
        seconds(age)
    if not apply:
        say(here.plan_collect(grace=grace, uploads_older_than=uploads_older_than).summary())
        say("Nothing was changed. Add --apply to apply this plan.")
        return
    pod = variable("REGNB_POD") or socket.gethostname()
    signal.signal(signal.SIGTERM, _stop)
    with Switch(namespace, deployment, server=server) as switch:
        whole, receipt = True, None
        try:
            say(f"Switching {deployment} to read-only.")
            switch.hold(pod, variable("REGNB_NODE"), _MOST)
            endpoints = switch.settled(_ROLLOUT, port)
            endpoints = endpoint or endpoints
            with here.held():
                plan = here.plan_collect(grace=grace, uploads_older_than=uploads_older_than, endpoints=endpoints)
                receipt = _apply(here, plan)
                emptied = _apply(here, here.plan_empty(older_than=empty_older_than, endpoints=endpoints))
            whole = all(one is None or one.status == "done" for one in (receipt, emptied))
        finally:
            # From here on a second signal must not keep this from switching back.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if switch.release(by=pod):
                say(f"{deployment} is writable again.")
        pods = switch.settled(_ROLLOUT, port)
        if receipt is not None:
            for one in here.remembered(receipt, endpoint or pods):
                whole = whole and not one.message
                say(one.sentence)
    raise typer.Exit(OK if whole else INCOMPLETE)


def _apply(storage: Storage, plan: Sweep) -> Receipt | None:
    """Apply a plan that the job's own words ask for, and say what became of it."""
    say(plan.summary())
    for one in plan.effects:
        if one.effect == "needed":
            say(f"{one.reference}: {one.message}")
    if not plan.changes:
        return None
    receipt = storage.apply(plan, confirm=plan.digest)
    told = f"Receipt {receipt.name}: {receipt.status}."
    if figures := receipt.figures:
        told = f"{told} {plan.result(figures.moved, figures.emptied, figures.free)}"
    say(told)
    return receipt


def _stop(*_: object) -> None:
    raise typer.Exit(INTERRUPTED)


def release(
    namespace: Namespace = "kube-system", deployment: Deployment = "kube-registry", server: Server = ""
) -> None:
    """Switch a registry back to writable if the collection that made it read-only is no longer running.

    Exit code 0: done, or there was nothing to do, 1: error.
    """
    with Switch(namespace, deployment, server=server) as switch:
        changed = switch.release()
    say(f"{deployment} is writable again." if changed else "There is nothing to switch back.")

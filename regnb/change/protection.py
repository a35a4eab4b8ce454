"""What is in use and must stay: how much of it was found in a registry, and under which names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from regnb.analysis.inventory import Inventory
from regnb.analysis.running import Running, lists
from regnb.cluster import running
from regnb.cluster.running import COMMAND, InUse
from regnb.errors import InvalidArgument, Refused
from regnb.text import count, names


class Protection(NamedTuple):
    """What is in use, of what an inventory holds.

    Attributes:
        running: Where each tag and digest is used.
        notes: How many images were found and under which host names, and how many were not: a sentence each.
    """

    running: Running
    notes: tuple[str, ...]


def protect(inventory: Inventory, in_use: InUse, hosts: Iterable[str] = (), *, needed: bool = False) -> Protection:
    """Find in an inventory what is in use.

    Whatever its host name, an image protects the repository and tag that it names here: a registry has one name inside
    a cluster and another one outside. The host names say how much of the protection is about this registry.

    Args:
        inventory: What is there.
        in_use: What lists it (:func:`regnb.cluster.running.listed`).
        hosts: Other host names of this registry, as the cluster's images have them.
        needed: Whether nothing found is refused.

    Raises:
        Refused: Nothing of it was found: the protection has no effect.
        InvalidArgument: ``hosts`` without ``in_use``, or a name with a path in it; and as ``listed`` raises.

    Example:
        >>> protect(inventory, "pods.json", ["registry.example"]).notes[0]
        'Images in use: 1 of 1 found in this registry (host names: registry.example (1)); 0 not found.'
    """
    named = {host.lower() for host in ((hosts,) if isinstance(hosts, str) else hosts)}
    if wrong := sorted(host for host in named if "/" in host or not host.strip()):
        raise InvalidArgument(
            f"{wrong[0]!r} is not a host name", hint="write host or host:port, such as r.example:5000"
        )
    if in_use is None:
        if named:
            raise InvalidArgument(
                "a host name was given without the images in use", hint="name in_use (--in-use) as well"
            )
        return Protection(Running(inventory, ()), ())
    found = running.listed(in_use)
    known = {*zip(*lists(inventory.tags, "repository", "tag"), strict=True)}
    digests = {*inventory.manifests["digest"], *inventory.manifests["config"].dropna()}
    here, lost = Counter[str](), Counter[str]()
    absent: list[str] = []
    ours = named | {inventory.registry.lower()}
    for host, used in found.images:
        if (used.repository, used.tag) in known or used.digest in digests:
            here[host] += 1
        else:
            lost[host] += 1
            if host.lower() in ours and used.tag:
                absent.append(f"{used.repository}:{used.tag} ({used.where})")
    # What is found by its digest alone needs no name.
    effective = sum(number for host, number in here.items() if not named or not host or host.lower() in ours)
    if needed and not effective:
        raise _nothing(inventory, found, ours if named else set(), lost + here)
    return Protection(Running(inventory, [used for _, used in found.images]), tuple(_notes(found, here, lost, absent)))


def _nothing(inventory: Inventory, found: running.Running, ours: set[str], hosts: Counter[str]) -> Refused:
    if not found.images:
        text = "nothing is in use: the list has no images"
    else:
        under = f" under {names(sorted(ours))}" if ours else ""
        text = (
            f"none of the {count(len(found.images), 'image')} in use was found in {inventory.registry}{under}: "
            f"{'they are' if len(found.images) > 1 else 'it is'} of {names(_ranked(hosts))}"
        )
    return Refused(
        text,
        hint="check the kubectl context, or the file; if images name this registry by another host, give that with "
        "--in-use-host (in_use_host= in Python); if nothing of it is in use, leave out --in-use",
    )


def _under(hosts: Counter[str]) -> str:
    return f" (host names: {names(_ranked(hosts))})" if hosts else ""


def _notes(found: running.Running, here: Counter[str], lost: Counter[str], absent: Sequence[str]) -> Iterable[str]:
    yield (
        f"Images in use: {here.total():,} of {len(found.images):,} found in this registry{_under(here)}; "
        f"{lost.total():,} not found{_under(lost)}."
    )
    if absent:
        yield f"In use under the name of this registry, but not found in it: {names(absent)}."
    if found.kinds == {"Pod"}:
        yield (
            "The list has only pods. Workloads that are scaled to 0 or wait for their schedule have none. "
            f"To list them, too: {COMMAND}"
        )


def _ranked(hosts: Counter[str]) -> list[str]:
    return [f"{host or 'docker.io or no host'} ({number:,})" for host, number in hosts.most_common()]

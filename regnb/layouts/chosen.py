"""The image that ``docker-archive:FILE:NAME`` or ``docker-archive:FILE:@INDEX`` means (containers-transports(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from regnb.errors import InvalidReference, NotFound
from regnb.layouts.archive import Archive
from regnb.layouts.docker import MANIFEST, DockerArchive, saved
from regnb.layouts.index import Entry, name_of
from regnb.layouts.layout import Layout
from regnb.layouts.tar import Tar
from regnb.oci.manifest import CONFIG_LIMIT
from regnb.oci.reference import HUB, Digest, Reference, on_hub
from regnb.oci.transports import Place

_SHOWN: Final = 5
"""Names that an error tells."""
_AT: Final = re.compile(r"@(\d{1,9})")


def layout_of(files: Archive | DockerArchive, tar: Tar, place: Place) -> Layout:
    """Return the layout of an archive of ``docker save``; if a place names one image, that one alone.

    Raises:
        NotFound: It is not there.
        StorageError, ContentError: The archive cannot be read.
    """
    layout = Layout(files, place.repository)
    if not place.reference:
        return layout
    entries = layout.listing.entries
    if number := _AT.fullmatch(place.reference):
        chosen = [*_at(layout, tar, int(number[1]))]
    else:
        wanted = _whole(place.reference)
        chosen = [entry for entry in entries if wanted and _whole(name_of(entry.descriptor)) == wanted]
    if not chosen:
        names = sorted(_familiar(name) for entry in entries if (name := name_of(entry.descriptor)))
        places = [f"@{number}" for number in range(len(saved(tar) if tar.find(MANIFEST) else ()))]
        text = f"{place._replace(reference='')} has no {place.reference}"
        raise NotFound(text, hint=f"it has {', '.join([*names[:_SHOWN], *places[:_SHOWN]]) or 'no image'}")
    files.narrow(layout.listing.to_json(chosen))
    return Layout(files, place.repository)


def _at(layout: Layout, tar: Tar, number: int) -> Iterator[Entry]:
    """Yield the entries of the image at a place of ``manifest.json``: those that lead to its config."""
    images = saved(tar) if tar.find(MANIFEST) else []
    data = tar.read(images[number].config, CONFIG_LIMIT) if number < len(images) else None
    config = "" if data is None else str(Digest.of(data))
    for entry in layout.listing.entries:
        if config in layout.configs(entry.descriptor):
            yield entry


def _whole(name: str) -> tuple[str, str, str] | None:
    """Return host, repository and tag, as Docker completes a name; None if it is not valid.

    Example:
        >>> _whole("alpine") == _whole("docker.io/library/alpine:latest")
        True
    """
    try:
        found = Reference.parse(name)
    except InvalidReference:
        return None
    if found.registry is None or found.registry in HUB:
        return "docker.io", on_hub(found.repository), found.target
    return found.registry, found.repository, found.target


def _familiar(name: str) -> str:
    """Return a name as Docker shows it.

    Example:
        >>> _familiar("docker.io/library/alpine:3")
        'alpine:3'
    """
    return name.removeprefix("docker.io/").removeprefix("library/")

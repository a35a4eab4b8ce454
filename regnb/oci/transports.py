"""Names of layouts and archives, as containers-transports(5) writes them: ``oci:DIR[:TAG]`` and its siblings."""

from __future__ import annotations

import os
import re
from typing import Final, Literal, NamedTuple, TypeAlias, cast

from regnb.errors import InvalidArgument, InvalidReference
from regnb.oci.reference import REPOSITORY_LIMIT, check_repository, check_tag, is_tag

Transport: TypeAlias = Literal["oci", "oci-archive", "docker-archive"]
TRANSPORTS: Final = ("oci", "oci-archive", "docker-archive")
REF_NAME: Final = "org.opencontainers.image.ref.name"
"""The annotation that names an entry of ``index.json`` (OCI image spec, "Pre-Defined Annotation Keys")."""
IMAGE_NAME: Final = "io.containerd.image.name"
"""The annotation in which containerd and Docker keep the full name, where REF_NAME has the tag alone."""
_ARCHIVE: Final = re.compile(r"\.(?:tar|tgz|oci|docker)(?:\.gz)?$")


class Place(NamedTuple):
    """A layout or an archive by its name.

    Attributes:
        transport: What it is.
        path: Of the folder or file, absolute.
        reference: What of it is meant: a tag or a full name; "" for all of it.
    """

    transport: Transport
    path: str
    reference: str = ""

    def __str__(self) -> str:
        return f"{self.transport}:{self.path}" + (f":{self.reference}" if self.reference else "")

    @property
    def repository(self) -> str:
        """The name of the repository in which images are that have a tag and no other name: the folder's or file's.

        Example:
            >>> Place("oci-archive", "/media/usb/My App.tar").repository
            'my-app'
        """
        name = self.path.rpartition("/")[2].lower()
        if self.transport != "oci":
            name = _ARCHIVE.sub("", name)
        name = re.sub(r"[^a-z0-9]+", lambda run: run[0] if run[0] in {".", "_", "-"} else "-", name)
        return name.strip("._-")[:REPOSITORY_LIMIT] or "layout"


def parse(text: str) -> Place | None:
    """Read a name of a layout or an archive; None for anything else, such as the URL of a registry.

    Raises:
        InvalidArgument: It begins like one, and names no folder or file.

    Example:
        >>> parse("oci:/media/usb/app:1.0")
        Place(transport='oci', path='/media/usb/app', reference='1.0')
        >>> parse("localhost:5000")
    """
    transport, colon, rest = text.partition(":")
    if not colon or transport not in TRANSPORTS:
        return None
    if rest.startswith("//"):
        hint = "write https://host for a registry; Helm writes oci://host for it, and oci:DIR is a folder"
        raise InvalidArgument(f"{text[:200]!r} does not name a folder", hint=hint)
    path, _, reference = rest.partition(":")
    if not path:
        raise InvalidArgument(f"{text[:200]!r} names no path", hint=f"write {transport}:PATH or {transport}:PATH:TAG")
    path = check_path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111 -- a text
    return Place(cast("Transport", transport), path, reference)


def check_path(path: str) -> str:
    """Return the path of a layout or an archive if it can be part of its name: a colon ends it there.

    Raises:
        InvalidArgument: It has a colon.

    Example:
        >>> check_path("/media/usb/app")
        '/media/usb/app'
    """
    if ":" in path:
        raise InvalidArgument(
            f"{path[:200]!r} has a colon, and a colon ends the path in the name of a layout or an archive",
            hint="rename the folder, or make a symbolic link to it: ln -s",
        )
    return path


def is_place(text: str) -> bool:
    """Whether a text begins as the name of a layout or an archive does.

    Example:
        >>> is_place("oci:/media/usb/app"), is_place("http://localhost:5000")
        (True, False)
    """
    return text.partition(":")[0] in TRANSPORTS


def named(text: str, otherwise: str) -> tuple[str, str] | None:
    """Return repository and tag of the name that an entry of ``index.json`` has; None if it names no such.

    The name of a host with a port is left out, as no repository can have it in its name; any other host stays.

    Args:
        text: A tag, or ``repository:tag`` as skopeo, umoci, buildah and podman write it, with or without a host.
        otherwise: The repository of a tag alone.

    Example:
        >>> named("1.0", "app"), named("docker.io/library/alpine:3", "app"), named("localhost:5000/vm/a:1", "app")
        (('app', '1.0'), ('docker.io/library/alpine', '3'), ('vm/a', '1'))
    """
    if is_tag(text):
        return otherwise, text
    rest = text.partition("@")[0]
    host, slash, path = rest.partition("/")
    if slash and ":" in host:
        rest = path
    repository, colon, tag = rest.partition(":")
    try:
        return check_repository(repository), check_tag(tag if colon else "latest")
    except InvalidReference:
        return None

"""What a handle tells of the inside of images: files, packages, what should not be there, and lists of what is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from regnb.environment import variable
from regnb.oci.reference import Reference
from regnb.session import Bar, Counted, Show
from regnb.text import parse_size

if TYPE_CHECKING:
    from regnb.crawl.reader import Reader
    from regnb.layers.images import Part
    from regnb.layers.inside import Inside, Looked
    from regnb.oci.manifest import AnyManifest
    from regnb.tables.frame import Frame

_T = TypeVar("_T")


def bar_of(work: Counted, show: Show) -> Bar:
    """Return the bar that shows how far some work is; none on a page, which is drawn when everything has run.

    Example:
        ``bar_of(Progress(), None)``
    """
    hidden = show is None and (variable("REGNB_SERVED") or variable("REGNB_NO_PROGRESS"))
    return Bar(work, show=False if hidden else show)


class Looks:
    """What looks into the layers of images; a handle on a registry is one."""

    if TYPE_CHECKING:
        _reader: Reader

        def _read(
            self, reference: str | Reference, read: Callable[[Reference], Awaitable[_T]], bar: Bar | None = None
        ) -> _T: ...

    @cached_property
    def _inside(self) -> Inside:
        from regnb.layers.inside import Inside  # kept out of `import regnb`

        return Inside(self._reader)

    def look(
        self,
        reference: str | Reference,
        platform: str | None = None,
        *,
        whole: bool = False,
        at_most: float | str = "",
        progress: Show = None,
    ) -> Looked:
        """Look into the layers of an image, and return what was read: what :meth:`files` and the others are made of.

        Args:
            reference: The image.
            platform: As for :meth:`files`.
            whole: Whether layers are read whole that have a table of contents.
            at_most: As for :meth:`files`.
            progress: As for :meth:`files`.

        Raises:
            NotFound, InvalidArgument, ContentError, Interrupted: As for :meth:`files`.

        Example:
            >>> registry.look("vm/centos8:latest").images[0].commands  # doctest: +SKIP
        """
        from regnb.layers.reading import Progress  # kept out of `import regnb`

        counters = Progress()
        most = parse_size(at_most) if at_most else 0
        look = partial(self._inside.look, platform=platform, progress=counters, whole=whole, at_most=most)
        return self._read(reference, look, bar_of(counters, progress))

    def files(
        self,
        reference: str | Reference,
        *,
        platform: str | None = None,
        at_most: float | str = "",
        progress: Show = None,
    ) -> Frame:
        """Return every file of every layer of an image, and which files a later layer hides.

        A layer with a table of contents (eStargz, zstd:chunked) costs a few requests. Any other layer is read once.
        Only its listing is written to disk: the cache keeps it for every image with this layer.

        Args:
            reference: The image.
            platform: Of several images, such as ``linux/arm64``; by default linux/amd64; ``all`` for every one.
            at_most: Bytes to stream, such as ``200MB``: a layer that goes beyond them is one row that says so.
            progress: As for :meth:`inventory`: how many megabytes are to be read, and how many were.

        Returns:
            One row for each entry of each layer (:data:`regnb.tables.columns.COLUMNS`, ``files``). A layer that cannot
            be read, such as a corrupt, encrypted or foreign one, is one row with the reason.

        Raises:
            NotFound: No such repository, tag or digest.
            InvalidArgument: There is no image for the platform.
            ContentError: A manifest or config is not valid, or the image has schema 1.
            Interrupted: The user interrupted; the listings of the layers that were read are in the cache.

        Example:
            >>> files = registry.files("vm/centos8:8.4")
            >>> files.nlargest(2, "hidden")[["path", "hidden"]]
                       path hidden
            0  usr/bin/bash    0 B
            1  etc/hostname    0 B
        """
        from regnb.layers.files import files

        return files(*self.look(reference, platform, at_most=at_most, progress=progress))

    def packages(self, reference: str | Reference, *, platform: str | None = None, progress: Show = None) -> Frame:
        """Return the packages that an image holds: dpkg, apk, rpm (in SQLite), Python, npm, jars, and the distribution.

        Every layer is read whole, once: a table of contents does not list packages.

        Args:
            reference: The image.
            platform: As for :meth:`files`.
            progress: As for :meth:`files`.

        Returns:
            One row for each package (:data:`regnb.tables.columns.COLUMNS`, ``packages``). A layer or a file that cannot
            be read, such as rpm's Berkeley DB, is a row with the reason.

        Raises:
            NotFound, InvalidArgument, ContentError, Interrupted: As for :meth:`files`.

        Example:
            >>> len(registry.packages("vm/centos8:8.4"))  # the sample images have no package database
            0
        """
        from regnb.layers.installed import packages

        return packages(*self.look(reference, platform, whole=True, progress=progress))

    def sboms(self, reference: str | Reference, *, platform: str | None = None) -> Frame:
        """Return what the bills of materials list that hang on an image: SPDX and CycloneDX.

        Referrers, cosign's tags and buildx's attestations are read, and what statements and envelopes hold. Signatures
        are not checked.

        Args:
            reference: The image.
            platform: As for :meth:`files`.

        Returns:
            One row for each package (:data:`regnb.tables.columns.COLUMNS`, ``sboms``). A document that cannot be read
            is a row with the reason.

        Raises:
            NotFound, InvalidArgument, ContentError, Interrupted: As for :meth:`files`.

        Example:
            >>> registry.sboms("vm/centos8:latest")[["kind", "name", "version"]]  # doctest: +SKIP
        """
        from regnb.layers.attached import attached, sboms

        return sboms(self._read(reference, lambda where: attached(self._reader, where, platform)))

    def hygiene(self, reference: str | Reference, *, platform: str | None = None, progress: Show = None) -> Frame:
        """Return what should not be in an image: secrets in its history, environment and files, root, caches, tools.

        Args:
            reference: The image.
            platform: As for :meth:`files`.
            progress: As for :meth:`files`.

        Returns:
            One row for each finding (:data:`regnb.tables.columns.COLUMNS`, ``hygiene``), with the way to fix it. The
            value of a secret is never shown or stored.

        Raises:
            NotFound, InvalidArgument, ContentError, Interrupted: As for :meth:`files`.

        Example:
            >>> registry.hygiene("vm/centos8:8.4")[["rule", "where"]].head(2)
                         rule           where
            0       root user    config: User
            1  missing labels  config: Labels
        """
        from regnb.layers.hygiene import hygiene

        return hygiene(*self.look(reference, platform, progress=progress))

    def open(
        self, reference: str | Reference, path: str, *, platform: str | None = None, into: BinaryIO | None = None
    ) -> BinaryIO:
        """Return the file that an image shows at a path, as a binary file in memory; symbolic links are followed.

        Args:
            reference: The image.
            path: Of the file in the image.
            platform: As for :meth:`files`, but for ``all``.
            into: A binary file that the content is written to, piece by piece, instead of memory.

        Raises:
            NotFound: No such image, or no such file in it.
            InvalidArgument: There is no image for the platform.
            TooLarge: The file has more than 256 MiB, and ``into`` was not given.
            ContentError: It is a folder or a device, or a layer cannot be read.

        Example:
            >>> registry.open("vm/centos8:8.4", "/etc/hostname").read().strip()
            b'vm'
        """
        return self._read(reference, lambda where: self._inside.open(where, path, platform=platform, into=into))

    def known_base(self, reference: str | Reference) -> Frame:
        """Return an image of this registry as a possible base of images elsewhere (``known_bases``).

        Example:
            >>> inventory.find_bases(registry.known_base("base/debian:12"))  # doctest: +SKIP
        """
        from regnb.layers.reading import read_image
        from regnb.tables.frame import of_rows

        found: list[Reference] = []

        async def read(where: Reference) -> tuple[AnyManifest, list[Part]]:
            found.append(where)
            return await read_image(self._reader, where)

        top, parts = self._read(reference, read)
        name = f"{self._reader.client.host}/{found[0].repository}:{found[0].target}"
        return of_rows(
            "known_bases",
            (
                (name, str(top.digest), str(part.manifest.digest), part.platform, at, layer.digest, diff_id, layer.size)
                for part in parts
                for at, (layer, diff_id) in enumerate(
                    zip(part.layers, part.config.diff_ids or [None] * len(part.layers), strict=False)
                )
            ),
        )

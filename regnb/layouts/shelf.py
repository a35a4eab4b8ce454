"""What a name of layouts or an archive stands for: one layout, or all those of a tree."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from regnb.crawl.files import local_path
from regnb.errors import InvalidArgument, NotFound, RegnbError, StorageError
from regnb.layouts.archive import Archive
from regnb.layouts.chosen import layout_of
from regnb.layouts.docker import MANIFEST, DockerArchive
from regnb.layouts.folder import Folder, is_layout, is_new
from regnb.layouts.index import Listing, name_of
from regnb.layouts.layout import Layout
from regnb.layouts.packing import beside, pack
from regnb.layouts.tar import Tar, is_tar
from regnb.layouts.tree import layouts
from regnb.oci.disk import BASE
from regnb.oci.reference import check_repository
from regnb.oci.transports import Place, check_path, parse

_FEW: Final = 1_000
"""Folders that are looked at to find out whether there is a layout below one that does not say so."""
_SHOWN: Final = 5
"""Names that an error tells."""


def find(where: str | Path) -> Place | None:
    """Return the layout, tree of layouts or archive that a name stands for; None if it names something else.

    Args:
        where: Such as ``oci:DIR:TAG``; or the path of a folder that holds a layout, or a tree of them.

    Raises:
        InvalidArgument: It begins as the name of a layout, and names no path. Or it is an archive, or has a colon.

    Example:
        >>> find("oci-archive:/media/usb/app.tar").transport
        'oci-archive'
        >>> find("https://localhost:5000")
    """
    if place := parse(str(where)):
        return place
    if "://" in str(where):
        return None
    if Path(where).is_file() and is_tar(str(where)):
        hint = f"write oci-archive:{where} if it holds an OCI layout, docker-archive:{where} if docker save wrote it"
        raise InvalidArgument(f"{where} is an archive, and nothing says of which kind", hint=hint)
    if not Path(where).is_dir() or Path(where, BASE).is_dir():
        return None
    path = local_path(where)
    if is_layout(path) or next(layouts(path, [], _FEW), None) is not None:
        return Place("oci", check_path(path))
    return None


class Shelf:
    """The layouts that a name stands for.

    Args:
        place: The name.

    Attributes:
        failed: What could not be looked at, a sentence each.
        folder: The layout that may be written to; None if nothing is written there.
        unpacked: Whether it is an archive that is still to be written.
        why: Why nothing is written there.
        hint: What to do instead.

    Raises:
        StorageError, ContentError: It holds no layout, or is not what its name says.
    """

    def __init__(self, place: Place) -> None:
        self._check_colon(place)
        self.place = place
        self.failed: list[str] = []
        self.folder: Folder | None = None
        self.why = self.hint = ""
        self._trees: list[Layout] = []
        self._tree = False
        self.unpacked = False
        self._archive: Tar | None = None
        if place.transport == "oci":
            self._open_folder(place)
        else:
            self._open_archive(place)

    @staticmethod
    def _check_colon(place: Place) -> None:
        """Refuse a path with a colon that was taken for a path and a tag."""
        words = f"{place.path}:{place.reference}".split(":")
        if place.reference and not Path(place.path).exists():
            for end in range(len(words), 1, -1):
                if Path(":".join(words[:end])).exists():
                    check_path(":".join(words[:end]))

    def _open_folder(self, place: Place) -> None:
        if Path(place.path).is_file():
            hint = f"write oci-archive:{place.path}, or docker-archive: if docker save made it"
            raise StorageError(f"{place.path} is a file, and oci: names a folder", hint=hint)
        if is_layout(place.path) or is_new(place.path):
            self.folder = Folder(place.path, str(place._replace(reference="")))
            self._trees = [Layout(self.folder, place.repository, place.reference)]
            return
        self._tree = True
        self.why, self.hint = (
            "it is a tree of layouts, which a registry may be using",
            "copy to that registry by its URL",
        )
        self.hint += f", or into one layout: oci:{place.path}/NAME"
        self._scan()
        if not self._trees:
            names = sorted(path.name for path in Path(place.path).iterdir())[:_SHOWN]
            text = f"{place.path} does not hold an OCI layout, but {', '.join(names)}"
            raise StorageError(text, hint="name the folder that holds index.json; for a new layout, an empty folder")
        if place.reference:
            text = f"{place} names a tag, and {place.path} holds {len(self._trees):,} layouts"
            raise StorageError(text, hint=f"name the layout: oci:{place.path}/NAME:TAG")

    def _scan(self) -> None:
        known = {layout.repository: layout for layout in self._trees}
        self.failed.clear()
        self._trees = [
            known.get(path) or Layout(Folder(f"{self.place.path}/{path}"), path, within=True)
            for path in layouts(self.place.path, self.failed)
        ]

    def _open_archive(self, place: Place) -> None:
        self.why = "nothing is written into an archive that is there"
        self.hint = "copy into a new oci-archive:FILE, or into oci:DIR, then pack it: tar -C DIR -cf FILE ."
        if not Path(place.path).exists():
            if place.transport == "oci-archive" and Path(place.path).parent.is_dir():
                self.folder = Folder(beside(place.path), str(place._replace(reference="")))
                self._trees = [Layout(self.folder, place.repository, place.reference)]
                self.unpacked = True
                return
            if place.transport == "oci-archive":
                folder = Path(place.path).parent
                raise StorageError(
                    f"no such folder: {folder}", hint="check the name; to write there, make the folder first"
                )
            hint = "check the name; regnb only reads docker-archive:, and writes oci-archive:FILE and oci:DIR"
            raise StorageError(f"no such file: {place.path}", hint=hint)
        tar = self._archive = Tar(place.path, str(place._replace(reference="")))
        try:
            files = self._files(place, tar)
            named = place.transport == "docker-archive"
            self._trees = [layout_of(files, tar, place) if named else Layout(files, place.repository, place.reference)]
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _files(place: Place, tar: Tar) -> Archive | DockerArchive:
        """Return the files of the layout in an archive.

        Raises:
            StorageError, ContentError: It holds none.
        """
        if place.transport == "docker-archive" and not (Archive.fits(tar) and tar.find("index.json")):
            return DockerArchive(tar)
        if place.transport == "oci-archive" and not Archive.fits(tar) and tar.find(MANIFEST):
            text = f"{place.path} does not hold an OCI layout: docker save wrote it"
            raise StorageError(text, hint=f"write docker-archive:{place.path}")
        return Archive(tar)

    def settle(self) -> None:
        """Write the archive that was prepared, if one was; from then on it is only read.

        Raises:
            StorageError: It cannot be written.
        """
        if self.folder is not None and self.left:
            pack(self.folder, self._trees[0].settled(), self.place.path)
            self.folder, self.unpacked = None, False
            self._open_archive(self.place)

    def close(self) -> None:
        """Close the archive, if it is one."""
        if self._archive is not None:
            self._archive.close()

    @property
    def left(self) -> str:
        """The folder in which a copy into a new archive was cut short, or ""."""
        return self.folder.path if self.folder is not None and self.unpacked and not self.new else ""

    @property
    def new(self) -> bool:
        """Whether there is nothing there yet."""
        return self.folder is not None and not is_layout(self.folder.path)

    @property
    def layouts(self) -> list[Layout]:
        """All of them."""
        return self._trees

    def listing(self, layout: Layout) -> Listing:
        """Return what a layout lists; nothing if it is still to be made."""
        return Listing({}) if self.new else layout.listing

    def repositories(self) -> list[str]:
        """Return the names of the repositories; a layout that cannot be read is there by its path.

        Raises:
            StorageError, ContentError: There is one layout alone, and it cannot be read.
            NotFound: What was named of it is not there.
        """
        if self._tree:
            self._scan()
        if self.unpacked:
            left = f"; {self.left} holds what a copy that was cut short left" if self.left else ""
            text = f"no such file: {self.place.path}{left}"
            raise StorageError(text, hint="check the name; to make an archive, copy something into it")
        if self.new:
            text = f"{self.place} is not an OCI layout: there is nothing in {self.place.path}"
            raise StorageError(text, hint="check the name; to make a layout, copy something into it")
        found: set[str] = set()
        for layout in self._trees:
            try:
                found |= layout.tags.keys() | ({layout.repository} if layout.untagged() else set())
            except RegnbError:
                if not self._tree:
                    raise
                found.add(layout.repository)
        if self.place.reference and not found:
            names = sorted(filter(None, (name_of(entry.descriptor) for entry in self._trees[0].listing.entries)))
            text = f"{self.place._replace(reference='')} has no {self.place.reference}"
            raise NotFound(text, hint=f"it has {', '.join(names[:_SHOWN]) or 'nothing with a name'}")
        return sorted(found)

    def of(self, repository: str) -> Layout | None:
        """Return the layout that a repository is in, or None."""
        check_repository(repository)
        if self.new:
            return None
        broken = None
        for layout in self._trees:
            if layout.repository == repository:
                return layout
            if self._tree and not repository.startswith(f"{layout.repository}/"):
                continue
            try:
                if repository in layout.tags:
                    return layout
            except RegnbError:
                broken = layout
        return broken if broken is not None else None if self._tree else self._trees[0]

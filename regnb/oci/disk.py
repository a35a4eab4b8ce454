"""Distribution's on-disk layout, as docker-registry 2.x and 3.x read and write it: paths, and a local folder of them.

The path functions give texts relative to the registry's root, so they fit any file system. :class:`Layout` reads and
writes a local folder. Every write lands whole or not at all and is synced before its method returns: a process killed
at any moment leaves a registry that holds everything it had acknowledged.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from regnb.errors import InvalidReference, StorageError
from regnb.oci.reference import Digest, check_repository, check_tag
from regnb.oci.transports import is_place

BASE: Final = "docker/registry/v2"
"""Where a registry begins, below its root."""
REPOSITORIES: Final = f"{BASE}/repositories"
BLOBS: Final = f"{BASE}/blobs"


def blob_path(digest: str) -> str:
    """Return the path of a blob's bytes, manifests included.

    Raises:
        InvalidReference: This is not a digest. No name or digest that passes can point outside the root.

    Example:
        >>> blob_path(Digest.of(b"{}"))[:37]
        'docker/registry/v2/blobs/sha256/44/44'
    """
    digest = Digest(digest)
    return f"{BLOBS}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"


def repository_path(name: str) -> str:
    """Return the path of a repository's folder. Other repositories may lie below it.

    Raises:
        InvalidReference: This is not a repository name.

    Example:
        >>> repository_path("vm/centos8")
        'docker/registry/v2/repositories/vm/centos8'
    """
    return f"{REPOSITORIES}/{check_repository(name)}"


def layer_path(name: str, digest: str) -> str:
    """Return the path of the link that makes a blob part of a repository.

    Raises:
        InvalidReference: The name or the digest is not one.
    """
    digest = Digest(digest)
    return f"{repository_path(name)}/_layers/{digest.algorithm}/{digest.hex}/link"


def revision_path(name: str, digest: str) -> str:
    """Return the path of the link that makes a manifest part of a repository. Without it the manifest is deleted.

    Raises:
        InvalidReference: The name or the digest is not one.
    """
    digest = Digest(digest)
    return f"{repository_path(name)}/_manifests/revisions/{digest.algorithm}/{digest.hex}/link"


def tag_path(name: str, tag: str) -> str:
    """Return the path of a tag's folder: ``current/link``, and ``index/`` with every digest the tag has had.

    Raises:
        InvalidReference: The name or the tag is not one.
    """
    return f"{repository_path(name)}/_manifests/tags/{check_tag(tag)}"


def history_path(name: str, tag: str, digest: str) -> str:
    """Return the path of the link that says that a tag has had a digest.

    Raises:
        InvalidReference: The name, the tag or the digest is not one.
    """
    digest = Digest(digest)
    return f"{tag_path(name, tag)}/index/{digest.algorithm}/{digest.hex}/link"


def upload_path(name: str, session: str) -> str:
    """Return the path of an upload's folder: ``data`` and ``startedat``.

    Raises:
        InvalidReference: The name is not one, or the session is not a UUID as :meth:`Layout.start_upload` makes them.
    """
    with suppress(ValueError):
        if str(uuid.UUID(session)) == session:
            return f"{repository_path(name)}/_uploads/{session}"
    raise InvalidReference(f"not an upload: {session[:100]!r}", hint="begin the upload again")


class Layout:
    """A registry's local folder, read and written.

    Methods that write may be called from several threads at once.

    Args:
        root: The folder that holds ``docker/registry/v2``. A missing or empty one becomes an empty registry.
        read_only: Never write, not even to begin a registry.

    Raises:
        StorageError: The folder holds something else, or cannot be read or written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Layout(Path(folder)).repositories()
        []
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.root = Path(root)
        if is_place(str(root)) or str(root).lower().startswith(("http:/", "https:/", "s3:/")):
            raise StorageError(
                f"{root} is not a folder, and only a folder is served",
                hint="serve an empty folder, then copy into it: regnb copy http://localhost:5000 '*' --from oci:DIR",
            )
        self._lock = threading.Lock()  # a tag and its manifest change together
        base = self.root / BASE
        try:
            if not base.is_dir():
                if self.root.is_dir() and any(self.root.iterdir()):
                    raise StorageError(
                        f"not a registry's folder: {self.root}",
                        hint=f"name the folder that holds {BASE}, or an empty one for a new registry",
                    )
                if not read_only:
                    _make(base)
        except OSError as error:
            raise StorageError(f"cannot open {self.root}: {error.strerror}", hint="name a folder") from error
        access = os.R_OK | os.X_OK | (0 if read_only else os.W_OK)
        if base.is_dir() and not os.access(base, access):
            raise StorageError(
                f"no permission to {'read' if read_only else 'write'} {base}", hint="change its owner, or the user"
            )

    # What is there

    def repositories(self) -> list[str]:
        """Return the names of all repositories, sorted; one whose tags were all deleted is still there."""
        top = self.root / REPOSITORIES
        names: list[str] = []
        pending = [""]
        while pending:
            name = pending.pop()
            inside = _folders(top / name)
            if name and not inside.isdisjoint({"_manifests", "_layers"}):
                names.append(name)
            pending += [f"{name}/{part}" if name else part for part in inside if not part.startswith("_")]
        return sorted(names)

    def has_repository(self, name: str) -> bool:
        """Whether anything was ever pushed to the repository."""
        folder = self.root / repository_path(name)
        return (folder / "_manifests").is_dir() or (folder / "_layers").is_dir()

    def tags(self, name: str) -> list[str]:
        """Return a repository's tags, sorted; those that dangle too."""
        folder = self.root / repository_path(name) / "_manifests/tags"
        return sorted(tag for tag in _folders(folder) if (folder / tag / "current/link").is_file())

    def revisions(self, name: str) -> Iterator[Digest]:
        """Yield the digests of a repository's manifests, tagged or not, in order.

        Raises:
            StorageError: A link is corrupt.
        """
        folder = self.root / repository_path(name) / "_manifests/revisions"
        for algorithm in sorted(_folders(folder)):
            for name_ in sorted(_folders(folder / algorithm)):
                digest = _read_link(folder / algorithm / name_ / "link")
                if digest is not None:
                    yield digest

    def resolve(self, name: str, tag: str) -> Digest | None:
        """Return the digest that a tag points to, or None if there is no such tag.

        Raises:
            StorageError: The link is corrupt.
        """
        return _read_link(self.root / tag_path(name, tag) / "current/link")

    def manifest(self, name: str, digest: str) -> bytes | None:
        """Return a manifest's bytes, or None if it is not in the repository, or its bytes are gone.

        Raises:
            StorageError: The link is corrupt.
        """
        target = _read_link(self.root / revision_path(name, digest))
        if target is not None:
            with suppress(FileNotFoundError):
                return (self.root / blob_path(target)).read_bytes()
        return None

    def has_manifest(self, name: str, digest: str) -> bool:
        """Whether a manifest is in the repository and its bytes are there."""
        target = _read_link(self.root / revision_path(name, digest))
        return target is not None and (self.root / blob_path(target)).is_file()

    def blob(self, name: str, digest: str) -> Path | None:
        """Return the file of a blob, or None if it is not in the repository, or its bytes are gone.

        Raises:
            StorageError: The link is corrupt.
        """
        # docker-registry links a sha512 to the sha256 under which it keeps the bytes: the link counts, not its name.
        target = _read_link(self.root / layer_path(name, digest))
        path = self.root / blob_path(target) if target is not None else None
        return path if path is not None and path.is_file() else None

    # Manifests and tags

    def put_manifest(self, name: str, raw: bytes, digest: Digest, *tags: str) -> None:
        """Keep a manifest whose digest was verified, and point the tags at it."""
        links = [revision_path(name, digest)]
        for tag in tags:
            links += [history_path(name, tag, digest), f"{tag_path(name, tag)}/current/link"]
        with self._lock:
            _write(self.root / blob_path(digest), raw)
            for link in links:
                _write(self.root / link, digest.encode())

    def delete_manifest(self, name: str, digest: Digest) -> bool:
        """Delete a manifest and every tag that points to it, as distribution does; False if it is not there.

        Raises:
            StorageError: The link of a tag is corrupt, and nothing was deleted.
        """
        with self._lock:
            if not self.has_manifest(name, digest):
                return False
            # The tags first: a process killed in between leaves an untagged manifest, not a dangling tag.
            for tag in [tag for tag in self.tags(name) if self.resolve(name, tag) == digest]:
                self._drop_tag(name, tag)
            return _unlink(self.root / revision_path(name, digest))

    def delete_tag(self, name: str, tag: str) -> bool:
        """Delete a tag; its manifest and the manifest's other tags stay. False if it is not there."""
        with self._lock:
            return self._drop_tag(name, tag)

    def _drop_tag(self, name: str, tag: str) -> bool:
        folder = self.root / tag_path(name, tag)
        dropped = _unlink(folder / "current/link")
        shutil.rmtree(folder, ignore_errors=True)
        if dropped:
            _sync(folder.parent)
        return dropped

    # Blobs and uploads

    def link_blob(self, name: str, digest: Digest) -> None:
        """Make a blob that is stored part of a repository."""
        _write(self.root / layer_path(name, digest), digest.encode())

    def delete_blob(self, name: str, digest: str) -> bool:
        """Take a blob out of a repository; its bytes wait for the garbage collection. False if it is not there."""
        return self.blob(name, digest) is not None and _unlink(self.root / layer_path(name, digest))

    def start_upload(self, name: str) -> str:
        """Begin an upload and return its session, a UUID."""
        session = str(uuid.uuid4())
        folder = self.root / upload_path(name, session)
        _make(folder.parent)
        folder.mkdir()
        (folder / "startedat").write_text(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), encoding="ascii")
        (folder / "data").touch()
        return session

    def upload(self, name: str, session: str) -> Path | None:
        """Return the file that an upload is appended to, or None if the repository has no such upload."""
        path = self.root / upload_path(name, session) / "data"
        return path if path.is_file() else None

    def finish_upload(self, name: str, session: str, digest: Digest) -> None:
        """Turn an upload whose digest was verified into a blob of the repository."""
        folder = self.root / upload_path(name, session)
        target = self.root / blob_path(digest)
        _sync(folder / "data")
        _make(target.parent)
        # Whoever comes second replaces equal bytes with equal bytes, and readers keep the file they opened.
        (folder / "data").replace(target)
        _sync(target.parent)
        self.link_blob(name, digest)
        shutil.rmtree(folder, ignore_errors=True)

    def cancel_upload(self, name: str, session: str) -> None:
        """Forget an upload and its bytes."""
        shutil.rmtree(self.root / upload_path(name, session), ignore_errors=True)


def _folders(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_dir()}
    except FileNotFoundError:
        return set()


def _read_link(path: Path) -> Digest | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Digest(text.decode("ascii").strip())
    except ValueError:  # InvalidReference and UnicodeDecodeError are both
        raise StorageError(f"a corrupt link: {path}", hint="restore it, or remove its folder") from None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _write(path: Path, data: bytes) -> None:
    _make(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            os.fchmod(handle, 0o644)  # mkstemp keeps the group and others out; another user's registry may serve this
            file.write(data)
            file.flush()
            os.fsync(handle)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    _sync(path.parent)
    return True

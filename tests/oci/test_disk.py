"""The on-disk layout: paths that cannot leave the root, and writes that land whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from regnb.errors import InvalidReference, StorageError
from regnb.oci.disk import BASE, Layout, blob_path, history_path, layer_path, revision_path, tag_path, upload_path
from regnb.oci.reference import Digest

RAW = b'{"schemaVersion":2,"manifests":[]}'
DIGEST = Digest.of(RAW)
HOSTILE = ["..", "a/../b", "/etc", "a//b", "", "A", "a\0b", "a/..", "a\n", "_uploads", "a/_manifests"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leaves_the_root(name: str) -> None:
    """Every path function refuses a name outside the grammar, whatever the rest of its arguments."""
    for path in (lambda: layer_path(name, DIGEST), lambda: revision_path(name, DIGEST), lambda: tag_path(name, "a")):
        with pytest.raises(InvalidReference):
            path()


@pytest.mark.parametrize("part", ["..", "../../x", "", "a/b", "sha256:../..", "sha256:" + "0" * 63, "index\0"])
def test_no_tag_digest_or_session_leaves_the_root(part: str) -> None:
    """Tags, digests and upload sessions are as narrow as names."""
    for path in (
        lambda: blob_path(part),
        lambda: tag_path("a", part),
        lambda: history_path("a", "t", part),
        lambda: upload_path("a", part),
    ):
        with pytest.raises(InvalidReference):
            path()


def test_a_session_has_one_spelling() -> None:
    """UUIDs that Python would also read (braces, capitals, no dashes) are refused, so one upload has one folder."""
    for spelling in ("{6FA459EA-EE8A-3CA4-894E-DB77E160355E}", "6fa459eaee8a3ca4894edb77e160355e"):
        with pytest.raises(InvalidReference):
            upload_path("a", spelling)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    """A folder that holds other files is not a registry, the error says which one is, and nothing is written."""
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(StorageError, match=f"not a registry's folder.*{BASE}"):
        Layout(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    """A file where the folder should be is a StorageError, not a NotADirectoryError."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        Layout(tmp_path / "file")


def test_read_only_writes_nothing(tmp_path: Path) -> None:
    """Opening an empty folder read-only leaves it empty."""
    assert Layout(tmp_path, read_only=True).repositories() == []
    assert list(tmp_path.iterdir()) == []


def test_nested_repositories_and_their_tags(tmp_path: Path) -> None:
    """A repository below another is listed beside it, and each has its own tags, sorted."""
    layout = Layout(tmp_path / "new" / "registry")
    for name, tag in (("vm", "b"), ("vm", "a"), ("vm/centos8", "latest")):
        layout.put_manifest(name, RAW, DIGEST, tag)
    assert layout.repositories() == ["vm", "vm/centos8"]
    assert layout.tags("vm") == ["a", "b"]
    assert list(layout.revisions("vm")) == [DIGEST]
    assert layout.manifest("vm", DIGEST) == RAW
    assert layout.delete_manifest("vm", DIGEST)
    assert layout.tags("vm") == []
    assert layout.tags("vm/centos8") == ["latest"]
    assert layout.repositories() == ["vm", "vm/centos8"]
    assert not layout.delete_manifest("vm", DIGEST)


def test_a_corrupt_link_stops_the_deletion_before_it_begins(tmp_path: Path) -> None:
    """Where one tag cannot be read, a deletion by digest deletes nothing: distribution loses the manifest there."""
    layout = Layout(tmp_path)
    layout.put_manifest("a", RAW, DIGEST, "good")
    layout.put_manifest("a", RAW, DIGEST, "bad")
    (tmp_path / tag_path("a", "bad") / "current/link").write_bytes(b"")
    with pytest.raises(StorageError, match="corrupt link"):
        layout.delete_manifest("a", DIGEST)
    assert layout.resolve("a", "good") == DIGEST
    assert layout.manifest("a", DIGEST) == RAW


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails in the middle of moving a tag, the tag still has its old digest, and no litter is left."""
    layout = Layout(tmp_path)
    layout.put_manifest("a", RAW, DIGEST, "t")
    other = RAW + b" "

    def fail(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        layout.put_manifest("a", other, Digest.of(other), "t")
    monkeypatch.undo()
    assert layout.resolve("a", "t") == DIGEST
    assert layout.manifest("a", Digest.of(other)) is None
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]

"""Layers laid one on the other, as a runtime unpacks them: which entries an image still shows, and under which path.

An entry's content counts as hidden when no path leads to it any more: a hard link keeps what its first name lost.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from regnb.errors import TooLarge
from regnb.layers.archive import DIRECTORY, HARDLINK, SYMLINK

WHITEOUT: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
_LINKS: Final = 40
"""Symbolic links in one path, as Linux follows them."""
TREE_LIMIT: Final = 2 * 2**30
"""Bytes of a tree: by way of links and missing folders, a few names can claim any number of long paths."""
_NODE: Final = 200
"""About as many bytes are held of a node, beside its path."""
STEPS_LIMIT: Final = 200_000_000
"""Parts of paths that are walked down, those of symbolic links included, and entries that whiteouts pass by."""
_TANGLED: Final = "the paths of its files are longer, or lead through more folders, than those of any image"
_ROOT: Final = 0
_NONE: Final = -1


def clean(name: bytes) -> list[bytes]:
    """Return the parts of a name within the image's root, out of which none leads.

    Example:
        >>> clean(b"./usr//lib/../bin/"), clean(b"/../../etc")
        ([b'usr', b'bin'], [b'etc'])
    """
    if b"." not in name and b"//" not in name:
        return name.strip(b"/").split(b"/") if name.strip(b"/") else []
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return parts


def whiteout(name: bytes) -> str:
    """Return what an entry takes away: ``deleted`` (a path of a lower layer), ``opaque`` (all of a folder), or ""."""
    last = name.rstrip(b"/").rpartition(b"/")[2]
    if not last.startswith(WHITEOUT):
        return ""
    return "opaque" if last == OPAQUE else "deleted"


class Merged(NamedTuple):
    """What an image of several layers shows.

    Attributes:
        paths: Of each entry, layer by layer: where it is put, its parents' links resolved. A whiteout has the path
            that it takes away.
        shown: Whether the entry is what the image shows at this path.
        alive: Whether a path leads to the entry's content.
        files: Each path that is shown, to the number of its entry; -1 for a folder that no entry names.
    """

    paths: list[bytes]
    shown: bytearray
    alive: bytearray
    files: dict[bytes, int]


class Merge:
    """An image's tree, layer upon layer.

    Example:
        >>> merge = Merge()
        >>> merge.lay([(b"a", 48, b""), (b"b", 49, b"a")])
        >>> merge.lay([(b".wh.a", 48, b"")])
        >>> merge.done().files, list(merge.done().alive)
        ({b'b': 1}, [1, 0, 0])
    """

    def __init__(self) -> None:
        # By node: the entry that shows it, the entry whose content it has, the layer that touched it last.
        self._entry, self._content, self._layer = array("q", [_NONE]), array("q", [_NONE]), array("q", [_NONE])
        self._parent, self._name = array("q", [_ROOT]), [b""]
        self._length = array("q", [0])  # of its path
        self._children: dict[int, dict[bytes, int]] = {_ROOT: {}}
        self._targets: dict[int, bytes] = {}
        self._paths: list[bytes] = []
        self._number = self._held = self._steps = 0
        self._known: dict[bytes, int] = {}
        self._places: dict[int, bytes] = {_ROOT: b""}

    def lay(self, entries: Iterable[tuple[bytes, int, bytes]]) -> None:
        """Lay a layer on those before it; its entries are given by name, kind and target.

        Raises:
            TooLarge: Its paths are longer, or lead through more folders, than those of any image.
        """
        self._known.clear()
        for name, kind, target in entries:
            parts = clean(name)
            if parts and parts[-1].startswith(WHITEOUT):
                self._white(parts)
            else:
                folder = self._folder(parts[:-1], name)
                self._put(len(self._paths), folder, parts[-1] if parts else b"", kind, target)
        self._number += 1

    def _put(self, entry: int, folder: int, name: bytes, kind: int, target: bytes) -> None:
        above = self._path(folder)
        self._paths.append(b"/".join(filter(None, (above, name))))
        if not name:  # the root itself
            self._entry[_ROOT] = entry
            return
        source = self._find(clean(target)) if kind == HARDLINK else None
        content = entry if source is None else self._content[source]
        old = self._children[folder].get(name)
        if old is not None and kind == DIRECTORY and old in self._children:
            node = old
            self._hold(self._length[node])
        else:
            if old is not None:
                self._remove(old)
            node = self._new(folder, name)
            if kind == DIRECTORY:
                self._children[node] = {}
            elif kind == SYMLINK:
                self._targets[node] = target
            elif source is not None and source in self._targets:
                self._targets[node] = self._targets[source]
        self._entry[node] = entry
        self._content[node] = content
        self._touch(node)

    def _white(self, parts: Sequence[bytes]) -> None:
        """Take away what a whiteout names; the folders that it lies in are not made for it."""
        opaque = parts[-1] == OPAQUE
        named = [*parts[:-1]] if opaque else [*parts[:-1], parts[-1].removeprefix(WHITEOUT)]
        folder = self._resolve(parts[:-1], make=False)
        if folder is None:
            self._paths.append(b"/".join(named))
            return
        self._hold(self._length[folder])
        self._paths.append(b"/".join(filter(None, (self._path(folder), b"" if opaque else named[-1]))))
        node = folder if opaque else self._children[folder].get(named[-1])
        if node is not None and not opaque and self._layer[node] != self._number:
            self._remove(node)
        elif node is not None:
            self._purge(node)

    def _purge(self, folder: int) -> None:
        """Remove what is in a folder, but for what this layer put there."""
        pending = [folder]
        while pending:
            children = list(self._children.get(pending.pop(), {}).values())
            self._step(len(children))
            for child in children:
                if self._layer[child] != self._number:
                    self._remove(child)
                else:
                    pending.append(child)

    def _step(self, count: int) -> None:
        self._steps += count
        if self._steps > STEPS_LIMIT:
            raise TooLarge(_TANGLED)

    def _hold(self, count: int) -> None:
        self._held += count + _NODE
        if self._held > TREE_LIMIT:
            raise TooLarge(_TANGLED)

    def _new(self, folder: int, name: bytes) -> int:
        node = len(self._entry)
        self._length.append(self._length[folder] + len(name) + 1)
        self._hold(self._length[node])
        self._entry.append(_NONE)
        self._content.append(_NONE)
        self._layer.append(_NONE)
        self._parent.append(folder)
        self._name.append(name)
        self._children[folder][name] = node
        return node

    def _remove(self, node: int) -> None:
        del self._children[self._parent[node]][self._name[node]]
        if node in self._children or node in self._targets:
            self._known.clear()
        self._targets.pop(node, None)
        pending = [node]
        while pending:
            for child in self._children.pop(pending.pop(), {}).values():
                self._targets.pop(child, None)
                pending.append(child)

    def _touch(self, node: int) -> None:
        while node != _ROOT and self._layer[node] != self._number:
            self._layer[node] = self._number
            node = self._parent[node]

    def _path(self, node: int) -> bytes:
        """Return a folder's path."""
        found = self._places.get(node)
        if found is None:
            parts, at = [], node
            while at not in self._places:
                parts.append(self._name[at])
                at = self._parent[at]
            parts.append(self._places[at])
            found = self._places[node] = b"/".join(filter(None, reversed(parts)))
        return found

    def _folder(self, parts: Sequence[bytes], name: bytes) -> int:
        """Return the folder that an entry lies in; what is missing of it is made."""
        key = name.rpartition(b"/")[0] if not name.endswith(b"/") else b"/".join(parts)
        found = self._known.get(key)
        if found is None:
            found = self._resolve(parts, make=True)
            assert found is not None  # noqa: S101 -- what is missing was made
            self._known[key] = found
        return found

    def _find(self, parts: Sequence[bytes]) -> int | None:
        """Return the node at a path whose last part is not followed, or None."""
        folder = self._resolve(parts[:-1], make=False)
        return None if folder is None or not parts else self._children[folder].get(parts[-1])

    def _resolve(self, parts: Sequence[bytes], *, make: bool, last: bool = False) -> int | None:
        """Walk down a path, its symbolic links followed within the root; where links go in circles, they are folders.

        Args:
            parts: The path.
            make: Whether what is missing is made.
            last: Whether the last part may be what is no folder.

        Raises:
            TooLarge: The paths lead through more than those of any image.
        """
        node, pending, links = _ROOT, list(reversed(parts)), 0
        self._step(len(pending))
        while pending:
            part = pending.pop()
            if part == b"..":
                node = self._parent[node]
                continue
            child = self._children[node].get(part)
            if child is not None and child in self._targets and links < _LINKS:
                target = self._targets[child]
                links += 1
                node = _ROOT if target.startswith(b"/") else node
                pending += [each for each in reversed(target.split(b"/")) if each not in (b"", b".")]
                self._step(len(pending))
                continue
            if child is None or child not in self._children:
                if last and child is not None and not pending and child not in self._targets:
                    return child
                if not make:
                    return None
                if child is not None:
                    self._remove(child)
                child = self._new(node, part)
                self._children[child] = {}
            node = child
        return node

    def content(self, path: bytes) -> int | None:
        """Return the number of the entry with the content that is shown at a path, symbolic links followed.

        It is -1 for a folder that no entry names, and None where nothing is shown.

        Example:
            >>> merge = Merge()
            >>> merge.lay([(b"usr/lib/os-release", 48, b""), (b"etc/os-release", 50, b"../usr/lib/os-release")])
            >>> merge.content(b"/etc/os-release")
            0
        """
        node = self._resolve(clean(path), make=False, last=True)
        return None if node is None else self._content[node]

    def done(self) -> Merged:
        """Return what is shown now; more layers may follow."""
        shown, alive = bytearray(len(self._paths)), bytearray(len(self._paths))
        files: dict[bytes, int] = {}
        pending = [(_ROOT, b"")]
        if self._entry[_ROOT] != _NONE:
            shown[self._entry[_ROOT]] = alive[self._entry[_ROOT]] = 1
        while pending:
            folder, above = pending.pop()
            for name, node in self._children[folder].items():
                path = above + name
                files[path] = self._entry[node]
                if self._entry[node] != _NONE:
                    shown[self._entry[node]] = alive[self._content[node]] = 1
                if node in self._children:
                    pending.append((node, path + b"/"))
        return Merged(self._paths, shown, alive, files)

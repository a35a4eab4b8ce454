"""The bills of materials that hang on images: as referrers, as cosign's tags, and beside them in an index."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from regnb.crawl.reader import Reader
from regnb.errors import NotFound, RegnbError, TooLarge
from regnb.layers.images import Part, chosen
from regnb.layers.reading import read_image
from regnb.layers.sboms import MEDIA_TYPE, SBOM_LIMIT, Component, components
from regnb.oci.manifest import AnyManifest, Descriptor, Index, Manifest, decode
from regnb.oci.reference import Reference
from regnb.text import human

if TYPE_CHECKING:
    from regnb.tables.frame import Frame

_REFERS = "vnd.docker.reference.digest"
_PREDICATE = "in-toto.io/predicate-type"


class Attached(NamedTuple):
    """One document.

    Attributes:
        platform: Of the image that it hangs on; "" where that is an index.
        referrer: Digest of the manifest that has it.
        found: What it lists; none if it was not read.
        problem: Why it was not read, or "".
    """

    platform: str
    referrer: str
    found: Sequence[Component]
    problem: str = ""


async def attached(reader: Reader, where: Reference, platform: str | None = None) -> list[Attached]:
    """Read the bills of materials of the images behind a reference. One that cannot be read is told with the reason.

    Raises:
        NotFound, ContentError, InvalidArgument: As :meth:`regnb.layers.inside.Inside.look` raises them.
    """
    top, parts = await read_image(reader, where)
    subjects = {str(part.manifest.digest): part for part in chosen(parts, where, platform)}
    found = {}
    for subject in dict.fromkeys((str(top.digest), *subjects)):
        part = subjects.get(subject)
        async for referrer, document in _documents(reader, where.repository, subject, top):
            for layer in document.layers:
                if _is_sbom(layer):
                    key = referrer, layer.digest
                    found[key] = await _read(reader, where.repository, part, referrer, layer)
    return list(found.values())


async def _documents(
    reader: Reader, repository: str, subject: str, top: AnyManifest
) -> AsyncIterator[tuple[str, Manifest]]:
    """Yield the manifests that refer to another one."""
    digests = [each.digest for each in await reader.client.referrers(repository, subject)]
    if isinstance(top, Index):
        digests += [each.digest for each in top.manifests if (each.annotations or {}).get(_REFERS) == subject]
    tag = subject.replace(":", "-", 1)
    for target in (*dict.fromkeys(digests), f"{tag}.att", f"{tag}.sbom"):
        try:
            raw = await reader.manifest(repository, target)
        except NotFound:
            continue
        document = decode(raw.data, raw.media_type, digest=raw.digest)
        if isinstance(document, Manifest):
            yield str(raw.digest), document


def _is_sbom(layer: Descriptor) -> bool:
    kind = (layer.annotations or {}).get(_PREDICATE) or (layer.annotations or {}).get("predicateType")
    named = not isinstance(kind, str) or "spdx" in kind.lower() or "cyclonedx" in kind.lower()
    return named and MEDIA_TYPE.fullmatch(layer.media_type) is not None


async def _read(reader: Reader, repository: str, part: Part | None, referrer: str, layer: Descriptor) -> Attached:
    platform = part.platform if part else ""
    try:
        if layer.size > SBOM_LIMIT:
            raise TooLarge(f"it has {human(layer.size)}; at most {human(SBOM_LIMIT)} are read")
        data = await reader.client.blob(repository, layer.digest, limit=SBOM_LIMIT)
        return Attached(platform, referrer, components(data))
    except RegnbError as error:
        return Attached(platform, referrer, (), f"not read: {error.message}")


def sboms(found: Sequence[Attached]) -> Frame:
    """Return what bills of materials list (:data:`regnb.tables.columns.COLUMNS`, ``sboms``)."""
    from regnb.tables.frame import of_rows

    rows: list[tuple[str, ...]] = []
    for one in found:
        rows += [(one.platform, one.referrer, *each, "") for each in one.found]
        if one.problem:
            rows.append((one.platform, one.referrer, "", "", "", "", "", one.problem))
    return of_rows("sboms", rows)

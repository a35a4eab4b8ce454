"""Plan copies: within a registry, where blobs are mounted, or from another one, from which they are streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from regnb.change.copying import UNKNOWN_PLATFORM, Copying, Job
from regnb.change.plan import Plan, check_allow
from regnb.change.retag import named, read_picked
from regnb.crawl.reader import Reader, each, parts
from regnb.crawl.selection import Picked, What, find
from regnb.errors import InvalidArgument, NotFound, Refused
from regnb.layouts.transport import check_destination
from regnb.oci import transports
from regnb.oci.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Platform,
    RawManifest,
    decode,
)
from regnb.oci.platforms import fits, parse_platform
from regnb.oci.reference import Digest, check_repository, check_tag
from regnb.oci.referrers import subject_of_tag
from regnb.text import count, human

_UNDO: Final = "Undo takes the tags out of the layout again, and leaves the blobs."
_ARCHIVE: Final = "The archive is written once, when everything is there, and is only read then: nothing undoes that."
_DOCKER: Final = (
    "Of Docker's media types, and kept as they are: {}. skopeo and umoci do not read these in a layout, and umoci gc "
    "removes their layers; regnb brings them back."
)


async def plan_copy(
    reader: Reader,
    what: What,
    to: str = "",
    *,
    source: Reader | None = None,
    repositories: str | Sequence[str] | None = None,
    platform: str | None = None,
    referrers: bool = True,
    allow: Iterable[str] = (),
) -> Plan:
    """Plan a copy into a registry.

    Args:
        reader: The registry that is written to.
        what: What is copied; a repository's bare name means all its tags.
        to: A repository, ``repository:tag``, or a pattern such as ``mirror/{repository}:{tag}``; by default under the
            same names, or under the tag that the name of a layout ends with.
        source: The registry that is read from; by default the same one.
        repositories: Match globs with these, instead of the catalog.
        platform: Such as ``linux/arm64`` or ``windows/amd64:10.0.20348``: of an index only this image is copied.
        referrers: Whether signatures, SBOMs and other referrers come along.
        allow: ``overwrite``.

    Raises:
        NotFound: What was named, a manifest behind it, or the platform is not there.
        Refused: Two images of an index are for the platform; the message names them.
        InvalidReference, InvalidArgument: A name that is not lawful, source and destination are one, or two sources
            have the same destination.
        Refused: It would move a tag, or it is an image of schema 1.
        Unsupported: The destination is a tree of layouts, or an archive that is there: both are only read.

    Example:
        ``plan = await plan_copy(reader, "vm/centos8", "archive/centos8")``
    """
    allowed = check_allow(allow)
    origin = reader if source is None or source.url == reader.url else source
    wanted = parse_platform(platform) if platform else None
    picked, tags = await find(origin, what, whole=True, among=repositories)
    if wanted:
        # A referrer's tag has no platform; what refers to the image that is chosen is found from that image.
        picked = [one for one in picked if not subject_of_tag(one.tag)] or picked
    where = _destinations(picked, to.removeprefix(f"{reader.client.host}/") or _same(reader, origin))
    layout = check_destination(reader.client, ((name, tag) for name, tag in where.values() if tag))
    if origin is reader:
        for one, destination in list(where.items()):
            if destination != (one.repository, one.tag):
                continue
            if len(where) == 1 or not subject_of_tag(one.tag):
                raise InvalidArgument(
                    f"{named(one)} would be copied onto itself", hint="choose another repository or tag"
                )
            del where[one]  # a referrer's tag keeps its name, and so it is in its place

    async def read(one: Picked) -> Job:
        raw, name = await read_picked(origin, one), named(one)
        if wanted is not None and (chosen := await _choose(origin, one, raw, wanted)) != raw:
            raw, name = chosen, f"{name} ({wanted})"
        return Job(one, name, raw, *where[one])

    copying = Copying(reader, origin, tags, referrers=referrers)
    await copying.plan(await each(read, where))
    effects = await copying.overwritten(allowed)
    return Plan(
        operation="copy",
        url=reader.url,
        source="" if origin is reader else origin.url,
        steps=tuple(copying.steps),
        effects=(*effects, *copying.effects),
        moved=copying.moved,
        notes=(*_notes(copying, platform), *(_of_layout(copying, reader.url) if layout else ())),
        allow=allowed,
        made=copying.made,
        authorized=reader.authorized,
    )


def _notes(copying: Copying, platform: str | None) -> Iterator[str]:
    if copying.origin is copying.reader:
        yield "Blobs are mounted: no bytes move."
    elif copying.moved:
        yield f"At most {human(copying.moved)} are streamed from {copying.origin.client.host}: what is there is spared."
    if copying.effects:
        comes = "comes" if len(copying.effects) == 1 else "come"
        yield f"{count(len(copying.effects), 'referrer')} (signatures, SBOMs and the like) {comes} along."
    if not copying.referrers:
        yield "Referrers such as signatures and SBOMs stay behind."
    if platform:
        yield f"Of an index only {platform} is copied. What signs the index does not fit that image."
    if copying.made:
        yield "Tags such as sha256-… list the referrers there, in the way of registries that have no list of their own."


def _of_layout(copying: Copying, url: str) -> Iterator[str]:
    """Yield what is to be known of a copy into a layout."""
    types = {step.after: step.media_type for step in copying.steps if step.media_type in (DOCKER_LIST, DOCKER_MANIFEST)}
    if types:
        yield _DOCKER.format(count(len(types), "manifest"))
    yield _ARCHIVE if url.startswith("oci-archive:") else _UNDO


def _same(reader: Reader, origin: Reader) -> str:
    """Return where copies go if nothing else is said: under the same names, or to the one tag that a layout's name has.

    Raises:
        InvalidArgument: That is where they are.
    """
    if origin is reader:
        raise InvalidArgument(
            "the destination of the copy is missing", hint="add --to REPOSITORY:TAG, or to= in Python"
        )
    place = transports.parse(reader.url)
    if place is None or not place.reference:
        return "{repository}"
    return ":".join(transports.named(place.reference, place.repository) or (place.repository, place.reference))


def _destinations(picked: Sequence[Picked], to: str) -> dict[Picked, tuple[str, str]]:
    """Return repository and tag at the destination for each."""
    name, colon, pattern = to.partition(":")
    if colon and not pattern:
        raise InvalidArgument(f"no tag after the colon: {to}", hint="write repository:tag, or a repository")
    if pattern and "{tag}" not in pattern and len(picked) > 1:
        raise InvalidArgument(
            f"{len(picked):,} tags would all be copied to {to}", hint="use a pattern such as {repository}:{tag}"
        )
    found: dict[Picked, tuple[str, str]] = {}
    for one in picked:
        if "{tag}" in pattern and not one.tag:
            raise InvalidArgument(f"{named(one)} has no tag for {to}", hint="write repository:tag")
        # A referrer's tag says what it is about: under another name nobody would find it.
        keeps = not pattern or ("{tag}" in pattern and subject_of_tag(one.tag))
        tag = one.tag if keeps else pattern.replace("{tag}", one.tag)
        repository = name.replace("{repository}", one.repository)
        found[one] = check_repository(repository), check_tag(tag) if tag else ""
    return found


async def _choose(origin: Reader, one: Picked, raw: RawManifest, wanted: Platform) -> RawManifest:
    """Return the image for a platform: a child of an index, or the image itself."""
    root = decode(raw.data, raw.media_type, digest=raw.digest)
    there: dict[str, Platform] = {}
    for child in parts(root)[0] or (Descriptor(raw.digest, len(raw.data), raw.media_type),):
        platform = child.platform
        if platform is None or not platform.os:
            found = await origin.present(one.repository, child.digest)
            manifest = decode(found.data, found.media_type, digest=found.digest)
            config = await origin.config(one.repository, manifest) or ImageConfig()
            platform = Platform(config.architecture or "", config.os or "", config.variant or "")
        if str(platform) not in ("", UNKNOWN_PLATFORM):
            there.setdefault(child.digest, platform)
    fitting = {digest: platform for digest, platform in there.items() if fits(platform, wanted)}
    # An image that asks for a feature is for those who ask for it: Nydus lists its images beside the usual ones.
    plain = {digest: platform for digest, platform in fitting.items() if platform.features <= wanted.features}
    chosen = [*(plain or fitting)]
    if len(chosen) == 1:
        return await origin.present(one.repository, chosen[0])
    if chosen:
        choices = [f"{fitting[digest].whole} ({Digest(digest).short})" for digest in chosen]
        which = next((fitting[digest].whole for digest in chosen if fitting[digest].whole != wanted.whole), "")
        told = len({fitting[digest].whole for digest in chosen}) == len(chosen)
        raise Refused(
            f"{named(one)} has {len(chosen)} images for {wanted.whole}: {', '.join(choices)}",
            hint=f"name one of them, such as {which}"
            if told
            else f"copy one by its digest: {one.repository}@{chosen[0]}",
        )
    names = dict.fromkeys(platform.whole for platform in there.values())
    raise NotFound(
        f"{named(one)} has no image for {wanted.whole}; it has {', '.join(names) or 'no image with a known platform'}",
        hint="choose one of these, or copy the whole index" if isinstance(root, Index) else "copy it as it is",
    )

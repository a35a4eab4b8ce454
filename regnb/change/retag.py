"""Plan further tags for what is there already, in the same repository: no blob moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from regnb.change.plan import Effect, Plan, Step, check_allow, once
from regnb.crawl.reader import Reader, each, parts
from regnb.crawl.selection import Picked, What, check_seen, find
from regnb.errors import ContentError, InvalidArgument, NotFound, Refused
from regnb.layouts.transport import check_destination
from regnb.oci.manifest import SCHEMA1_TYPES, Manifest, RawManifest, decode
from regnb.oci.reference import Digest, check_tag


async def plan_retag(reader: Reader, what: What, tag: str, *, allow: Iterable[str] = ()) -> Plan:
    """Plan a tag for what other tags or digests point at. It costs a listing a repository, and a GET a tag.

    Args:
        reader: The registry.
        what: What gets the new tag.
        tag: The new tag; for several in one repository a pattern such as ``{tag}-old``.
        allow: ``overwrite``.

    Raises:
        NotFound, InvalidReference, InvalidArgument: What was named is not there, not lawful, or named twice.
        Refused: It would move a tag, or it is an image of schema 1.
        Unsupported: It is an archive or a tree of layouts, which are only read.

    Example:
        ``plan = await plan_retag(reader, "vm/centos8:latest", "stable")``
    """
    allowed = check_allow(allow)
    picked, tags = await find(reader, what)
    names = _names(picked, tag)
    check_destination(reader.client, ((one.repository, new) for one, new in names.items()))

    async def read(one: Picked) -> tuple[RawManifest, str]:
        raw = await read_picked(reader, one)
        new = names[one]
        there = await reader.look(one.repository, new) if new in listed[one.repository] else None
        return raw, str(there.digest) if there else ""

    listed = {repository: frozenset(found) for repository, found in tags.items()}
    steps = []
    for one, (raw, before) in zip(picked, await each(read, picked), strict=True):
        same = before == raw.digest
        steps.append(
            Step(
                action="keep" if same else "tag",
                repository=one.repository,
                tag=names[one],
                before=before,
                after=str(raw.digest),
                source=one.repository,
                media_type=raw.media_type,
                size=_size(raw),
                reason="kept: this tag already points to the digest" if same else f"same as {named(one)}",
            )
        )
    return Plan(
        operation="retag",
        url=reader.url,
        steps=tuple(steps),
        effects=await overwritten(reader, steps, tags, allowed),
        notes=("The tags and digests that it starts from stay as they are.",),
        allow=allowed,
        authorized=reader.authorized,
    )


def named(one: Picked) -> str:
    """Return the name of a tag or digest, for people.

    Example:
        >>> named(Picked("vm/centos8", "8"))
        'vm/centos8:8'
    """
    return f"{one.repository}@{Digest(one.digest).short}" if one.digest else f"{one.repository}:{one.tag}"


def _names(picked: Sequence[Picked], pattern: str) -> dict[Picked, str]:
    names: dict[Picked, str] = {}
    taken: dict[tuple[str, str], Picked] = {}
    for one in picked:
        if "{tag}" in pattern and not one.tag:
            raise InvalidArgument(f"{named(one)} has no tag for {pattern}", hint="write a plain tag")
        new = check_tag(pattern.replace("{tag}", one.tag))
        if new == one.tag:
            raise InvalidArgument(f"{named(one)} already has the tag {new}", hint="choose another tag")
        other = taken.setdefault((one.repository, new), one)
        if other != one:
            raise InvalidArgument(
                f"{named(other)} and {named(one)} would both be tagged {new}", hint="use a pattern such as {tag}-old"
            )
        names[one] = new
    return names


async def read_picked(reader: Reader, one: Picked) -> RawManifest:
    """Read what was picked; a tag costs one GET.

    Raises:
        NotFound: The image is not found, or the tag points to nothing.
        Refused: It is an image of schema 1, or another one than where it was chosen.
    """
    try:
        raw = await reader.present(one.repository, one.target)
    except NotFound as error:
        hint = "the tag is listed, but points to nothing: leave it out" if one.tag else ""
        raise error.saying(f"{reader.client.host} has no manifest of {named(one)}", hint=hint) from None
    if raw.media_type in SCHEMA1_TYPES:
        raise Refused(
            f"{named(one)} is an image of the withdrawn schema 1, whose digest is not that of its bytes",
            hint="push it again with a current client",
        )
    check_seen(one, raw.digest)
    return raw


def _size(raw: RawManifest) -> int:
    """Bytes of an image; 0 for an index, whose children are not read, and for what is not a manifest."""
    try:
        manifest = decode(raw.data, raw.media_type, digest=raw.digest)
    except ContentError:
        return 0
    if not isinstance(manifest, Manifest):
        return 0
    return len(raw.data) + sum(blob.size for blob in parts(manifest)[1])


async def overwritten(
    reader: Reader, steps: Sequence[Step], tags: Mapping[str, Sequence[str]], allow: Sequence[str]
) -> tuple[Effect, ...]:
    """Return what it means for the images whose tags are moved. Only where there are such are other tags asked for.

    Args:
        reader: The registry that is written to.
        steps: The plan's.
        tags: Every tag of the repositories concerned.
        allow: ``overwrite`` or not.

    Raises:
        Refused: A tag would be moved, and that is not allowed.
    """
    effects = []
    moved: dict[str, dict[str, Step]] = {}
    for step in steps:
        if step.action == "tag" and step.before not in ("", step.after):
            moved.setdefault(step.repository, {})[step.tag] = step
    for repository, there in moved.items():
        others = await reader.digests(repository, [tag for tag in tags[repository] if tag not in there])
        still = set(others.values()) | {step.after for step in steps if step.repository == repository}
        for tag, step in there.items():
            before, after = Digest(step.before).short, Digest(step.after).short
            message = f"already points to {before}; this would move it to {after}"
            if step.before not in still:
                message += f", and {before} would be left without a tag"
            effects.append(Effect("tag", repository, tag, 0, message))
    if effects and "overwrite" not in allow:
        first, more = effects[0], len(effects) - 1
        raise Refused(
            f"{first.repository}:{first.reference} {first.message}" + (f" (and {more} more)" if more else ""),
            hint=f"choose another tag; {once(['overwrite'])}",
            allow=("overwrite",),
        )
    return tuple(effects)

"""Plan a rename: copy, and remove the old name only once every copy has been read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from regnb.change.copying import Copying, Job
from regnb.change.plan import Plan, Step, check_allow
from regnb.change.removal import check_removes
from regnb.change.retag import named, read_picked
from regnb.crawl.reader import Reader, each
from regnb.crawl.selection import Picked, Selector, find, selectors
from regnb.errors import ContentError, InvalidArgument, NotFound, Refused, ServerFailed
from regnb.oci.reference import check_repository, check_tag


async def plan_rename(reader: Reader, what: str, to: str, *, allow: Iterable[str] = ()) -> Plan:
    """Plan a rename of a repository, or of one tag.

    Args:
        reader: The registry.
        what: ``vm/centos8`` or ``vm/centos8:latest``.
        to: A repository for a repository; ``repository:tag`` or a tag alone for a tag.
        allow: ``overwrite``, ``dummy``.

    Raises:
        NotFound, InvalidReference, InvalidArgument: What was named is not there, not lawful, or it is the same.
        Refused: It would move another tag, or a tag of the repository cannot be read, so that it would be lost.

    Example:
        ``plan = await plan_rename(reader, "vm/centos8", "archive/centos8")``
    """
    allowed = check_allow(allow)
    check_removes(reader.url)
    host = reader.client.host
    old = _one(what, host)
    to = to.removeprefix(f"{host}/")
    picked, tags = await find(reader, what, whole=True)
    copying = Copying(reader, reader, tags, again=True)
    if old.tag:
        repository, colon, tag = to.rpartition(":")
        if "/" in tag:
            raise InvalidArgument(f"{to} has no tag", hint=f"write {to}:TAG")
        repository, tag = check_repository(repository) if colon else old.repository, check_tag(tag)
    else:
        repository, tag = check_repository(to), ""
    if (repository, tag) == (old.repository, old.tag):
        raise InvalidArgument(f"{old} would keep its name", hint="choose another name")

    async def read(one: Picked) -> Job:
        try:
            return Job(one, named(one), await read_picked(reader, one), repository, tag or one.tag)
        except (NotFound, ServerFailed, ContentError) as error:
            raise Refused(
                f"{named(one)} cannot be read, so it would be lost: {error.message}",
                hint=f"push it again, or remove the tag {one.tag} first",
            ) from None

    jobs = await each(read, picked)
    await copying.plan(jobs)
    effects = await copying.overwritten(allowed)
    removals = [_untag(copying, jobs[0])] if old.tag else _deletions(copying, jobs, repository)
    return Plan(
        operation="rename",
        url=reader.url,
        steps=(*copying.steps, *removals),
        effects=(*effects, *copying.effects),
        notes=_notes(old, repository),
        allow=allowed,
        made=copying.made,
        authorized=reader.authorized,
    )


def _one(what: str, host: str) -> Selector:
    named_ = selectors(what, host=host, whole=True)
    if len(named_) != 1 or named_[0].digest:
        raise InvalidArgument(f"{what} is not one repository or one tag", hint="write repository or repository:tag")
    check_repository(named_[0].repository)
    if named_[0].tag:
        check_tag(named_[0].tag)
    return named_[0]


def _untag(copying: Copying, job: Job) -> Step:
    return Step(
        action="untag",
        repository=job.one.repository,
        tag=job.one.tag,
        before=str(job.raw.digest),
        media_type=job.raw.media_type,
        reason=f"now {job.repository}:{job.tag}",
        needs=tuple(range(len(copying.steps))),
    )


def _deletions(copying: Copying, jobs: Iterable[Job], to: str) -> Iterator[Step]:
    """Delete what was copied: an index before its children, each only if its tags and all behind it were copied."""
    tags: dict[str, list[str]] = {}
    for job in jobs:
        tags.setdefault(job.raw.digest, []).append(job.one.tag)
    bringing: dict[str, set[int]] = {}
    for number, step in enumerate(copying.steps):
        bringing.setdefault(step.after, set()).add(number)
    needs: dict[str, set[int]] = {}
    removals = []
    for (repository, digest), item in copying.found.items():
        copied = bringing.get(copying.stands.get((repository, digest), digest), set())
        needs[digest] = copied.union(*(needs[child] for child in item.children))
        removals.append(
            Step(
                action="delete",
                repository=repository,
                before=digest,
                tags=tuple(tags.get(digest, ())),
                media_type=item.raw.media_type,
                size=copying.size(item),
                reason=f"deleted because it was copied to {to}",
                needs=tuple(sorted(needs[digest])),
            )
        )
    return reversed(removals)


def _notes(old: Selector, repository: str) -> tuple[str, ...]:
    if old.tag and repository == old.repository:
        return ("The image stays where it is, under its new tag.",)
    if old.tag:
        return (
            "Blobs are mounted: no bytes move.",
            f"Only the tag {old.tag} is deleted. Its manifest and referrers stay, untagged if it was their only tag.",
        )
    return (
        "Blobs are mounted: no bytes move.",
        f"The catalog may still list {old.repository}, which is then empty.",
        f"Untagged manifests of {old.repository} are invisible over HTTP, and are not moved.",
    )

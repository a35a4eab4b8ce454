"""What a reading of a storage notes beside its records: problems, and what may be there though it was not seen."""

from __future__ import annotations

from regnb.crawl.files import reason
from regnb.crawl.records import Counts, Problem, ProblemKind, Records, Unread
from regnb.errors import InvalidReference
from regnb.oci.reference import check_repository


class Notes:
    """The notes of one reading of a storage.

    Args:
        records: Where the problems go.

    Attributes:
        statuses: Name of a repository that could not be read wholly, to ``failed`` or ``denied``.

    Example:
        >>> from datetime import UTC, datetime
        >>> notes = Notes(Records("/srv/registry", datetime.now(UTC)))
        >>> notes.unread("app", "1.0", "cannot read it", PermissionError(13, "Permission denied"))
        'denied'
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self.statuses: dict[str, Unread] = {}
        self._hidden: list[str] = []

    def problem(
        self,
        repository: str,
        reference: str,
        problem: ProblemKind,
        message: str,
        *,
        incomplete: bool = False,
        hint: str = "",
    ) -> None:
        """Note what could not be read, or is not as it should be."""
        repository, reference = map(encodable, (repository, reference))
        self.records.problems.append(Problem(repository, reference, problem, message, hint, incomplete))

    def damage(self, repository: str, reference: str, problem: ProblemKind, message: str, hint: str = "") -> None:
        """Note what is known to be missing or damaged, so that no pull that needs it succeeds."""
        self.records.damage(encodable(repository), encodable(reference), problem, message, hint)

    def unread(
        self, repository: str, reference: str, text: str, error: Exception, counts: Counts | None = None
    ) -> Unread:
        """Note that something is there and cannot be read, and return what sort of problem that is."""
        sort: Unread = "denied" if isinstance(error, PermissionError) else "failed"
        hint = "read it as the registry's own user" if sort == "denied" else ""
        self.problem(repository, reference, sort, f"{text}: {reason(error)}", incomplete=True, hint=hint)
        if counts is not None:
            counts.denied += sort == "denied"
            counts.failed += sort == "failed"
        return sort

    def unlisted(self, path: str, error: Exception) -> None:
        """Note a folder that cannot be listed."""
        name = repository_of(path)[0] if path.startswith("repositories/") else ""
        sort = self.unread(name, path, "cannot list it", error)
        if is_repository(name):
            self.statuses[name] = sort
        elif not path.startswith("repositories/"):
            self._hidden.append(path)

    def is_hidden(self, path: str) -> bool:
        """Whether a file that was not found may be in a folder that could not be listed."""
        return any(f"{path}/".startswith(f"{folder}/".lstrip("/")) for folder in self._hidden)


def repository_of(path: str) -> tuple[str, str]:
    """Return the repository that a path lies in, and the rest, which begins with an underscore.

    Example:
        >>> repository_of("repositories/team/app/_layers/sha256")
        ('team/app', '_layers/sha256')
        >>> repository_of("repositories/_strange/_layers")  # no registry looks into it
        ('', '_strange/_layers')
    """
    name, mark, rest = f"/{path.removeprefix('repositories/')}".partition("/_")
    return name[1:], f"_{rest}" if mark else ""


def encodable(text: str) -> str:
    """Return a name as text that can be written: a file may have any name, and not every one is text.

    Example:
        >>> encodable("caf" + chr(0xDCE9))
        'caf?'
    """
    return text.encode("utf-8", "replace").decode()


def is_repository(name: str) -> bool:
    """Whether a repository may have this name.

    Example:
        >>> is_repository("team/app"), is_repository("Team")
        (True, False)
    """
    try:
        return bool(check_repository(name))
    except InvalidReference:
        return False

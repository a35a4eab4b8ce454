"""References and digests: the grammar of names, as Docker and the OCI distribution spec 1.1 write it."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from regnb.errors import InvalidReference

REPOSITORY_LIMIT = 255
"""Characters that a repository name may have: more is a 500 on distribution 2.8."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TARGET = re.compile(r"(:[^:@/]*)?(@[^@/]*)?$")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?(?:/[\w.~-]+)*")
HUB: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
"""Docker Hub's names. Only the last one is a registry's address; the first is what images are called by."""


class Digest(str):
    """The digest of some bytes: ``sha256:`` or ``sha512:`` and lower-case hexadecimal (OCI image spec, "Digests").

    A digest *is* a string, so it goes into DataFrames, URLs and JSON as it is.

    Raises:
        InvalidReference: The text is not such a digest.

    Example:
        >>> Digest.of(b"{}").short
        'sha256:44136fa355b3'
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:  # noqa: D102 -- the class says it
        if type(text) is cls:
            return text
        if not _DIGEST.fullmatch(text):
            raise InvalidReference(
                f"not a digest: {text[:200]!r}",
                hint="write sha256: and 64, or sha512: and 128, lower-case hexadecimal digits",
            )
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """Return the digest of ``data``."""
        if algorithm == "sha256":
            return str.__new__(cls, f"sha256:{hashlib.sha256(data).hexdigest()}")  # what nearly every digest is
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """``sha256`` or ``sha512``."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The hexadecimal part."""
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The algorithm and the first 12 hexadecimal digits: for people, never for a request."""
        return f"{self.algorithm}:{self.hex[:12]}"


def is_digest(text: str) -> bool:
    """Whether ``text`` is a digest that regnb can verify.

    Example:
        >>> is_digest("latest")
        False
    """
    return _DIGEST.fullmatch(text) is not None


@lru_cache(maxsize=4096)  # every request, and every row of a plan, is checked
def check_repository(text: str) -> str:
    """Return ``text`` if it is a repository name (distribution spec 1.1, "Pulling manifests").

    Raises:
        InvalidReference: It is not, or it is longer than 255 characters.

    Example:
        >>> check_repository("vm/centos8")
        'vm/centos8'
    """
    if len(text) > REPOSITORY_LIMIT:
        raise InvalidReference(
            f"the repository name has {len(text)} characters: {text[:60]!r}…",
            hint=f"at most {REPOSITORY_LIMIT} are allowed",
        )
    if not _REPOSITORY.fullmatch(text):
        hint = "use lower-case letters, digits, and single . _ - between them, in parts separated by /"
        repository = _TARGET.sub("", text)
        if repository != text and _REPOSITORY.fullmatch(repository):
            hint = f"name the repository without the tag or digest: {repository}"
        raise InvalidReference(f"not a repository name: {text!r}", hint=hint)
    return text


def check_tag(text: str) -> str:
    """Return ``text`` if it is a tag (distribution spec 1.1, "Pulling manifests").

    Raises:
        InvalidReference: It is not.

    Example:
        >>> check_tag("8.4-slim")
        '8.4-slim'
    """
    if not _TAG.fullmatch(text):
        raise InvalidReference(
            f"not a tag: {text[:200]!r}",
            hint="use up to 128 letters, digits, _ . and -, not beginning with . or -",
        )
    return text


def is_tag(text: str) -> bool:
    """Whether ``text`` is a tag.

    Example:
        >>> is_tag("8.4-slim"), is_tag("sha256:0")
        (True, False)
    """
    return bool(_TAG.fullmatch(text))


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a manifest is: ``[registry/]repository[:tag][@digest]``.

    Attributes:
        repository: Such as ``vm/centos8``.
        tag: Or None.
        digest: Or None; it wins over the tag, as it does for every client.
        registry: ``host[:port]`` and its path if it has one, or None where the registry is known.

    Raises:
        InvalidReference: A part that the grammar forbids.

    Example:
        >>> Reference.parse("localhost:5000/vm/centos8:latest").repository
        'vm/centos8'
    """

    repository: str
    tag: str | None = None
    digest: Digest | None = None
    registry: str | None = None

    def __post_init__(self) -> None:
        check_repository(self.repository)
        if self.tag is not None:
            check_tag(self.tag)
        if self.digest is not None and not isinstance(self.digest, Digest):
            object.__setattr__(self, "digest", Digest(self.digest))
        if self.registry is not None and not _HOST.fullmatch(self.registry):
            raise InvalidReference(f"not a registry's host: {self.registry!r}", hint="write host or host:port")

    @classmethod
    def parse(cls, text: str, *, registry: str | None = None) -> Self:
        """Read a reference.

        Args:
            text: What a person wrote. Its first part is a host, as for Docker, if it holds a dot or a colon, or is
                ``localhost`` or upper-case.
            registry: The ``host[:port]`` of the registry that is meant, and its path if it has one. Then a first part
                with a dot is a host only if it is this one: ``a.b/c`` is a lawful repository. On Docker Hub ``nginx``
                is ``library/nginx``.

        Raises:
            InvalidReference: The text is not a reference.
        """
        if not text:
            raise InvalidReference("the reference is empty", hint="write repository:tag or repository@digest")
        rest, at, digest = text.partition("@")
        host: str | None = None
        first, slash, path = rest.partition("/")
        if slash:
            if (registry is None and names_host(first)) or first == registry or (first in HUB and registry in HUB):
                host, rest = first if registry is None else registry, path
            elif registry is not None and rest.startswith(f"{registry}/"):
                host, rest = registry, rest.removeprefix(f"{registry}/")
        repository, colon, tag = rest.partition(":")
        if registry in HUB or (registry is None and host in HUB):
            repository = on_hub(repository)
        if at and not digest:
            raise InvalidReference(f"no digest after the @: {text!r}", hint="write repository@sha256:…")
        if colon and not tag:
            raise InvalidReference(f"no tag after the colon: {text!r}", hint="write repository:tag")
        return cls(repository, tag or None, Digest(digest) if at else None, host)

    @property
    def target(self) -> str:
        """What a manifest request names: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        host = f"{self.registry}/" if self.registry else ""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{host}{self.repository}{tag}{digest}"


def on_hub(repository: str) -> str:
    """Return the whole name of a repository of Docker Hub, where the official ones are called without ``library``.

    Example:
        >>> on_hub("nginx"), on_hub("team/app")
        ('library/nginx', 'team/app')
    """
    return repository if "/" in repository or not repository else f"library/{repository}"


def names_host(first: str) -> bool:
    """Whether Docker takes the first part of a reference for a host: it has a dot, a colon or an upper-case letter.

    Example:
        >>> names_host("localhost"), names_host("r.example"), names_host("vm")
        (True, True, False)
    """
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def select(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match one of the globs, in order, each once.

    Example:
        >>> select(["vm/centos8", "apps/web"], ["vm/*"])
        ['vm/centos8']
    """
    wanted = [re.compile(fnmatch.translate(pattern)) for pattern in patterns]
    return [name for name in dict.fromkeys(names) if any(pattern.match(name) for pattern in wanted)]


def is_glob(text: str) -> bool:
    """Whether a name holds a wildcard.

    Example:
        >>> is_glob("vm/*")
        True
    """
    return any(sign in text for sign in "*?[")

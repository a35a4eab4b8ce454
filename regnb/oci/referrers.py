"""Tags that name what they refer to: the distribution spec's fallback, and cosign's."""

from __future__ import annotations

import re

_REFERRER_TAG = re.compile(r"(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})(?:\.(?:sig|att|sbom))?")


def subject_of_tag(tag: str) -> str:
    """Return the digest that a referrer's tag names, or "".

    The tag schema is the distribution spec 1.1's fallback, or cosign's with ``.sig``, ``.att`` or ``.sbom``.

    Example:
        >>> subject_of_tag("latest")
        ''
    """
    match = _REFERRER_TAG.fullmatch(tag)
    return match[1].replace("-", ":", 1) if match else ""


def referrers_tag(subject: str) -> str:
    """Return the tag that lists a manifest's referrers where a registry has no list itself ("Referrers Tag Schema").

    Example:
        >>> referrers_tag("sha256:" + "0" * 64)[:14]
        'sha256-0000000'
    """
    algorithm, _, digits = subject.partition(":")
    return f"{algorithm}-{digits[:64]}"  # the schema cuts the digest off there

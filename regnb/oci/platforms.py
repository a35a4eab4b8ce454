"""Platforms as people write them, and which image is for which."""

from __future__ import annotations

from regnb.errors import InvalidArgument
from regnb.oci.manifest import Platform


def parse_platform(text: str) -> Platform:
    """Read ``os/architecture[/variant][:version][+feature…]``.

    Raises:
        InvalidArgument: It is none.

    Example:
        >>> parse_platform("linux/arm/v7").variant
        'v7'
    """
    names, _, rest = text.partition(":")
    version, *features = rest.split("+") if rest else names.split("+")
    if not rest:
        names, version = version, ""
    words = names.split("/")
    if len(words) not in (2, 3) or not all((*words, *features)):
        hint = "write os/architecture, such as linux/arm64 or linux/arm/v7; a version as in windows/amd64:10.0.20348"
        raise InvalidArgument(f"not a platform: {text!r}", hint=hint)
    return Platform(words[1], words[0], words[2] if len(words) > 2 else "", version, features)  # noqa: PLR2004


def _key(platform: Platform) -> tuple[str, str, str]:
    """What makes two platforms one: each architecture has a variant that goes without saying."""
    architecture = platform.architecture or ""
    silent = {"arm64": "v8", "arm": "v7", "amd64": "v1"}.get(architecture, "")
    return platform.os or "", architecture, platform.variant or silent


def fits(platform: Platform, wanted: Platform) -> bool:
    """Whether an image is for a platform: of a version the beginning is enough, as 10.0.17763 of 10.0.17763.1.

    Example:
        >>> fits(Platform("arm64", "linux", "v8"), parse_platform("linux/arm64"))
        True
    """
    version = f"{platform.os_version or ''}."
    return (
        _key(platform) == _key(wanted)
        and wanted.features <= platform.features
        and (not wanted.os_version or version.startswith(f"{wanted.os_version}."))
    )

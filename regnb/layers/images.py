"""The images behind a reference: one, or those of the platforms of an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from regnb.errors import InvalidArgument
from regnb.oci.manifest import Descriptor, ImageConfig, Manifest, Platform
from regnb.oci.platforms import fits, parse_platform
from regnb.oci.reference import Reference

ALL: Final = "all"
"""Names every platform."""
USUAL: Final = "linux/amd64"
"""The platform that is meant of several, where none is named."""


class Part(NamedTuple):
    """One image, of one platform.

    Attributes:
        platform: ``os/architecture[/variant]``; empty if its config does not say.
        manifest: Its manifest.
        config: Its config; an empty one where it has none.
    """

    platform: str
    manifest: Manifest
    config: ImageConfig

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """Its layers, the base first."""
        return self.manifest.layers

    @property
    def commands(self) -> list[str]:
        """The command that made each layer."""
        return self.config.commands(len(self.layers))


def chosen(found: Sequence[Part], where: Reference, platform: str | None) -> list[Part]:
    """Return the images for a platform.

    Args:
        found: Those behind the reference.
        where: The reference, for what is said.
        platform: Such as ``linux/arm64``, or ``all``. None: the only image, and of several that for linux/amd64.

    Raises:
        InvalidArgument: There is none for it.
    """
    if platform == ALL or (platform is None and len(found) <= 1):
        return [*found]
    wanted = parse_platform(platform or USUAL)
    fitting = [image for image in found if fits(_platform(image), wanted)]
    if not fitting:
        names = ", ".join(dict.fromkeys(image.platform or "an unknown platform" for image in found))
        raise InvalidArgument(
            f"{where} has no image for {wanted.whole}; it has {names or 'no image'}",
            hint=f"name one of them as the platform, or {ALL}",
        )
    return fitting


def _platform(image: Part) -> Platform:
    config = image.config
    return Platform(config.architecture, config.os, config.variant)

"""What looks into the layers of images, for questions over many of them: a handle on a registry does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from regnb.layers.inside import Looked
    from regnb.session import Show
    from regnb.tables.frame import Frame


class Looks(Protocol):
    """A handle on a registry, or on what answers as one."""

    def look(
        self,
        reference: str,
        platform: str = "",
        *,
        whole: bool = False,
        at_most: float | str = "",
        progress: Show = None,
    ) -> Looked:
        """Look into the layers of an image, and return what was read."""

    def hygiene(
        self, reference: str, *, platform: str | None = None, at_most: float | str = "", progress: Show = None
    ) -> Frame:
        """Return what should not be in an image."""

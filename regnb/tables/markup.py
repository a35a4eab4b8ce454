"""Tables as HTML: the one place that writes them, whatever shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from regnb.text import printable

if TYPE_CHECKING:
    from jinja2 import Template

_TABLE: Final = Path(__file__).with_name("table.html")


class Cell(NamedTuple):
    """A cell; its texts are foreign and are escaped.

    Attributes:
        title: The tooltip, or "".
        kind: The class, or "".
        scope: ``col`` or ``row`` for a heading, "" for data.
        style: CSS of the cell alone.
    """

    text: str
    title: str = ""
    kind: str = ""
    scope: str = ""
    style: str = ""

    @property
    def tag(self) -> str:
        """The element: a heading without a text, as over the numbers of the rows, would be one of nothing."""
        return "th" if self.scope == "row" or (self.scope and self.text.strip()) else "td"


@cache
def _template(path: Path) -> Template:
    from jinja2 import Environment, StrictUndefined  # only where HTML is shown

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    return environment.from_string(path.read_text(encoding="utf-8"))


def render(template: Path, **values: object) -> str:
    """Fill in a template of ours; every value is escaped unless it is Markup.

    Example:
        >>> render(_TABLE, caption="", kind="", head=(), body=(), foot=())[:4]
        '<div'
    """
    return _template(template).render(values)


def table(
    head: Sequence[Cell],
    body: Iterable[Sequence[Cell]],
    foot: Iterable[Sequence[Cell]] = (),
    *,
    caption: str = "",
    kind: str = "",
) -> str:
    """Return a table that scrolls sideways instead of widening its page.

    Args:
        head: The cells of the first row, or none.
        body: The rows.
        foot: Rows of sums.
        caption: What it is a table of; it also names the region for a screen reader.
        kind: The class of the table.

    Example:
        >>> "<td>&lt;b&gt;</td>" in table([Cell("tag", scope="col")], [[Cell("<b>")]])
        True
    """
    made = [list(map(_printable, row)) for row in body]
    return render(
        _TABLE,
        head=list(map(_printable, head)),
        body=made,
        foot=[list(map(_printable, row)) for row in foot],
        caption=printable(caption),
        kind=kind,
    )


def _printable(cell: Cell) -> Cell:
    return cell._replace(text=printable(cell.text), title=printable(cell.title))

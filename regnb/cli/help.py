"""How the help of commands is written: placeholders are words of the field, and 80 columns are enough."""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

from typer.core import TyperArgument, TyperCommand, TyperGroup

Click: TypeAlias = Any
"""What typer's own click has: a parameter, a context. It is not exported."""


def placeholder(parameter: Click) -> str:
    """Return what stands for the value of an argument or option in the help; "" for an option that has none."""
    kind = parameter.type_descriptor
    if isinstance(parameter, TyperArgument):
        return str(parameter.name).upper()
    if parameter.is_flag or parameter.count:
        return ""
    if kind.is_path:
        return "DIR" if kind.parameter_info.dir_okay else "FILE"
    if kind.annotation in (int, float):
        return "N"
    return str(parameter.opts[0]).rpartition("-")[2].upper()  # of --registry-image, IMAGE: a narrow column


def _name(parameters: list[Click]) -> None:
    for each in parameters:
        if each.metavar is None:
            each.metavar = placeholder(each)
        if isinstance(each, TyperArgument):
            # Of an argument the name is the placeholder, and typer shows the type beside it.
            each.display_type_rich = lambda ctx: None  # type: ignore[method-assign] # noqa: ARG005


def _paragraphs(text: str) -> str:
    """Join the lines of each paragraph: a terminal breaks lines where it ends, not where a docstring did."""
    return "\n\n".join(" ".join(each.split()) for each in text.split("\n\n"))


def _shown(parameter: Click) -> Click:
    """Return a parameter as the help shows it: a pair of flags as one word, as git does."""
    if not parameter.secondary_opts:
        return parameter
    shown = copy.copy(parameter)
    shown.opts, shown.secondary_opts = [f"--[no-]{each.removeprefix('--')}" for each in parameter.opts], []
    shown.help, shown.show_default = f"{parameter.help} Default: {'yes' if parameter.default else 'no'}.", False
    return shown


class Command(TyperCommand):
    """A command whose help names no types and wastes no columns."""

    def format_help(self, ctx: Click, formatter: Click) -> None:
        """Write the help of this command."""
        shown = copy.copy(self)
        shown.help = _paragraphs(self.help or "")
        shown.params = [_shown(each) for each in self.params]
        super(Command, shown).format_help(ctx, formatter)

    def get_params(self, ctx: Click) -> list[Click]:
        """Return the parameters, --help among them."""
        found = super().get_params(ctx)
        _name(found)
        return found


class Group(TyperGroup):
    """A group of commands whose help names no types."""

    def get_params(self, ctx: Click) -> list[Click]:
        """Return the parameters, --help among them."""
        found = super().get_params(ctx)
        _name(found)
        return found

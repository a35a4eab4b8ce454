"""How the help of commands is written: placeholders are words of the field, not types of Python."""

from __future__ import annotations

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
    return "N" if kind.annotation in (int, float) else str(parameter.opts[0]).lstrip("-").upper()


def _name(parameters: list[Click]) -> None:
    for each in parameters:
        if each.metavar is None:
            each.metavar = placeholder(each)
        if isinstance(each, TyperArgument):
            # Of an argument the name is the placeholder, and typer shows the type beside it.
            each.display_type_rich = lambda ctx: None  # type: ignore[method-assign] # noqa: ARG005


class Command(TyperCommand):
    """A command whose help names no types."""

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

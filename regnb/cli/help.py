"""How the help of commands is written: placeholders are words of the field, and 80 columns are enough."""

from __future__ import annotations

import copy
import os
from functools import partial
from pathlib import Path
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


class _Plain:
    """Takes a value as it was typed where nothing else is asked of it.

    Of every other one typer makes what is asked, or an error. It has pydantic for that, which takes longer to load than
    many a command to run.

    Args:
        parameter: Whose values these are.
    """

    def __init__(self, parameter: Click) -> None:
        self._typer = parameter.get_runtime_param

    def coerce(self, value: object, param: Click, ctx: Click) -> object:
        """Return a value as the command gets it."""
        kind, info = param.type_descriptor.annotation, param.type_descriptor.parameter_info
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if info.parser is None:
            if kind is str and isinstance(value, str):
                return value
            if kind == list[str] and isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
                return list(value)
            if kind is type(value) and kind in (int, float) and value == param.default:
                return value
            if kind is Path and isinstance(value, str) and _is_usual(value, info):
                return Path(value)
        return self._typer().coerce(value, param=param, ctx=ctx)


def _is_usual(path: str, info: Click) -> bool:
    """Whether a path is fit for a parameter, and is to stay as it was typed."""
    if info.resolve_path or info.allow_dash or info.path_type or info.writable or not info.file_okay:
        return False
    if not os.path.lexists(path):
        return not info.exists
    return os.path.isfile(path) and os.access(path, os.R_OK)  # noqa: PTH113 -- a text


def _name(parameters: list[Click]) -> None:
    for each in parameters:
        if not isinstance(getattr(each, "plain", None), _Plain):
            each.plain = _Plain(each)
            each.get_runtime_param = lambda plain=each.plain: plain
        if each.metavar is None:
            each.metavar = placeholder(each)
        is_argument = isinstance(each, TyperArgument)
        if is_argument:
            # Of an argument the name is the placeholder, and typer shows the type beside it, and braces around it.
            each.display_type_rich = lambda ctx: None  # noqa: ARG005 -- as it is called
            each._usage_display_name = partial(_in_usage, each)  # noqa: SLF001 -- typer offers nothing else


def _in_usage(argument: Click) -> str:
    """Return an argument as the line of usage shows it: one that can be left out in brackets."""
    name = placeholder(argument) if argument.metavar is None else argument.metavar
    return f"{name if argument.required else f'[{name}]'}{'...' if argument.nargs != 1 else ''}"


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

"""How a function becomes a command: what several commands need is handed to it by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer
from typer import Option
from typer.core import TyperArgument

from regnb.cli.alarm import alarm
from regnb.cli.help import Click, Command
from regnb.cli.options import Url, is_registry
from regnb.cli.plans import present
from regnb.cli.terminal import (
    INTERRUPTED,
    CaBundle,
    ClientCert,
    Insecure,
    User,
    form,
    heed,
    login,
    report_error,
)
from regnb.crawl.naming import OPTION
from regnb.environment import environment, variable
from regnb.errors import Interrupted, InvalidArgument, RegnbError

if TYPE_CHECKING:
    from regnb.registry import Registry

_LAZY: Final = {"Registry": object, "Plan": object, "Answer": object, "Storage": object}
"""Types that annotations name and that are not loaded for it: what reads files loads no HTTP."""


def connect(url: str, **given: Any) -> AbstractContextManager[Registry]:  # noqa: ANN401 -- as there
    """Connect to a registry, as :func:`regnb.registry.connect`."""
    from regnb import registry  # what reads files loads no HTTP

    return registry.connect(url, **given)


def reached(
    use: Callable[..., object],
    url: str,
    *,
    user: User = "",
    ca_bundle: CaBundle = None,
    client_cert: ClientCert = None,
    insecure: Insecure = False,
) -> object:
    """Hand the registry that the command is about, with how to reach it, to what uses it."""
    known = login(user, "REGNB_PASSWORD", "Password")
    return use(url, **known, ca_bundle=ca_bundle, client_cert=client_cert, insecure=insecure)


def sourced(
    url: str,
    *,
    from_user: Annotated[
        str,
        Option(
            metavar="NAME", help="User name at the source; the password is read from REGNB_SOURCE_PASSWORD or a prompt."
        ),
    ] = "",
    from_ca_bundle: Annotated[
        Path | None, Option(help="Trust the certificates in this file at the source.", dir_okay=False)
    ] = None,
    from_insecure: Annotated[bool, Option("--from-insecure", help="Accept any certificate at the source.")] = False,
) -> AbstractContextManager[Registry | None]:
    """Connect to the registry that a copy reads from, if it is another one."""
    if not url:
        return nullcontext()
    known = login(from_user, "REGNB_SOURCE_PASSWORD", "Password at the source")
    return connect(url, **known, ca_bundle=from_ca_bundle, insecure=from_insecure)


class _Command(Command):
    """A command whose registry may be left out where the environment names one."""

    def parse_args(self, ctx: Click, args: list[str]) -> list[str]:
        """Read the words of a command line; if the first argument is left out, REGNB_URL is inserted for it."""
        arguments = [each for each in self.params if isinstance(each, TyperArgument)]
        known = variable("REGNB_URL")
        if known and arguments and arguments[0].envvar == "REGNB_URL":
            values, extra, _ = self.make_parser(ctx).parse_args(args=list(args))
            words = [values.get(str(each.name)) for each in arguments]
            flat = [word for each in words for word in (each if isinstance(each, tuple) else (each,)) if word]
            plain = arguments[0].name == "url" and bool(flat) and is_registry(flat[0], known)
            # While a word is completed, the words that follow it are not there yet.
            if not (extra or plain) and (ctx.resilient_parsing or _left_out(flat, arguments[1:])):
                args = [known, *args]
        return super().parse_args(ctx, args)


def _left_out(words: Sequence[str], rest: Sequence[Click]) -> bool:
    """Whether these arguments of a command line do not begin with a registry.

    Args:
        words: The arguments.
        rest: The parameters that follow the registry.

    Raises:
        InvalidArgument: The first word may be a registry or a tag.
    """
    many = any(each.nargs < 0 for each in rest)
    if not words or (len(words) != len(rest) and not many):
        return False
    if len(words) > len(rest) and "/" not in words[0] and "@" not in words[0]:
        name = words[0]
        raise InvalidArgument(
            f"{name} can mean a registry or a tag, because REGNB_URL names a registry too",
            hint=f"write http://{name} or https://{name} for a registry; for a tag, write the registry's URL before it",
        )
    return True


_SHARED: Final[dict[str, Callable[..., Any]]] = {
    "present": present,
    "alarm": alarm,
    "sourced": sourced,
    "connected": functools.partial(reached, connect),
    "surrounded": functools.partial(reached, environment),
}


Connected: TypeAlias = "Callable[[str], AbstractContextManager[Registry]]"


Surrounded: TypeAlias = Callable[[str], dict[str, str]]


Sourced: TypeAlias = "Callable[[str], AbstractContextManager[Registry | None]]"


Present: TypeAlias = Callable[..., None]


"""What shows a plan, with its options bound: of a registry, a plan, and what a copy reads from."""


def _options(helper: Callable[..., object]) -> list[inspect.Parameter]:
    found = inspect.signature(helper, eval_str=True, locals=_LAZY).parameters.values()
    return [each for each in found if each.kind == each.KEYWORD_ONLY]


def command_of(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return what makes a command of this app of a function; its name is the function's unless one is given."""
    return functools.partial(_command, app, name)


def _command(app: typer.Typer, name: str | None, work: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function: what several commands need is handed to it by name, and its options come along.

    ``registry`` is the one at the URL, which becomes the first argument; the other names are those of _SHARED.
    ``json_`` gets the form of the output: --json and --csv choose it. Every command has the options of :func:`heed`.
    """
    own = dict(inspect.signature(work, eval_str=True, locals=_LAZY).parameters)
    at_url = own.pop("registry", None) is not None
    shared = {
        name: _options(helper)
        for name, helper in _SHARED.items()
        if own.pop(name, None) or (at_url and name == "connected")
    }

    @functools.wraps(work)
    def run(**given: Any) -> None:  # noqa: ANN401 -- what the signature below says
        heed(**{each.name: given.pop(each.name) for each in everywhere})
        if formed:
            given["json_"] = form(given["json_"], csv=given.pop("csv"))
        bound = {
            name: functools.partial(_SHARED[name], **{each.name: given.pop(each.name) for each in options})
            for name, options in shared.items()
        }
        try:
            if not at_url:
                return work(**bound, **given)
            with bound.pop("connected")(given.pop("url")) as registry:
                return work(registry, **bound, **given)
        except Interrupted as error:
            report_error(error, INTERRUPTED)
            raise typer.Exit(INTERRUPTED) from None
        except RegnbError as error:
            if "repositories" in own or f" ({OPTION})" not in error.hint:
                raise
            raise error.saying(error.message, hint=error.hint.replace(f" ({OPTION})", "")) from None

    url = inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, annotation=Url)
    named = [each.replace(kind=each.KEYWORD_ONLY) for each in own.values()]
    parameters = [*([url] if at_url else []), *named, *(each for options in shared.values() for each in options)]
    everywhere = _options(heed)
    formed = next((each for each in parameters if each.name == "json_"), None)
    if formed:
        at = parameters.index(formed)
        option = Annotated[(bool, *formed.annotation.__metadata__)]
        parameters[at : at + 1] = [formed.replace(annotation=option, default=False), *_options(form)]
    parameters += everywhere
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return app.command(name, cls=_Command)(run)

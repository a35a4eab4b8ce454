"""How a function becomes a command: what several commands need is handed to it by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer
from typer import Option

from regnb.cli.options import Url
from regnb.cli.plans import present
from regnb.cli.terminal import (
    INTERRUPTED,
    CaBundle,
    ClientCert,
    Insecure,
    User,
    login,
    say,
)
from regnb.environment import environment
from regnb.errors import Interrupted

if TYPE_CHECKING:
    from regnb.registry import Registry

_LAZY: Final = {"Registry": object, "Answer": object, "Storage": object}
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
        str, Option(help="User name at the source; the password is read from REGNB_SOURCE_PASSWORD or a prompt.")
    ] = "",
    from_ca_bundle: Annotated[Path | None, Option(help="Certificates to trust at the source.", dir_okay=False)] = None,
    from_insecure: Annotated[bool, Option("--from-insecure", help="Accept any certificate there.")] = False,
) -> AbstractContextManager[Registry | None]:
    """Connect to the registry that a copy reads from, if it is another one."""
    if not url:
        return nullcontext()
    known = login(from_user, "REGNB_SOURCE_PASSWORD", "Password at the source")
    return connect(url, **known, ca_bundle=from_ca_bundle, insecure=from_insecure)


_SHARED: Final[dict[str, Callable[..., Any]]] = {
    "present": present,
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


def command_of(app: typer.Typer) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return what makes a command of this app of a function."""
    return functools.partial(_command, app)


def _command(app: typer.Typer, work: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function: what several commands need is handed to it by name, and its options come along.

    ``registry`` is the one at the URL, which becomes the first argument; the other names are those of _SHARED.
    """
    own = dict(inspect.signature(work, eval_str=True, locals=_LAZY).parameters)
    at_url = own.pop("registry", None) is not None
    shared = {
        name: _options(helper)
        for name, helper in _SHARED.items()
        if own.pop(name, None) or (at_url and name == "connected")
    }

    @functools.wraps(work)
    def run(**given: object) -> None:
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
            say(str(error))
            if error.receipt:
                say(f"To go on: regnb apply --resume {error.receipt}")
            raise typer.Exit(INTERRUPTED) from None

    url = inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, annotation=Url)
    named = [each.replace(kind=each.KEYWORD_ONLY) for each in own.values()]
    parameters = [*([url] if at_url else []), *named, *(each for options in shared.values() for each in options)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return app.command()(run)

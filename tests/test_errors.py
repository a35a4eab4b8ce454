"""The errors."""

from __future__ import annotations

import ast
import builtins
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from traitlets.config import Config

from regnb import errors
from regnb.errors import (
    ConnectionFailed,
    Interrupted,
    InvalidArgument,
    InvalidReference,
    MalformedManifest,
    MissingExtra,
    RegistryError,
    RegnbError,
)


def drawn() -> dict[str, str]:
    """Class to parent, as the module's docstring draws them."""
    assert errors.__doc__
    found: dict[str, str] = {}
    above: list[str] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"([│├└─ ]*)([A-Z]\w+)(?: {2}|$)", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        above[depth:] = [match[2]]
        if not hasattr(builtins, match[2]):
            found[match[2]] = above[depth - 1] if depth else "Exception"
    return found


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    """Every class stands in the docstring's tree under its parent, and nothing else does."""
    classes = {
        name: kind.__bases__[0].__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__
    }
    assert len(classes) > 15
    assert drawn() == classes


def test_every_error_says_what_it_is() -> None:
    """Every class has a docstring of its own and is a RegnbError."""
    for name in drawn():
        kind = getattr(errors, name)
        assert issubclass(kind, RegnbError | Interrupted)
        assert kind.__dict__["__doc__"], name


def test_ipython_shows_one_line_or_two() -> None:
    """A notebook shows the message, and the hint if there is one, and no traceback."""
    assert RegnbError("no such folder")._render_traceback_() == ["RegnbError: no such folder"]
    assert InvalidReference("not a tag", hint="write one")._render_traceback_() == [
        "InvalidReference: not a tag",
        "Hint: write one",
    ]


def test_ipython_itself_uses_these_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """IPython's own display of an exception is these lines and nothing more."""
    shells = pytest.importorskip("IPython.core.interactiveshell")
    shell = shells.InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    try:
        raise InvalidArgument("the port is no number", hint="write host:5000")
    except InvalidArgument:
        shell.showtraceback()
    printed = capsys.readouterr()
    assert (printed.out + printed.err).strip().splitlines() == [
        "InvalidArgument: the port is no number",
        "Hint: write host:5000",
    ]


def test_errors_are_what_python_expects_too() -> None:
    """A bad name is a ValueError and a missing library an ImportError, so that plain Python code catches them."""
    assert issubclass(InvalidReference, ValueError)
    assert issubclass(InvalidArgument, ValueError)
    assert issubclass(MissingExtra, ImportError)
    error = MissingExtra("plotly", "lab")
    assert "pip install 'regnb[lab]'" in str(error)


def test_a_registry_error_carries_the_answer() -> None:
    """Status, codes, method and URL of an answer are attributes."""
    error = ConnectionFailed("refused", hint="start it", status=503, codes=["A"], method="GET", url="http://h/v2/")
    assert isinstance(error, RegistryError)
    assert (error.status, error.codes, error.method, error.url) == (503, ("A",), "GET", "http://h/v2/")
    assert str(error) == "refused; start it"


@pytest.mark.parametrize("name", [name for name in drawn() if name not in ("Interrupted", "MissingExtra")])
def test_an_error_survives_pickling_and_other_words(name: str) -> None:
    """Pickled, an error says the same and is of the same class; said otherwise it keeps its class and its facts."""
    kind = getattr(errors, name)
    facts = {"status": 404, "codes": ("NAME_UNKNOWN",), "method": "GET", "url": "http://h/v2/"}
    error = kind("what happened", hint="what to do", **(facts if issubclass(kind, RegistryError) else {}))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    other = error.saying("in other words")
    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))
    assert (type(other), other.message, other.hint) == (kind, "in other words", other.advice)
    assert {**vars(other), "message": "", "hint": ""} == {**vars(error), "message": "", "hint": ""}
    assert str(error) == "what happened; what to do"


def test_a_missing_extra_survives_pickling() -> None:
    """An error whose class takes other arguments than it keeps can be sent between processes, too."""
    again = pickle.loads(pickle.dumps(MissingExtra("plotly", "lab")))  # noqa: S301 -- our own bytes
    assert isinstance(again, ImportError)
    assert (again.message, again.hint) == ("plotly is not installed", "pip install 'regnb[lab]'")


def unadvised(module: Path) -> Iterator[str]:
    """Give each error that a module makes without a hint, although its kind has no advice of its own."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        kind = getattr(errors, name, None)
        if not (inspect.isclass(kind) and issubclass(kind, RegnbError)) or kind is MissingExtra or kind.advice:
            continue
        if "hint" not in {keyword.arg for keyword in node.keywords}:
            yield f"{module.parent.name}/{module.name}:{node.lineno}: {name}"


def test_every_error_says_what_to_do_next() -> None:
    """Wherever an error is made it or its kind has a hint; what only checks values is given one by its caller."""
    package = Path(inspect.getfile(errors)).parent
    wrapped = {package / "change" / "plan.py", package / "change" / "sweep.py"}  # their decoders give the hint
    assert not [text for module in package.rglob("*.py") if module not in wrapped for text in unadvised(module)]
    assert not [name for name in drawn() if getattr(getattr(errors, name), "advice", "").endswith(".")]


def test_a_hint_of_its_own_stands_before_that_of_its_kind() -> None:
    """An error without a hint takes its kind's, also when it is said in other words; a given one is kept."""
    plain = MalformedManifest("the manifest is malformed")
    assert plain.hint == plain.saying("app:1 is malformed").hint == MalformedManifest.advice
    assert MalformedManifest("it", hint="delete it").hint == "delete it"

"""The packaged notebooks as runbooks: what each answers, its parameters, and how it runs without JupyterLab."""

from __future__ import annotations

import ast
import asyncio
import difflib
import importlib
import json
import re
import signal
import subprocess
import warnings
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import Any, Final, NamedTuple

from regnb import errors
from regnb.analysis.inventory import MIME
from regnb.crawl.files import file_errors
from regnb.environment import KERNEL, LOGIN, environment
from regnb.errors import InvalidArgument, MissingExtra, RegnbError
from regnb.tables.write import make_folder

_WORDS: Final = {"true": True, "yes": True, "false": False, "no": False}
_CREDENTIALS: Final = re.compile(r"://[^/\s@:]*:(?!\d+/)[^\s@]*@")
_ARGUMENTS: Final = ["--log-level=ERROR"]
"""Of the kernel, which warns about other users of the machine whenever it starts."""


class Runbook(NamedTuple):
    """A packaged notebook.

    Attributes:
        name: Such as ``02-storage``.
        path: The file.
        question: What it answers: its first heading.
        about: The paragraph below that, as plain text.
        parameters: The names in its cell of parameters, with their defaults. One that is computed, such as from the
            environment, is "".

    Example:
        >>> find("02-storage").question
        'What eats the disk, and what would a deletion free?'
    """

    name: str
    path: Path
    question: str
    about: str
    parameters: dict[str, object]


class Run(NamedTuple):
    """What became of a runbook that was run.

    Attributes:
        path: The record: the notebook with its parameters and outputs.
        error: What ended it before its last cell, if anything did.
        gaps: Registries and storages of which something could not be read.
        interrupted: Whether it was Ctrl-C that ended it.
    """

    path: Path
    error: RegnbError | None = None
    gaps: tuple[str, ...] = ()
    interrupted: bool = False


def notebooks() -> Path:
    """Return the folder of the packaged notebooks.

    Example:
        >>> (notebooks() / "00-start.ipynb").is_file()
        True
    """
    packaged = Path(__file__).parent
    # An editable install has no copy: there the notebooks are the clone's own.
    return packaged if any(packaged.glob("*.ipynb")) else packaged.parent.parent / "notebooks"


def runbooks() -> list[Runbook]:
    """Return the packaged notebooks, by name.

    Example:
        >>> runbooks()[0].name
        '00-start'
    """
    return [_read(path) for path in sorted(notebooks().glob("*.ipynb"))]


def find(name: str) -> Runbook:
    """Return the runbook of a name, or of a part of one that fits no other.

    Raises:
        InvalidArgument: There is none, or more than one.

    Example:
        >>> find("storage").name
        '02-storage'
    """
    known = runbooks()
    wanted = name.removesuffix(".ipynb")
    exact = [each for each in known if each.name == wanted]
    found = exact or [each for each in known if wanted and wanted.lower() in each.name]
    if len(found) != 1:
        what = f"{name!r} fits several runbooks" if found else f"there is no runbook {name!r}"
        raise InvalidArgument(what, hint=f"name one of: {', '.join(each.name for each in found or known)}")
    return found[0]


def _read(path: Path) -> Runbook:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    heading, _, rest = "".join(cells[0]["source"]).partition("\n")
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    source = "\n".join("".join(cell["source"]) for cell in tagged)
    return Runbook(
        path.stem, path, heading.removeprefix("# "), _plain(rest.strip().partition("\n\n")[0]), _parameters(source)
    )


def _plain(markdown: str) -> str:
    """Return a paragraph without its links and marks."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(markdown.split()))
    return re.sub(r"(\*\*|[*`])(.+?)\1", r"\2", text)


def _parameters(source: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            default: object = ""
            with suppress(ValueError):
                default = ast.literal_eval(node.value)
            found[node.targets[0].id] = default
    return found


def values(runbook: Runbook, given: Mapping[str, str]) -> dict[str, object]:
    """Return parameters that were given as text, as on a command line or in a URL, as what the notebook takes.

    Args:
        runbook: Whose parameters they are: the type of the default decides.
        given: By name. A list is JSON, or its texts with commas between; a truth value is true, false, yes or no.

    Raises:
        InvalidArgument: There is no such parameter, the text is not of its type, or it is a URL with credentials.

    Example:
        >>> values(find("02-storage"), {"keep": "3", "protect": "*:latest, prod/*"})
        {'keep': 3, 'protect': ['*:latest', 'prod/*']}
    """
    known = runbook.parameters
    for name, text in given.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            raise InvalidArgument(
                f"{runbook.name} has no parameter {name!r}",
                hint=(f"did you mean {close[0]}? " if close else "") + f"It has: {', '.join(known)}",
            )
        if _CREDENTIALS.search(text):
            raise InvalidArgument(f"the parameter {name} holds credentials", hint=LOGIN)
    return {name: _value(name, text, known[name]) for name, text in given.items()}


def _value(name: str, text: str, default: object) -> object:
    """Return a text as a value of the default's type."""
    try:
        text.encode()
        if isinstance(default, bool):
            return _WORDS[text.strip().lower()]
        if isinstance(default, int | float):
            return type(default)(text)
        if isinstance(default, list) and not text.lstrip().startswith("["):
            return [*filter(None, map(str.strip, text.split(",")))]
        if isinstance(default, list):
            found = json.loads(text)
            if not all(isinstance(each, str) for each in found):
                raise ValueError
            return found
    except (ValueError, KeyError, RecursionError):
        kind = {bool: "true or false", int: "a whole number", float: "a number", list: 'a list: a, b or ["a", "b"]'}
        hint = f"write {kind.get(type(default), 'text in UTF-8')}"
        raise InvalidArgument(f"the parameter {name} cannot be {text[:100]!r}", hint=hint) from None
    return text


def _library(name: str) -> Any:  # noqa: ANN401 -- a module
    """Import what only the extra has; these warn about their own dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            raise MissingExtra(name, "lab") from None


def filled(runbook: Runbook, values: Mapping[str, object]) -> Any:  # noqa: ANN401 -- nbformat's own node
    r"""Return the notebook with values for its parameters, in a cell below them, as papermill does it.

    Args:
        runbook: Which one.
        values: As :func:`values` returns them.

    Returns:
        An ``nbformat.NotebookNode``.

    Raises:
        MissingExtra: nbformat is not installed.

    Example:
        >>> filled(find("02-storage"), {"keep": 3}).cells[3].source
        '# Parameters\nkeep = 3'
    """
    notebook = _library("nbformat").read(runbook.path, as_version=4)
    if values:
        cell = _library("nbformat.v4").new_code_cell(
            "\n".join(["# Parameters", *(f"{name} = {value!r}" for name, value in values.items())]),
            metadata={"tags": ["injected-parameters"]},
        )
        place = next(at for at, each in enumerate(notebook.cells) if "parameters" in each.metadata.get("tags", []))
        notebook.cells.insert(place + 1, cell)
    return notebook


def run(
    name: str, given: Mapping[str, str], folder: str | Path = ".", *, surroundings: Mapping[str, str] | None = None
) -> Run:
    """Run a runbook in a kernel of its own, and keep the executed notebook as a record, whatever becomes of it.

    Args:
        name: As for :func:`find`.
        given: Parameters, as for :func:`values`.
        folder: Where the record is written: a new file each time, such as ``02-storage-20261125T031500Z.ipynb``.
        surroundings: The kernel's environment, as :func:`environment` returns it.

    Raises:
        InvalidArgument: There is no such runbook or parameter.
        StorageError: The folder cannot be written.
        MissingExtra: nbclient is not installed.

    Example:
        >>> run("20-growth", {"snapshots": "snapshots"}, "records").path.name
        '20-growth-...Z.ipynb'
    """
    runbook = find(name)
    notebook = filled(runbook, values(runbook, given))
    nbclient, write = _library("nbclient"), _library("nbformat").write
    path = _record(runbook, Path(folder))
    client = nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3", extra_arguments=_ARGUMENTS)
    # A kernel that a user has installed under this name may be another Python's, which lacks regnb.
    client.create_kernel_manager().kernel_spec_manager.kernel_dirs = []
    client.on_notebook_start = lambda **_: _interrupting(client)
    client.on_cell_executed = lambda **_: write(notebook, path)
    env = {**(environment() if surroundings is None else surroundings), **KERNEL}
    try:
        # What a cell prints is in the record. A kernel itself complains of ports that another one took first.
        asyncio.run(client.async_execute(env=env, stderr=subprocess.DEVNULL))
    except nbclient.exceptions.CellExecutionError:
        failed = next(output for output in _outputs(notebook) if output.output_type == "error")
        interrupted = failed.ename in {"Interrupted", "KeyboardInterrupt"}
        return Run(path, _error(failed, path), _gaps(notebook), interrupted)
    except RuntimeError:  # what nbclient raises of a kernel that ended, at its start or later
        ended = RegnbError("the kernel ended before the notebook did", hint="perhaps its memory was too small")
        return Run(path, ended, _gaps(notebook))
    finally:
        write(notebook, path)
    return Run(path, None, _gaps(notebook))


def _record(runbook: Runbook, folder: Path) -> Path:
    """Make the file of a record: one that was not there."""
    make_folder(folder)
    stem = f"{runbook.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for suffix in chain([""], map("-{}".format, count(2))):
        path = folder / f"{stem}{suffix}.ipynb"
        with file_errors(f"write {path}", "name another folder"), suppress(FileExistsError):
            path.touch(exist_ok=False)
            return path
    raise AssertionError


def _interrupting(client: Any) -> None:  # noqa: ANN401 -- nbclient's
    """Let Ctrl-C interrupt the cell, so that the record tells of it, and not kill the kernel."""
    with suppress(RuntimeError):  # outside the main thread there are no signals
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, lambda: loop.create_task(client.km.interrupt_kernel()))


def _outputs(notebook: Any) -> list[Any]:  # noqa: ANN401 -- nbformat's
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def _gaps(notebook: object) -> tuple[str, ...]:
    """Return what the inventories that were shown lack."""
    found = [each for output in _outputs(notebook) if (each := output.get("data", {}).get(MIME))]
    return tuple(dict.fromkeys(each["registry"] for each in found if not each["complete"]))


def _error(output: Any, path: Path) -> RegnbError:  # noqa: ANN401 -- nbformat's
    """Return what a cell raised: regnb's own error, or one that points to the traceback."""
    kind = getattr(errors, output.ename, None)
    if isinstance(kind, type) and issubclass(kind, RegnbError):
        return RegnbError.of_lines(output.traceback)
    return RegnbError(f"{output.ename}: {output.evalue}", hint=f"the traceback is in {path}")

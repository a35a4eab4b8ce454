"""What is public is documented, what is documented is true, and what is promised about the code is kept."""

from __future__ import annotations

import ast
import inspect
import io
import json
import pkgutil
import re
import string
import subprocess
import sys
import tokenize
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
import typer.main
from images import ROOT, surroundings
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import regnb
from regnb import cli
from regnb.change.policy import Policy
from regnb.environment import VARIABLES
from regnb.notebooks.runbook import runbooks
from regnb.tables.columns import COLUMNS

PACKAGE = ROOT / "regnb"
MODULES = sorted(each.name for each in pkgutil.walk_packages([str(PACKAGE)], "regnb."))
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
PAGES = sorted(ROOT.glob("docs/[!g]*/*.md")) + sorted(ROOT.glob("docs/*.md"))
DOCUMENTS = "\n".join([README, *(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/*.md")))])


def written() -> str:
    """README, other documents and the texts of the notebooks."""
    texts = [DOCUMENTS]
    for path in ROOT.glob("notebooks/*.ipynb"):
        texts += ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    return "\n".join(texts)


def public(kind: type) -> list[str]:
    return [name for name in vars(kind) if not name.startswith("_") and callable(getattr(kind, name))]


@pytest.mark.parametrize("name", regnb.__all__)
def test_every_export_is_documented(name: str) -> None:
    """What ``import regnb`` offers has a docstring of its own and is named in the README or a document."""
    export = getattr(regnb, name)
    assert inspect.getdoc(export), name
    assert export.__doc__, "a docstring of its own"
    assert name in written(), f"{name} is named in no document"


def test_all_is_what_there_is() -> None:
    """``__all__`` is sorted, without doubles, and names everything public that the package imports for users."""
    assert regnb.__all__ == sorted(set(regnb.__all__))
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))  # what type checkers read
    imported = {alias.name for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(regnb.__all__)
    assert all(getattr(regnb, name).__module__.startswith("regnb.") for name in imported)


@pytest.mark.parametrize("name", ["Registry", "Inventory", "Sharing", "Plan", "Receipt", "Reference", "Digest"])
def test_every_method_is_documented(name: str) -> None:
    """Each public method of a public class has a docstring."""
    kind = getattr(regnb, name)
    for method in public(kind):
        assert inspect.getdoc(getattr(kind, method)), f"{name}.{method}"


@pytest.mark.parametrize("name", ["Registry", "Inventory"])
def test_every_method_of_the_handle_is_shown(name: str) -> None:
    """Each call that a user makes appears in the README or in a notebook."""
    for method in public(getattr(regnb, name)):
        if method not in ("close", "of"):
            assert f".{method}" in written(), f"{name}.{method} is shown in no document"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name: str) -> None:
    """Each module begins with a docstring, and none is a drawer for odds and ends."""
    where = ROOT.joinpath(*name.split("."))
    path = where / "__init__.py" if where.is_dir() else where.with_suffix(".py")
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert where.name not in ("utils", "util", "helpers", "common", "misc", "tools")


def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Each command with its path. (Typer may bring a click of its own: a group is what has commands.)"""
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, command in group.commands.items():
        found.append(((*path, name), command))
        if hasattr(command, "commands"):
            found += commands(command, (*path, name))
    return found


ALL_COMMANDS = commands(typer.main.get_command(cli.app))


@pytest.mark.parametrize(("path", "command"), ALL_COMMANDS, ids=[" ".join(path) for path, _ in ALL_COMMANDS])
def test_every_command_and_option_has_help(path: tuple[str, ...], command: Any) -> None:
    """Each command, argument and option says what it does, and each command stands in a document."""
    assert command.help, path
    for parameter in command.params:
        assert getattr(parameter, "help", "") or parameter.name == "help", (path, parameter.name)
    assert f"`regnb {' '.join(path)}" in DOCUMENTS, path


@pytest.mark.parametrize("frame", [*COLUMNS])
def test_every_column_is_described(frame: str) -> None:
    """Each column of each frame has a meaning in words."""
    assert all(meaning for _, meaning in COLUMNS[frame].values())


@pytest.mark.parametrize(
    "frame", ["repositories", "tags", "manifests", "layers", "blobs", "problems", "coverage", "sharing"]
)
def test_every_frame_is_shown(frame: str) -> None:
    """Each frame of an inventory appears in the README or in a notebook."""
    assert f"inventory.{frame}" in written()


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "README.zh-CN.md", *PAGES], ids=str)
def test_what_a_document_links_to_is_there(path: Path) -> None:
    """Each relative link and image leads to a file."""
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert missing == []


def test_every_notebook_is_in_the_readme() -> None:
    """Both editions have a row for each notebook, and the English one has its question."""
    for book in runbooks():
        assert f"| [{book.name}](notebooks/{book.path.name}) | {book.question} |" in README
        assert f"| [{book.name}](notebooks/{book.path.name}) |" in CHINESE


@pytest.mark.parametrize("path", [*(ROOT / "docs").rglob("*.zh-CN.md"), ROOT / "README.zh-CN.md"], ids=str)
def test_the_chinese_edition_has_what_the_english_one_has(path: Path) -> None:
    """The same headings in number, the same code, the same pictures and links: only the words differ."""
    english = path.with_name(path.name.replace(".zh-CN", ""))

    def parts(text: str) -> list[list[str]]:
        # Comments in code are words, too.
        blocks = [re.sub(r"\s*#.*", "", block) for block in re.findall(r"```.*?```", text, re.DOTALL)]
        links = [link.replace(".zh-CN", "") for link in re.findall(r"\]\(([^)]+)\)", text) if "README" not in link]
        links = [link for link in links if link != english.name]
        headings, tables = (re.findall(what, text, re.MULTILINE) for what in (r"^#+ ", r"^\|[- |]+\|$"))
        return [headings, blocks, sorted(links), tables]

    assert parts(path.read_text(encoding="utf-8")) == parts(english.read_text(encoding="utf-8"))


def test_the_policy_shown_is_one() -> None:
    """The retention policy in the documents is read, and has the rules that one sees."""
    policies = [text for text in re.findall(r"```toml\n(.*?)```", DOCUMENTS, re.DOTALL) if "[[rule]]" in text]
    assert [len(Policy.parse(text).rules) for text in policies] == [3]


def test_the_pins_hold_with_the_oldest_python() -> None:
    """Every pinned release that is installed here accepts Debian 12's Python, 3.11.2."""
    pins = re.findall(r"^([\w.-]+)==([^ ;\n]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    # Not metadata["Requires-Python"]: a KeyError, where the field is missing and some test imported importlib_metadata.
    installed = {
        (canonicalize_name(each.name), each.version): each.metadata.get("Requires-Python", "")
        for each in distributions()
    }
    wants = {name: installed.get((canonicalize_name(name), version), "") for name, version in pins}
    assert sum(map(bool, wants.values())) > 50
    assert [name for name, wanted in wants.items() if "3.11.2" not in SpecifierSet(wanted)] == []


def test_the_hashes_are_of_the_pins() -> None:
    """requirements.txt has the pinned releases, with hashes, and every dependency of `all`; of `hub` none."""

    def pins(name: str) -> dict[str, str]:
        found = re.findall(r"^([\w.-]+)==([^ ;\n]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        return {canonicalize_name(package): version for package, version in found}

    hashed, pinned = pins("requirements.txt"), pins("constraints.txt")
    assert {name: version for name, version in hashed.items() if pinned.get(name, version) != version} == {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (listed,) = extras["all"]
    wanted = [*project["dependencies"], *(each for name in re.findall(r"\w+", listed)[1:] for each in extras[name])]

    def names(requirements: list[str]) -> set[str]:
        return {canonicalize_name(re.split(r"[^\w.-]", each)[0]) for each in requirements}

    assert names(wanted) <= set(hashed)
    assert names(extras["hub"]) & set(hashed) == set(), "the image has no proxy to every port of its machine"
    parts = re.split(r"\n(?=[a-z])", (ROOT / "requirements.txt").read_text(encoding="utf-8"))
    assert all("--hash=sha256:" in part for part in parts[1:])


def test_the_floors_are_those_that_are_checked() -> None:
    """CONTRIBUTING draws the floors from the top as import-linter's contract has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    checked = [set(re.findall(r"\w+", floor)) for floor in contracts[0]["layers"]]
    rows = re.findall(r"^\| \d+ \| (.+?) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [set(re.findall(r"\w+", row)) for row in rows] == checked


def test_every_variable_is_described() -> None:
    """The table of environment variables in the reference says what the table in the code says, row by row."""
    rows = dict(re.findall(r"^\| `(REGNB_\w+)` \| (.+) \|$", DOCUMENTS, re.MULTILINE))
    assert rows == dict(VARIABLES)


def test_variables_are_read_in_one_place() -> None:
    """No module but ``environment`` reads a variable of regnb's own from the process."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        nodes = [
            ast.unparse(node) for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.expr)
        ]
        if any(re.match(r"os\.(environ|getenv)\b.*['\"]REGNB_", node) for node in nodes):
            found.add(str(path.relative_to(PACKAGE)))
    assert found <= {"environment.py"}


def test_importing_regnb_is_cheap(tmp_path: Path) -> None:
    """``import regnb`` pulls in nothing that only a notebook, the command line or a connection needs."""
    code = "import sys, regnb; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True,
        env=surroundings(tmp_path),
    )  # fmt: skip
    loaded = set(done.stdout.split())
    lab, command = (
        {"plotly", "ipywidgets", "anywidget", "itables", "IPython", "tqdm"},
        {"typer", "starlette", "uvicorn"},
    )
    assert loaded & (lab | command | {"httptools", "pandas", "pyarrow"}) == set()


def lines_of_code(source: str) -> set[int]:
    """The lines that hold code: no blank ones, no comments, no docstrings."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return code


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    """No module has more than 500 lines of code, and no class more than 250."""
    source = path.read_text(encoding="utf-8")
    code = lines_of_code(source)
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    largest = max((len(code & set(range(each.lineno, (each.end_lineno or 0) + 1))) for each in classes), default=0)
    assert len(code) <= 500
    assert largest <= 250


def test_the_checkers_are_believed() -> None:
    """What is left out of the type checker and of the linter stays little: the counts only go down."""
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    ignored = sum(source.count("type: ignore") for source in sources)
    excepted = sum(source.count("# noqa") + source.count("# ruff: noqa") for source in sources)
    untyped = sum(len(re.findall(r"\bAny\b", source)) for source in sources)
    assert ignored <= 18
    assert excepted / sum(source.count("\n") for source in sources) < 0.004
    assert untyped < 167


PYTHON = re.compile(r"(?<![\w?&.-])(?!from=)[a-z_]+=(?:True|False|None|[)\]:;, ]|$)|\b[a-z_]+\(\)")
"""An argument or a call as Python writes it."""
NOTEBOOKS = {"pages", "widgets", "wire", "layers", "regnb"}
"""Where such words are no message, or are read in a notebook."""


def test_no_message_takes_its_reader_for_a_programmer() -> None:
    """A message that shows a call of Python says so, for the command line prints the same words."""
    found = []
    for path in [path for path in PACKAGE.rglob("*.py") if path.parts[-2] not in NOTEBOOKS]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for node in (one for call in calls for one in [*call.args, *(word.value for word in call.keywords)]):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(each.value) for each in parts if isinstance(each, ast.Constant))
            if " " in text and PYTHON.search(text) and "in Python" not in text:
                found.append(f"{path.relative_to(PACKAGE)}: {text}")
    assert found == []


RIDDLES = {*string.ascii_lowercase, "bare", "cfg", "fs", "lacks", "led", "met", "raws", "saw", "tmp", "val"} - {
    "x",
    "y",
}
"""What no name may consist of: letters (but plotly's axes), abbreviations that are not the field's, and riddles."""

NAMED_ELSEWHERE = {"fs_layers", "n", "not_a_registry"}
"""``fsLayers`` of a schema 1, tqdm's ``n``, and a whole phrase."""


def test_names_are_whole_words() -> None:
    """No function, argument, attribute or variable is a letter, an abbreviation, or a verb that nobody can guess."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                name = node.id if isinstance(node, ast.Name) else node.attr
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = node.name
            elif isinstance(node, ast.arg):
                name = node.arg
            else:
                continue
            if RIDDLES & set(name.strip("_").split("_")) and name not in NAMED_ELSEWHERE:
                found.add(f"{path.relative_to(PACKAGE)}: {name}")
    assert sorted(found) == []

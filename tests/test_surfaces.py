"""An operation is written once and offered everywhere, and nothing writes but what applies a plan."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import scripted
import typer.main
from images import ROOT, ask
from scripted import Reply

from regnb import cli
from regnb.change.options import CHECKS, CHECKS_OF_A_REPOSITORY, OPTIONS
from regnb.change.plan import ALLOWANCES, SCOPED
from regnb.errors import Refused
from regnb.oci.reference import Digest
from regnb.registry import Registry, connect
from regnb.wire.client import Client
from regnb.wire.uploads import Uploads

PACKAGE = ROOT / "regnb"
NOTEBOOKS = {
    "retag": "10-retag",
    "copy": "11-copy",
    "rename": "11-copy",
    "delete": "12-delete",
    "retention": "13-retention",
    "request": "30-api-console",
}
"""Where each operation is shown; ``undo`` is a button beside all of them."""
OPERATIONS = [*NOTEBOOKS, "undo"]
OPERATION = pytest.mark.parametrize("name", OPERATIONS)
OTHERWISE = {
    "delete": {"inventory": "whole"},
    "retention": {"inventory": None},
    "request": {"headers": "header", "body": "data"},
}
"""Parameters that the command line spells otherwise; None: a policy is always about the whole registry."""
FORMS = {"request": "console.console"}
"""Forms whose module or name is another one."""
TYPED = {"registry.request", "self.registry.request"}
"""What sends a request whose method is typed, and refuses what could write: there is a test of that below."""

WRITING = {
    "start_upload", "upload_chunk", "upload_blob", "finish_upload", "cancel_upload", "mount", "put_manifest",
    "delete_manifest", "delete_tag", "delete_blob",
}  # fmt: skip
"""The client's methods that write."""
APPLYING = {f"change/apply/{path.stem}" for path in (PACKAGE / "change/apply").glob("*.py")}
"""What applies a plan."""
CLIENT = {"wire/client", "wire/uploads", "wire/asking", "directories/api"}
"""The client's own modules, and what asks a vendor's API."""
WRITERS = {*CLIENT, "local/demo", "wire/probe"} | APPLYING
"""The modules that may call them: the client itself, what applies a plan, what fills the sample registry, and what
finds out harmlessly what a registry allows."""
SERVERS = {"local/embedded", "cluster/switch"}
"""The other side of the wire: its methods have the same names; and what asks an API server of Kubernetes."""


def command(name: str) -> Any:
    group: Any = typer.main.get_command(cli.app)
    return group.commands[name]


def test_these_are_the_operations() -> None:
    """The list above names every module that has a ``plan_X`` of its own name, so that no new one is forgotten."""
    modules = {path.stem for path in (PACKAGE / "change").glob("*.py")}
    planning = {name for name in modules if f"def plan_{name}(" in (PACKAGE / f"change/{name}.py").read_text("utf-8")}
    assert planning == set(OPERATIONS)


@OPERATION
def test_python_offers_it(name: str) -> None:
    """The handle has ``plan_X``, and it hands on to the one function of the operation's module.

    Where that takes an inventory, the handle can be told which repositories to read for it.
    """
    module = importlib.import_module(f"regnb.change.{name}")
    offered = set(inspect.signature(getattr(Registry, f"plan_{name}")).parameters) - {"self"}
    made_of = set(inspect.signature(getattr(module, f"plan_{name}")).parameters) - {
        "reader",
        "url",
        "authorized",
        "now",
    }
    assert offered == made_of | ({"repositories"} if "inventory" in made_of else set())


@OPERATION
def test_the_command_line_offers_it(name: str) -> None:
    """There is a command of its name, with which every parameter of ``plan_X`` can be given."""
    options = {parameter.name for parameter in command(name).params}
    assert {"plan_out", "json_", "curl", "allow", "user", "insecure"} <= options
    for parameter in list(inspect.signature(getattr(Registry, f"plan_{name}")).parameters)[1:]:
        spelled = OTHERWISE.get(name, {}).get(parameter, parameter)
        assert spelled is None or spelled in options, f"regnb {name} cannot be given {parameter}"


@OPERATION
def test_the_forms_offer_it(name: str) -> None:
    """There is a form of its name, and a notebook shows it."""
    module, _, form = FORMS.get(name, f"forms.{name}").partition(".")
    assert inspect.getdoc(getattr(importlib.import_module(f"regnb.widgets.{module}"), form))
    shown = f"{form}(registry" if name in FORMS else f"{module}.{form}("
    paths = [ROOT / "notebooks" / f"{NOTEBOOKS[name]}.ipynb"] if name in NOTEBOOKS else ROOT.glob("notebooks/*.ipynb")
    cells = [cell for path in paths for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert shown in code, f"no notebook shows {shown}"


def calls(module: str) -> Iterator[tuple[str, ast.Call]]:
    """Each call of an attribute in a module, with the attribute's name."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr, node


def imported(module: str) -> set[str]:
    """The modules of this package that a module imports."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.rpartition(".")[2] for name in names}


def modules() -> list[str]:
    return sorted(str(path.relative_to(PACKAGE).with_suffix("")) for path in PACKAGE.rglob("*.py"))


def test_these_are_the_methods_that_write() -> None:
    """The list above holds every method of the client that sends, itself or through another, more than reads."""
    source = {
        name: inspect.getsource(method)
        for kind in (Uploads, Client)
        for name, method in vars(kind).items()
        if not name.startswith("__") and callable(method)
    }
    sent = set(source)
    writing = {
        name for name in sent if any(f'"{method}"' in source[name] for method in ("PUT", "POST", "PATCH", "DELETE"))
    }
    while more := {
        name
        for name in sent - writing
        if any(re.search(rf"self\.(uploads\.)?{each}\(", source[name]) for each in writing)
    }:
        writing |= more
    assert {name for name in writing if not name.startswith("_")} == WRITING


@pytest.mark.parametrize("module", modules())
def test_only_what_applies_a_plan_writes(module: str) -> None:
    """No other module names a writing method, or sends a request of a writing kind past the client."""
    if module in WRITERS:
        return
    if module in SERVERS:
        assert not {"client", "transport"} & imported(module)
        return
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not named & WRITING
    for name, call in calls(module):
        if name in ("request", "stream") and ast.unparse(call.func) not in TYPED:
            method = call.args[0] if call.args else None
            reads = isinstance(method, ast.Constant) and method.value in ("GET", "HEAD")
            assert reads, f"{module}, line {call.lineno}: a request whose method is not GET or HEAD"


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE", "delete", "GETS", "MOVE", "TRACE", ""])
@pytest.mark.parametrize("path", ["/v2/", "/v2/a/manifests/1", f"/v2/a/blobs/{Digest.of(b'')}", "/v2/a/blobs/uploads/"])
def test_a_request_that_is_typed_only_reads(method: str, path: str) -> None:
    """Neither the handle nor the client sends anything but GET, HEAD and OPTIONS for whoever names the method."""
    with scripted.serve(lambda *_: Reply()) as server, connect(server.url, cache=False) as registry:
        before = len(server.requests)
        with pytest.raises(Refused):
            registry.request(method, path)
        with pytest.raises(Refused):
            ask(server.url, lambda client: client.ask(method, path))
        assert server.requests[before:] == []
        for read in ("GET", "HEAD", "OPTIONS"):
            registry.request(read, path)
        assert [request.method for request in server.requests[before:]] == ["GET", "HEAD", "OPTIONS"]


def test_what_applies_a_plan_writes_through_the_client() -> None:
    """The check above sees a writing call where there is one, and the transport is the client's alone."""
    assert {name for module in APPLYING for name, _ in calls(module)} & WRITING
    for module in WRITERS - CLIENT:
        assert "request" not in {name for name, _ in calls(module)}


@pytest.mark.parametrize("name", ["plan_retag", "plan_copy", "plan_delete", "plan_retention"])
def test_an_option_has_one_wording(name: str) -> None:
    """What the table says of an option stands in the docstring and in the command's help, word for word."""
    arguments = inspect.getdoc(getattr(Registry, name)).partition("Args:\n")[2].partition("\n\n")[0]
    told = dict(re.findall(r"^    (\w+): (.*(?:\n     .*)*)", arguments, re.MULTILINE))
    texts = {option: " ".join(text.replace("``", "").split()) for option, text in told.items() if option in OPTIONS}
    own = {option: text for option, text in texts.items() if not text.startswith("As in :meth:")}
    assert own
    assert [option for option, text in own.items() if not text.startswith(OPTIONS[option].removesuffix("."))] == []
    command: Any = typer.main.get_command(cli.app).commands[name[5:]]  # type: ignore[attr-defined]
    helps = {each.name: each.help for each in command.params}
    assert [option for option in texts if not helps[option].startswith(OPTIONS[option])] == []


def test_every_check_that_may_be_overridden_is_explained() -> None:
    """The table has a sentence for each allowance of a plan and of a repository, and for no other."""
    assert (set(CHECKS), set(CHECKS_OF_A_REPOSITORY)) == (set(ALLOWANCES), set(SCOPED))


MOVING = {
    "rename",
    "replace",
    "rmdir",
    "unlink",
    "rmtree",
    "removedirs",
    "truncate",
    "mkdir",
    "chown",
    "fchown",
    "symlink",
}
"""What changes a file system, called of ``os`` or ``shutil``."""
MOVERS = {"change/collect/trash", "oci/disk", "analysis/spill"}
"""What may do it: a collection, the embedded registry's own storage, and a query with its own temporary files."""


def moves(module: str) -> set[str]:
    """The calls of a module that change a file system by way of ``os`` or ``shutil``."""
    return {
        name for name, call in calls(module) if name in MOVING and ast.unparse(call.func).startswith(("os.", "shutil."))
    }


def test_only_the_trash_moves_the_files_of_a_storage() -> None:
    """Of what plans and applies a collection one module moves files; what reads a storage moves none."""
    assert moves("change/collect/trash") >= {"rename", "rmdir", "unlink"}
    reading = [module for module in modules() if module.startswith(("crawl/", "analysis/", "tables/", "oci/"))]
    collecting = [module for module in modules() if module.startswith("change/collect/")]
    for module in {*reading, *collecting, "storage", "change/sweep"} - MOVERS:
        assert not moves(module), module

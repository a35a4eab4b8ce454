"""The examples in the docstrings run, against the embedded registry with the demo content, and give what they say."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import pydoc
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distribution import free_port
from images import ROOT

import regnb
from regnb.analysis.pulls import record
from regnb.change.journal import Journal
from regnb.crawl.access import log_lines, read_log
from regnb.local.sandbox import Demo, demo_registry

MODULES = ["regnb", *sorted(each.name for each in pkgutil.walk_packages([str(ROOT / "regnb")], "regnb."))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WRITES = re.compile(r"\.(apply|resume)\(|reset_demo|damage_demo")
NAMED = {
    "http://localhost:5000": "url",
    "localhost:5000": "host",
    "/var/lib/registry": "storage",
    "http://stopped:5000": "stopped",
    "http://prod:5000": "url",
    "http://mirror:5000": "url",
    "20261129T120000-4f2a91cc": "receipt",
}
"""What stands in an example for the registry, its host, its storage, a stopped process of it, and the receipt of
a plan that was interrupted."""
POLICY = '[[rule]]\nrepositories = ["apps/*"]\nkeep_newest = 2\nremove_at_most = "100%"\n'
LOG = '10.0.0.1 - - [28/Nov/2026:10:00:00 +0000] "GET /v2/vm/centos8/manifests/8.4 HTTP/1.1" 200 1 "-" "docker/27"\n'
SKIPPED = 13
"""Lines that no test runs: they serve until they are stopped, need a cluster or a bucket, or change IPython."""
POD = {
    "metadata": {"namespace": "web", "name": "shop"},
    "spec": {"containers": [{"image": "registry.example/vm/centos8:8.4"}]},
}


@pytest.fixture(scope="module")
def sample(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo_registry(tmp_path_factory.mktemp("sample")) as found:
        yield found


@pytest.fixture(scope="module")
def inventory(sample: Demo) -> regnb.Inventory:
    with regnb.connect(sample.url) as registry:
        return registry.inventory(cached=False)


def examples(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder().find(importlib.import_module(name))
    return [each for each in found if each.examples]


def test_few_examples_are_skipped() -> None:
    """An example that is skipped proves nothing."""
    tests = [each for name in MODULES for each in examples(name)]
    skipped = [
        f"{test.name}: {example.source.strip()}"
        for test in tests
        for example in test.examples
        if example.options.get(doctest.SKIP)
    ]
    assert len(skipped) <= SKIPPED, "\n".join(skipped)


WITH_EXAMPLES = [name for name in MODULES if ">>>" in Path(str(importlib.import_module(name).__file__)).read_text()]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_are_true(
    name: str, sample: Demo, inventory: regnb.Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each runs on a registry that holds the demo content; one that writes, on a copy of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))
    (tmp_path / "retention.toml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "access.log").write_text(LOG, encoding="utf-8")
    record("pulls.parquet", read_log(log_lines("access.log")))
    (tmp_path / "operators.token").write_text("a-secret-of-some-length", encoding="utf-8")
    (tmp_path / "pods.json").write_text(json.dumps({"kind": "PodList", "items": [POD]}), encoding="utf-8")
    (tmp_path / "reports").mkdir()
    for scanner, report in (("grype", {"matches": []}), ("trivy", scan(inventory))):
        (tmp_path / "reports" / f"{scanner}.json").write_text(json.dumps(report), encoding="utf-8")
    shutil.copytree(sample.snapshots, tmp_path / "snapshots")
    for number, test in enumerate(examples(name)):
        writes = WRITES.search("".join(each.source for each in test.examples))
        if writes:
            folder = tmp_path / f"copy-{number}"
            shutil.copytree(sample.storage, folder / "storage")
            (folder / "sample-snapshots").mkdir()
            with demo_registry(folder) as copy:
                monkeypatch.setenv("REGNB_DEMO", copy.url)
                monkeypatch.setenv("REGNB_STORAGE", str(copy.storage))
                run(test, copy, inventory)
            shutil.rmtree(folder)
        else:
            run(test, sample, inventory)


def cut_short(plan: Any) -> str:
    """The name of a receipt that says that a plan was begun, and nothing more."""
    with Journal.begin(plan) as journal:
        return journal.path.stem


def scan(inventory: regnb.Inventory) -> dict[str, Any]:
    """A report of trivy about ``vm/centos8:8.3``."""
    digest = inventory.find("vm/centos8:8.3")["digest"].item()
    (config,) = set(inventory.manifests.loc[inventory.manifests["digest"] == digest, "config"])
    found = [{"VulnerabilityID": "CVE-1", "Severity": "CRITICAL"}]
    return {
        "ArtifactName": "vm/centos8:8.3",
        "Metadata": {"ImageID": config},
        "Results": [{"Vulnerabilities": found}],
    }


def run(test: doctest.DocTest, found: Demo, inventory: regnb.Inventory) -> None:
    """Run the examples of one docstring in its module's names, with a registry, its inventory and its storage."""
    with regnb.connect(found.url) as registry:
        if registry.host != inventory.registry:
            inventory = registry.inventory(cached=False)
        given: dict[str, Any] = {"regnb": regnb, "registry": registry, "inventory": inventory}
        given["storage"] = regnb.open_storage(found.storage)
        given["plan"] = registry.plan_delete("vm/centos8:8.3", inventory=inventory)
        stopped = f"http://127.0.0.1:{free_port()}"
        written = "".join(each.source for each in test.examples)
        if re.search(r"storage\.(apply|resume)", written) and "plan_collect" not in written:
            given["plan"] = given["storage"].plan_collect(grace="0h", endpoints=[stopped])
        given["plan"].save("plan.json")
        given |= {"connect": regnb.connect, "open_storage": regnb.open_storage, "Path": Path}
        module = importlib.import_module(str(test.globs["__name__"]))
        given.setdefault(module.__name__.rpartition(".")[2], module)
        test.globs = given | test.globs
        if re.search(r"(?<!regnb\.)\bfleet(\.|\))", written):
            test.globs["fleet"] = regnb.fleet({"prod": found.url, "mirror": found.url})
        actual = {"url": found.url, "host": registry.host, "storage": str(found.storage), "stopped": stopped}
        if ".resume(" in written:
            actual["receipt"] = cut_short(given["plan"])
        for example in test.examples:
            for named, what in NAMED.items():
                example.source = example.source.replace(named, actual.get(what, named))
                example.want = example.want.replace(named, actual.get(what, named))
        printed: list[str] = []
        failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=printed.append)
        assert not failed, "".join(printed)


@pytest.mark.parametrize("what", ["regnb", "regnb.Registry"])
def test_help_begins_with_what_is_called_first(what: str) -> None:
    """``help`` opens with the calls in the order in which they are used: read, plan, write."""
    shown = pydoc.render_doc(what, renderer=pydoc.plaintext)
    opening = shown.partition("Example:")[0]
    places = [opening.index(word) for word in ("Read:", "inventory()", "Plan (", "plan_delete", "Write (", "apply(")]
    assert places == sorted(places)

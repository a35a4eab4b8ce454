"""Random operations on random content, through faults, each checked on the registry's disk.

A trial is a registry with content, a few operations on it, and what the checks of :mod:`verdict` say after each. Its
seed gives the same content, operations and faults again.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import os
import random
import shutil
import ssl
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from unittest import mock

import anyio
import disk
import verdict
from clock import Clock
from dialects import Dialect
from disk import State
from distribution import Distribution
from faulty import Faulty, Seen, Weather, basic, calm, drawn
from guard import PASSWORD, SECRET, USER, Guard
from images import LAYER, Image, attestation, config, descriptor, image, index, layer, pack
from verdict import Violation

import regnb
from regnb import Plan, Receipt, Registry, RegnbError
from regnb.errors import ConnectionFailed, Denied, LimitExceeded, NotARegistry, RateLimited, ServerFailed, Unauthorized

REPOSITORIES: Final = ("app", "app/web", "base", "team/tool", "x.y/z-1")
TAGS: Final = ("latest", "1.0", "1.1", "2.0", "dev", "rc", "v3_final")
OPERATIONS: Final = 4
"""How many operations a trial has, beside undoing and resuming what they did."""
_TROUBLE: Final = (ConnectionFailed, Denied, NotARegistry, RateLimited, ServerFailed, Unauthorized)
"""Errors that need a fault."""
_HASTE: Final = 0.01
"""What remains of each wait between two attempts."""

Make = Callable[[Registry], Plan]


@dataclass
class Operation:
    """What was tried, what came of it, and what is wrong with that.

    Attributes:
        name: Such as ``delete``.
        outcome: A receipt's status, ``planned``, ``read``, or the name of an error.
        log: The requests that went out.
    """

    name: str
    about: str = ""
    outcome: str = ""
    seconds: float = 0.0
    log: Sequence[Seen] = ()
    violations: list[Violation] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """How many of its requests failed."""
        return sum(seen.fault is not None for seen in self.log)

    def story(self) -> str:
        """Return the operation in lines: what went wrong, what it wrote, and what is wrong with it."""
        lines = [f"{self.name} {self.about}: {self.outcome}, {len(self.log)} requests, {self.faults} faults"]
        for number, seen in enumerate(self.log):
            if seen.fault is not None or seen.writes:
                lines.append(f"  {number:3} {seen.method} {seen.path} {seen.status or 'not sent'} {seen.fault or ''}")
        return "\n".join([*lines, *(f"  !! {each}" for each in self.violations)])


class Bench:
    """A registry on an empty disk, a faulty proxy before it, and a regnb whose waits are short.

    Attributes:
        registry: The real one.
        proxy: What regnb is connected to.
        receipts: Where receipts are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = Distribution(folder)
        self.clock = Clock()
        self.proxy = Faulty(self.registry.host, clock=self.clock)
        self.receipts = folder / "receipts"
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.registry)
            stack.enter_context(self.clock)
            stack.enter_context(self.proxy)
            here = {"REGNB_RECEIPTS": self.receipts, "XDG_STATE_HOME": self.folder, "XDG_CACHE_HOME": self.folder}
            stack.enter_context(mock.patch.dict(os.environ, {name: str(path) for name, path in here.items()}))
            stack.enter_context(mock.patch.object(anyio, "sleep", functools.partial(_hurry, anyio.sleep)))
            # The system's authorities take 50 ms to read.
            authorities = functools.cache(ssl.create_default_context)
            stack.enter_context(mock.patch.object(ssl, "create_default_context", authorities))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def empty(self) -> None:
        """Take everything away that the registry and regnb have written."""
        for folder in (self.registry.root / "docker", self.receipts, self.folder / "cache"):
            shutil.rmtree(folder, ignore_errors=True)


async def _hurry(sleep: Callable[[float], Any], delay: float) -> None:
    await sleep(delay * _HASTE)


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Make a bench in memory where there is such a folder: docker-registry syncs each file, regnb each line."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 -- a folder of our own is made in it
    with tempfile.TemporaryDirectory(dir=memory, prefix="regnb-trial-") as folder, Bench(Path(folder)) as found:
        yield found


class Stock:
    """Writes images onto a registry's disk, as if they had been pushed."""

    def __init__(self, root: Path) -> None:
        self._top = root / "docker/registry/v2"

    def blob(self, data: bytes) -> str:
        digest = str(descriptor("", data)["digest"])
        path = self._top / "blobs/sha256" / digest[7:9] / digest[7:] / "data"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return digest

    def link(self, repository: str, where: str, digest: str) -> None:
        path = self._top / "repositories" / repository / where / "link"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(digest, encoding="ascii")

    def put(self, repository: str, what: Image, *tags: str) -> None:
        for data in what.blobs:
            digest = self.blob(data)
            self.link(repository, f"_layers/sha256/{digest[7:]}", digest)
        for child in what.children:
            self.put(repository, child)
        digest = self.blob(what.data)
        self.link(repository, f"_manifests/revisions/sha256/{digest[7:]}", digest)
        for tag in tags:
            self.link(repository, f"_manifests/tags/{tag}/current", digest)
            self.link(repository, f"_manifests/tags/{tag}/index/sha256/{digest[7:]}", digest)


def fill(root: Path, chance: random.Random) -> None:
    """Write random content: aliases, multi-platform indexes, shared layers, referrers by their fallback tags."""
    stock = Stock(root)
    # Compressed, for skopeo would compress them and push another image.
    pool = [gzip.compress(layer(chance.getrandbits(32), chance.randint(1, 900)), mtime=0) for _ in range(6)]
    made: list[Image] = []
    for repository in chance.sample(REPOSITORIES, chance.randint(2, 4)):
        (root / "docker/registry/v2/repositories" / repository / "_layers").mkdir(parents=True)
        for number in range(chance.randint(1, 4)):
            tags = chance.sample(TAGS, chance.choice((0, 1, 1, 1, 2, 3)))
            if made and chance.random() < 0.25:
                what = chance.choice(made)
            elif chance.random() < 0.35:
                docker = chance.random() < 0.4
                children = [_image(chance, pool, docker=docker) for _ in range(chance.randint(1, 3))]
                if made and chance.random() < 0.4:
                    children.append(chance.choice([each for each in made if not each.children] or children))
                platforms = [(child, f"linux/{place}") for place, child in enumerate(children)]
                if chance.random() < 0.3 and not docker:
                    platforms.append((attestation(children[0]), "unknown/unknown"))
                what = index(platforms, docker=docker, **({} if docker else {"annotations": {"n": f"{number}"}}))
                if chance.random() < 0.4:
                    stock.put(repository, children[0], f"child-{number}")
            else:
                what = _image(chance, pool, docker=chance.random() < 0.5)
            made.append(what)
            stock.put(repository, what, *tags)
            if tags and chance.random() < 0.3:
                _sign(stock, repository, what, chance)


def _image(chance: random.Random, pool: Sequence[bytes], *, docker: bool) -> Image:
    created = f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}T{chance.randint(0, 23):02}:00:00Z"
    layers = chance.sample(pool, chance.randint(0, 3))
    about = config(chance.choice(("amd64", "arm64")), created, [f"RUN {step}" for step in range(len(layers))])
    return image(layers, about=about, docker=docker, annotations={"n": f"{chance.getrandbits(24)}"})


def _sign(stock: Stock, repository: str, what: Image, chance: random.Random) -> None:
    """Attach a signature as cosign does, or an SBOM as clients do where there is no referrers endpoint."""
    note = pack({"signed": chance.getrandbits(24)})
    subject = descriptor(what.media_type, what.data)
    tag = str(what.digest).replace(":", "-")
    if chance.random() < 0.5:
        stock.put(
            repository,
            image([note], about=b"{}", layer_type="application/vnd.dev.cosign.simplesigning.v1+json"),
            f"{tag}.sig",
        )
    else:
        bill = image([note], about=b"{}", layer_type=LAYER, subject=subject, artifactType="application/spdx+json")
        stock.put(repository, index([(bill, "")]), tag)


def _row(step: Any) -> tuple[object, ...]:
    """What a step would do."""
    return (
        step.action, step.repository, step.tag, step.before, step.after,
        step.tags, step.media_type, step.blobs, step.new,
    )  # fmt: skip


def left_out(plan: Plan, allowance: str) -> bool:
    """Whether a plan removes nothing where it would go too far, and says so: what could not be read was not judged."""
    repository = allowance.partition(":")[2]
    removes = any(step.writes and step.repository == repository for step in plan.steps)
    return not removes and any(repository in note for note in plan.notes)


class Trial:
    """One registry, and what is tried on it.

    Attributes:
        done: The operations so far.
        state: What is on the disk now.
        guard: What asks for a password or tokens, if anything does.
        dialect: How the registry deletes, if it is not as docker-registry does.
    """

    def __init__(self, seed: str, bench: Bench) -> None:
        self.seed = seed
        self.bench = bench
        self.proxy = bench.proxy
        self.chance = random.Random(seed)  # noqa: S311 -- the same each time
        self.done: list[Operation] = []
        self.applied: list[tuple[Path, State, State]] = []
        """Each receipt, with the disk before and after."""
        bench.empty()
        fill(bench.registry.root, self.chance)
        self.state = disk.read(bench.registry.root)
        self.nonces = random.Random(f"{seed}/nonces")  # noqa: S311
        self._stack = contextlib.ExitStack()

    def __str__(self) -> str:
        about = (f"pages of {self.proxy.page or 'any size'}", self.guard, self.dialect)
        return f"trial {self.seed}: {'; '.join(str(each) for each in about if each)}"

    def __enter__(self) -> Self:
        # Placeholder manifests and probes are named after these: the same seed must meet the same faults.
        draw = lambda size=8: f"{self.nonces.getrandbits(8 * size):0{2 * size}x}"  # noqa: E731
        self._stack.enter_context(mock.patch("secrets.token_hex", draw))
        self.proxy.answered.clear()
        self.proxy.page = self.chance.choice((0, 0, 1, 2, 3))
        self.guard = Guard(self.chance) if self.chance.random() < 0.3 else None
        keeps, odd = self.chance.random() < 0.5, self.chance.random() < 0.3
        self.dialect = Dialect(self.bench.registry.root, keeps=keeps) if odd else None
        self.proxy.challenge = self.guard.challenge if self.guard is not None else basic
        self.proxy.fronts = [front for front in (self.guard, self.dialect) if front is not None]
        self.proxy.change(calm)
        self.registry = self._stack.enter_context(self.connect(self.bench.folder / "cache"))
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.change(calm)
        self._stack.close()
        self.proxy.fronts = ()

    def connect(self, cache: Path | None = None) -> Registry:
        return regnb.connect(self.proxy.url, cache=cache or False, **self.login)

    @property
    def login(self) -> dict[str, str]:
        """What opens the door, if there is one."""
        return {"username": USER, "password": PASSWORD} if self.guard is not None else {}

    def weather(self) -> Weather:
        """Draw what goes wrong with an operation."""
        return drawn(self.chance)

    @property
    def violations(self) -> list[tuple[Operation, Violation]]:
        return [(operation, each) for operation in self.done for each in operation.violations]

    def play(self, operations: int = OPERATIONS) -> None:
        """Try some operations, one after the other."""
        for _ in range(operations):
            self.try_one()

    def try_one(self) -> None:
        kinds = self.kinds()
        (kind,) = self.chance.choices(list(kinds), list(kinds.values()))
        kind()

    def kinds(self) -> dict[Callable[[], object], int]:
        """Return what may be tried, and how often."""
        return {
            self._audit: 2, self._retag: 3, self._copy: 3, self._rename: 3, self._delete: 4, self._retention: 1,
            self._request: 2, self._undo_earlier: 1, self._resume: 1,
        }  # fmt: skip

    # What is tried

    def _audit(self) -> None:
        with self._operation("audit") as operation:
            repositories = sorted(self.state.repositories)
            named = self.chance.sample(repositories, 1) if repositories and self.chance.random() < 0.3 else None
            inventory = self.registry.inventory(named, cached=self.chance.random() < 0.7, progress=False)
            operation.outcome = "read"
            operation.violations += verdict.audited(self.state, inventory, named)

    def _some(self) -> str:
        """A tag that is there, mostly, or a pattern for several, or a digest."""
        tags = sorted(name for name in self.state.tags)
        if not tags:
            return "app:latest"
        name = self.chance.choice(tags)
        kind = self.chance.random()
        if kind < 0.65:
            return str(name)
        if kind < 0.8:
            return f"{name.repository}:{self.chance.choice(('*', '1*', '[a-m]*'))}"
        if kind < 0.9:
            return f"{name.repository}@{self.state.tags[name] or 'sha256:' + '0' * 64}"
        return f"{name.repository}:{self.chance.choice(TAGS)}"

    def _allow(self, **shares: float) -> list[str]:
        return [name for name, share in shares.items() if self.chance.random() < share]

    def _retag(self) -> None:
        what, allow = self._some(), self._allow(overwrite=0.5)
        tag = self.chance.choice(("new", "{tag}-x", *TAGS))
        self._change("retag", f"{what} {tag} {allow}", lambda registry: registry.plan_retag(what, tag, allow=allow))

    def _copy(self) -> None:
        what, allow = self._some(), self._allow(overwrite=0.5)
        to = self.chance.choice(("mirror/{repository}:{tag}", "copied", *REPOSITORIES, "base:here"))
        options: dict[str, Any] = {
            "platform": "linux/0" if self.chance.random() < 0.1 else None,
            "referrers": self.chance.random() < 0.7,
        }
        elsewhere = self.chance.random() < 0.3
        about = f"{what} {to} {options} {allow} {'from elsewhere' if elsewhere else ''}"
        if not elsewhere:
            self._change("copy", about, lambda registry: registry.plan_copy(what, to, allow=allow, **options))
            return
        # The same registry by its own address, without the proxy: content is streamed instead of mounted.
        with regnb.connect(self.bench.registry.url, cache=False) as source:
            make: Make = lambda registry: registry.plan_copy(what, to, source=source, allow=allow, **options)  # noqa: E731
            self._change("copy", about, make, source=source)

    def _rename(self) -> None:
        what, allow = self._some().partition("@")[0], self._allow(overwrite=0.3, dummy=0.8)
        if self.chance.random() < 0.4:
            what = what.partition(":")[0]
            to = self.chance.choice(("renamed", *REPOSITORIES))
        else:
            to = self.chance.choice(("renamed", "base:renamed", *TAGS))
        self._change("rename", f"{what} {to} {allow}", lambda registry: registry.plan_rename(what, to, allow=allow))

    def _delete(self) -> None:
        what = [self._some() for _ in range(self.chance.choice((1, 1, 1, 2, 3)))]
        allow = self._allow(dummy=0.8, parents=0.2)
        options: dict[str, Any] = {"children": self.chance.random() < 0.7, "referrers": self.chance.random() < 0.7}
        about = f"{what} {options} {allow}"
        self._change("delete", about, lambda registry: registry.plan_delete(what, allow=allow, **options))

    def _retention(self) -> None:
        rule: dict[str, Any] = {"repositories": ["*"], "keep_newest": self.chance.randint(1, 3)}
        rule["remove_at_most"] = "100%"
        if self.chance.random() < 0.5:
            rule["keep_matching"] = self.chance.sample(TAGS, 2)
        policy = "[[rule]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in rule.items())
        allow = self._allow(dummy=0.8)
        make: Make = lambda registry: registry.plan_retention(policy, allow=allow)  # noqa: E731
        self._change("retention", f"{rule} {allow}", make, compare=True)

    def _request(self) -> None:
        tags = sorted(self.state.tags)
        if not tags:
            return
        name, other = self.chance.choice(tags), self.chance.choice(tags)
        if self.chance.random() < 0.5:
            allow = self._allow(overwrite=0.5)
            tag = self.chance.choice(("new", name.target, other.target))
            digest = self.state.tags[other]
            body = self.bench.registry.blob(digest).read_bytes() if digest in self.state.blobs else b"{}"
            path = f"/v2/{other.repository}/manifests/{tag}"
            make: Make = lambda registry: registry.plan_request("PUT", path, body=body, allow=allow)  # noqa: E731
            self._change("request", f"PUT {path} {allow}", make)
        else:
            allow = self._allow(dummy=0.8, parents=0.2)
            target = self.chance.choice((name.target, self.state.tags[name]))
            path = f"/v2/{name.repository}/manifests/{target}"
            make = lambda registry: registry.plan_request("DELETE", path, allow=allow)  # noqa: E731
            self._change("request", f"DELETE {path} {allow}", make)

    def _undo_earlier(self) -> None:
        if self.applied:
            self._undo(*self.chance.choice(self.applied))

    def _undo(self, path: Path, before: State, after: State) -> None:
        exact = after.tags == self.state.tags and after.revisions == self.state.revisions
        allow = self._allow(dummy=0.9)
        make: Make = lambda registry: registry.plan_undo(path, allow=allow)  # noqa: E731
        receipt = self._change("undo", f"{path.stem} {allow}", make)
        if exact and receipt is not None and receipt.status == "done":
            self.done[-1].violations += verdict.undone(before, self.state, Receipt.load(path).plan)

    def _resume(self) -> None:
        open_ = [each for each in self.applied if Receipt.load(each[0]).status != "done"]
        if open_:
            self.resume(*self.chance.choice(open_))

    def resume(self, path: Path, before: State, after: State, *, quiet: bool = False) -> None:
        """Go on with a receipt; where nothing goes wrong and nothing came between, that reaches the plan."""
        same = after.tags == self.state.tags and after.revisions == self.state.revisions
        plan = Receipt.load(path).plan
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(regnb.connect(plan.source, cache=False)) if plan.source else None
            with self._operation("resume", path.stem, quiet=quiet) as operation:
                self.registry.resume(path, source=source, progress=False)
            self._check(operation, plan, path, since=before if same else None)
            receipt = Receipt.load(path)
            calmly = operation.log and not operation.faults and operation.outcome == receipt.status
            if same and calmly and receipt.status != "done":
                rows = [f"{row['status']}: {row['message']}" for row in receipt.to_frame().to_dict("records")]
                operation.violations.append(Violation("resume does not reach the plan", "; ".join(rows)))

    # How it is tried

    def _change(
        self, name: str, about: str, make: Make, *, source: Registry | None = None, compare: bool = False
    ) -> Receipt | None:
        """Plan, apply what was planned, check it on the disk, and maybe take it back."""
        plan: Plan | None = None
        with self._operation(f"plan {name}", about) as operation:
            if self.chance.random() < 0.2:
                with self.connect() as fresh:
                    plan = make(fresh)
            else:
                plan = make(self.registry)
            operation.outcome = "planned"
        if plan is None:
            return None
        operation.violations += verdict.planned(self.state, plan)
        if operation.faults and (compare or self.chance.random() < 0.5):
            self._compare(operation, plan, make)
        if (not plan.changes or self.chance.random() < 0.05) and name != "undo":
            return None
        known = set(self.bench.receipts.glob("*.jsonl"))
        with self._operation(f"apply {name}", about) as operation:
            self.registry.apply(plan, confirm=plan.digest, source=source, progress=self._interrupter())
        path = next(iter(set(self.bench.receipts.glob("*.jsonl")) - known), None)
        before = self.state
        self._check(operation, plan, path)
        if path is None:
            return None
        self.applied.append((path, before, self.state))
        receipt = Receipt.load(path)
        if receipt.status != "done" and self.chance.random() < 0.4:
            self.resume(*self.applied[-1], quiet=self.chance.random() < 0.5)
        elif name != "undo" and self.chance.random() < 0.35:
            self._undo(*self.applied[-1])
        return receipt

    def _interrupter(self) -> Callable[[int, int, str], None] | bool:
        """Return what interrupts an application some time, as the stop button does; mostly nothing does."""
        if self.chance.random() < 0.9:
            return False
        left = [self.chance.randint(0, 2)]

        def interrupt(*_: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        return interrupt

    def _compare(self, operation: Operation, plan: Plan, make: Make) -> None:
        """A plan that was made through faults is the plan that is made without them."""
        self.proxy.change(calm)
        try:
            with self.connect() as registry:
                other = make(registry)
        except RegnbError as error:
            if isinstance(error, LimitExceeded) and all(left_out(plan, each) for each in error.allow):
                return
            text = f"{plan.summary()}; without faults: {type(error).__name__}: {error}"
            operation.violations.append(Violation("plan that is refused without faults", text))
            return
        rows, calmly = ([_row(step) for step in each.steps if step.writes] for each in (plan, other))
        # A plan of less is as good, if it says that something is missing.
        less_is_said = (
            operation.name == "plan retention" and set(rows) <= set(calmly) and set(plan.notes) - set(other.notes)
        )
        if rows != calmly and not less_is_said:
            more, less = [row for row in rows if row not in calmly], [row for row in calmly if row not in rows]
            text = f"{more} instead of {less}, notes {plan.notes}"
            operation.violations.append(Violation("plan differs from that without faults", text))

    @contextlib.contextmanager
    def _operation(self, name: str, about: str = "", *, quiet: bool = False) -> Iterator[Operation]:
        """Run something under a new weather; only an error of regnb's own may come out of it."""
        operation = Operation(name, about)
        self.done.append(operation)
        weather = calm if quiet else self.weather()
        operation.about += f" [{'calm' if weather is calm else weather}]"
        first, other = len(self.proxy.log), len(self.proxy.elsewhere)
        self.proxy.others = sorted(set(filter(None, self.state.tags.values())))
        self.proxy.change(weather)
        began = time.perf_counter()
        trouble = False
        try:
            yield operation
        except RegnbError as error:
            operation.outcome = type(error).__name__
            operation.about += f" -> {error} {error.hint}"
            trouble = isinstance(error, _TROUBLE)
        except KeyboardInterrupt:
            operation.outcome = "Interrupted"
        except Exception as error:  # noqa: BLE001 -- that is what is looked for
            operation.outcome = type(error).__name__
            text = "".join(traceback.format_exception(error))[-1500:]
            operation.violations.append(Violation("crash", text))
        finally:
            operation.seconds = time.perf_counter() - began
            self.proxy.wait()
            operation.log = self.proxy.log[first:]
            operation.violations += verdict.once(operation.log, self.proxy.elsewhere[other:])
            operation.violations += verdict.ended(operation.log)
            operation.violations += verdict.silent(SECRET, self._told(operation))
            if trouble and not operation.faults:
                operation.violations.append(Violation("trouble without a fault", operation.about[-500:]))

    def _told(self, operation: Operation) -> Iterator[str]:
        """What an operation has said and kept."""
        yield operation.about
        for path in self.bench.receipts.glob("*.jsonl"):
            yield path.read_text(encoding="utf-8")

    def _check(self, operation: Operation, plan: Plan, path: Path | None, *, since: State | None = None) -> None:
        """Look at the disk after an application.

        Args:
            operation: What to say it of.
            plan: What was applied.
            path: Its receipt, if there is one.
            since: The disk before the receipt's first application, if that was another and nothing came between.
        """
        before, self.state = self.state, disk.read(self.bench.registry.root)
        receipt = Receipt.load(path) if path is not None else None
        operation.violations += verdict.kept(before, self.state, plan, receipt)
        if receipt is None:
            if before.tags != self.state.tags or before.revisions != self.state.revisions:
                operation.violations.append(Violation("written without a receipt", operation.outcome))
            return
        operation.outcome = operation.outcome or receipt.status
        if since is not None or not operation.name.startswith("resume"):
            operation.violations += verdict.told(since or before, self.state, receipt)

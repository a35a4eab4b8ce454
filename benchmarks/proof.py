"""Predicts collections and holds each against what is collected, with seeds of its own and a log that goes on.

A round on a registry that grows through docker-registry's API is judged by the real collector of 2.8 and by the model
of version 3 (``tests/test_truth.py``), and so is a round on a storage that is written by hand
(``tests/analysis/test_collectors.py``). Registries that regnb collects itself (``tests/change/test_collect.py``) still
serve every tag, and are equal after a restoration; they serve every tag where the collection is killed while somebody
pushes, too (``tests/change/test_collect_faults.py``). These are 500 of 1,000 rounds. ``python benchmarks/proof.py
--seed SEED`` plays a seed's rounds again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests/analysis"), str(ROOT / "tests/change"), str(ROOT / "tests"), str(ROOT)]

import swept
import test_collect
import test_collect_faults
import test_collectors
import test_truth
from collected import Grown
from collector import Disk
from distribution import Distribution

import regnb

STEPS = 14
"""What is pushed, moved and deleted before a registry's first round; five things before each further one."""
GROWN = 5
"""Rounds on one registry."""
COLLECTED = 6
"""Registries that regnb collects, for each registry that grows."""
ATTACKED = 4
"""Registries whose collection is killed while somebody pushes: with those above half of the rounds."""
WRITTEN = 5
"""Storages written by hand for each registry that grows."""


def play(seed: str, folder: Path) -> None:
    """Play a seed: rounds on one registry, and storages written by hand."""
    with Grown(folder / "grown", seed) as grown, regnb.connect(grown.url) as registry:
        for number in range(GROWN):
            test_truth.play(grown, registry, folder, STEPS if number == 0 else 5)
    for number in range(COLLECTED):
        test_collect.play(swept.grown(folder / f"collected-{number}", (seed, number), 40), number)
    for number in range(ATTACKED):
        inside = folder / f"attacked-{number}"
        inside.mkdir()
        os.environ["REGNB_RECEIPTS"] = str(inside / "receipts")
        test_collect_faults.attack(Distribution(inside), random.Random(repr((seed, number))), inside)  # noqa: S311 -- again
    for number in range(WRITTEN):
        disk = Disk(folder / str(number), (seed, number))
        test_collectors.play(disk, real=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--log", type=Path, default=ROOT / "build/proof.jsonl")
    parser.add_argument("--rounds", type=int, default=1_000, help="end when the log has this many")
    parser.add_argument("--seed", help="play this one again")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    options.log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    if options.log.exists():
        lines = [json.loads(each) for each in options.log.read_text(encoding="utf-8").splitlines()]
    ending: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: ending.append(number))
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 -- a folder of our own is made in it
    done = Counter(rounds=sum(each["rounds"] for each in lines), wrong=sum(bool(each["wrong"]) for each in lines))
    while not ending and (options.seed or done["rounds"] < options.rounds):
        seed = options.seed or f"{random.SystemRandom().getrandbits(48):012x}"
        began, wrong = monotonic(), ""
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            os.environ["XDG_STATE_HOME"] = os.environ["XDG_CACHE_HOME"] = os.environ["REGNB_RECEIPTS"] = folder
            try:
                play(seed, Path(folder))
            except Exception:  # noqa: BLE001 -- whatever is wrong is a row of the log
                wrong = traceback.format_exc()
        if options.seed:
            print(wrong or "right")
            return bool(wrong)
        row = {
            "seed": seed,
            "rounds": GROWN + COLLECTED + ATTACKED + WRITTEN,
            "seconds": round(monotonic() - began, 2),
            "wrong": wrong,
        }
        with options.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        done.update(rounds=GROWN + COLLECTED + ATTACKED + WRITTEN, wrong=bool(wrong))
        if wrong:
            print(f"{seed}: {wrong.strip().rpartition(chr(10))[2]}"[:400], flush=True)
        if done["rounds"] % 100 == 0:
            print(f"{done['rounds']} rounds, {done['wrong']} wrong", flush=True)
    print(f"{done['rounds']} rounds, {done['wrong']} wrong")
    return bool(done["wrong"])


if __name__ == "__main__":
    shutil.which("docker-registry") or sys.exit("docker-registry is not installed (apt-get install docker-registry)")
    sys.exit(main())

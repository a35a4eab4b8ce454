"""Execute the notebooks on the sample registry, for the site: `build/tutorials` then has one record of each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from site_pages import RECORDS, ROOT

REGNB = (sys.executable, "-m", "regnb")
PORT = 5000
"""As the texts of the notebooks have it."""


def main() -> None:
    """Start the sample registry, run each notebook, and stop it."""
    shutil.rmtree(RECORDS, ignore_errors=True)
    RECORDS.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "demo")
        log = Path(folder, "demo.log")
        with log.open("w") as out:
            serving = subprocess.Popen(
                [*REGNB, "demo", "--serve", "--data", data, "--port", str(PORT)], stdout=out, stderr=subprocess.STDOUT
            )
        try:
            until = time.monotonic() + 120
            while "Serving" not in log.read_text(encoding="utf-8"):
                if serving.poll() is not None or time.monotonic() > until:
                    sys.exit(f"The sample registry did not start; port {PORT} must be free.")
                time.sleep(0.2)
            url = f"http://127.0.0.1:{PORT}"
            environment = {**os.environ, "REGNB_URL": url, "REGNB_DEMO": url, "REGNB_STORAGE": str(data / "storage")}
            environment |= {
                "REGNB_SNAPSHOTS": str(data / "sample-snapshots"),
                "REGNB_RECEIPTS": str(Path(folder, "receipts")),
            }
            for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
                sys.stdout.write(f"{path.stem}\n")
                command = [*REGNB, "run", path.stem, "-o", RECORDS]
                subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL)
                if not list(RECORDS.glob(f"{path.stem}-*.ipynb")):
                    sys.exit(f"{path.stem} left no record")
        finally:
            serving.terminate()
            serving.wait()


if __name__ == "__main__":
    main()

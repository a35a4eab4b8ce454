"""``regnb`` and ``python -m regnb``: the command line, or the extra that it lacks."""

import atexit
import gc
import os
import sys

from regnb.errors import MissingExtra


def main() -> None:
    """Run the command line; without its extra, say in two lines how to install it."""
    # Commands make many objects and few circles: Python looks for these less often.
    gc.set_threshold(50_000, 20, 20)
    # What is left when the process ends need not be searched: that took a fifth of what a short command takes.
    atexit.register(gc.freeze)
    # Arrow's own allocator is slow to give back what tables took while they were made: an eighth of a large audit.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        from regnb import cli  # what it raises is the point
    except MissingExtra as error:
        sys.exit(f"Error: {error.message}\nHint: {error.hint}")
    cli.main()


if __name__ == "__main__":
    main()

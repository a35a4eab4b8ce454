"""``regnb`` and ``python -m regnb``: the command line, or the extra that it lacks."""

import sys

from regnb.errors import MissingExtra


def main() -> None:
    """Run the command line; without its extra, say in two lines how to install it."""
    try:
        from regnb import cli  # what it raises is the point
    except MissingExtra as error:
        sys.exit(f"Error: {error.message}\nHint: {error.hint}")
    cli.main()


if __name__ == "__main__":
    main()

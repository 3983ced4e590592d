"""``python -m counterlens`` is the command ``counterlens``."""

from counterlens.cli.main import entry

if __name__ == "__main__":
    entry()

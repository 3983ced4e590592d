"""Who works on what, where several drivers share a run's folder: a file a unit, made by whoever is first.

A claim is good while its owner touches it. One whose process is gone (same machine) or that nobody has touched for
``patience`` seconds (another machine) may be taken over; what was finished under it is kept in any case.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from counterlens.core.utils.files import HOST, alive, explained, locked

PATIENCE = 90.0
BEAT = 10.0


@dataclass
class Claims:
    """The claims of one driver in ``folder``. ``with`` keeps them fresh in the background."""

    folder: Path
    patience: float = PATIENCE
    held: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def __enter__(self) -> Claims:
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for unit in list(self.held):
            self.release(unit)

    def take(self, unit: str) -> bool:
        """Whether the unit is ours now."""
        path = self.folder / unit
        with explained(path), locked(self.folder / ".lock"):
            if path.exists() and not self._abandoned(path):
                return False
            path.write_text(json.dumps({"host": HOST, "pid": os.getpid()}))
        self.held.add(unit)
        return True

    def release(self, unit: str) -> None:
        """Done with it, or given up."""
        self.held.discard(unit)
        with suppress(OSError):
            (self.folder / unit).unlink()

    def _abandoned(self, path: Path) -> bool:
        try:
            owner = json.loads(path.read_text())
            if owner["host"] == HOST:
                return not alive(int(owner["pid"]))
            return time.time() - path.stat().st_mtime > self.patience
        except FileNotFoundError:
            return True
        except (OSError, ValueError, KeyError, TypeError):
            return True  # torn by a kill

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            for unit in list(self.held):
                with suppress(OSError):
                    os.utime(self.folder / unit)

"""Follow one picture through the house: ``python tools/follow_request.py`` prints the rooms that a request enters.

It runs ``counterlens explain shapes:0`` with a few steps under ``sys.setprofile`` and hears every call from a room of
core to another; what runs because a file is imported is left out. The path is what a reader of ``core/engine`` meets:
what its own functions call. Plugins stand behind hooks, so what they call is theirs; ``utils`` and ``errors`` are lent
to every room and are no places to go. Two readings are counted: every call, and without methods of values that were
handed on (the registry, the pool, a scene).
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parent.parent
CALL = ("explain", "shapes:0", "--method", "guided", "--steps", "4", "--quiet")
LENT = ("utils", "errors")  # helpers of all rooms


@dataclass(frozen=True)
class Call:
    """A call of ours: of ``name`` in ``room``; ``method``: of a value that the caller had already."""

    room: str
    name: str
    method: bool = False


@dataclass
class Walk:
    """Which rooms were entered: by anybody, and by functions of the engine, in order."""

    entered: list[str] = field(default_factory=list)  # as each room was first called from another
    path: list[tuple[Call, Call]] = field(default_factory=list)  # (function of the engine, what it called elsewhere)
    stack: list[Call | None] = field(default_factory=list)  # None: not ours
    importing: int = 0

    def hear(self, frame: FrameType, event: str, _: object) -> None:
        """A call or a return, as ``sys.setprofile`` tells it."""
        name = frame.f_code.co_name
        if event == "return" and self.stack:
            self.stack.pop()
            self.importing -= name == "<module>"
        if event != "call":
            return
        self.importing += name == "<module>"
        call = None if self.importing or name.startswith("<") else call_of(frame)
        caller = next((one for one in reversed(self.stack) if one), None)
        self.stack.append(call)
        if call and (not caller or call.room != caller.room):
            if call.room not in self.entered:
                self.entered.append(call.room)
            if caller and caller.room == "engine":
                self.path.append((caller, call))

    def visits(self, methods: bool) -> list[str]:
        """The engine's path from room to room, without what is lent and without plugins."""
        calls = [call for _, call in self.path if methods or not call.method]
        rooms = [call.room for call in calls if call.room not in LENT and not call.room.startswith("(")]
        return [room for room, _ in groupby(rooms)]


def call_of(frame: FrameType) -> Call | None:
    """What a frame runs, if it is ours. Making a dataclass runs code of no file: its class says whose it is."""
    code = frame.f_code
    if code.co_name == "__init__" and (own := frame.f_locals.get("self")) is not None:
        _, *parts = type(own).__module__.split(".")
        return Call(*place(parts, type(own).__name__)) if type(own).__module__.startswith("counterlens.") else None
    path = Path(code.co_filename)
    if code.co_name.startswith("__") or not path.is_absolute():
        return None
    path = resolved(path)
    if not path.is_relative_to(ROOT):
        return None
    parts = [*path.relative_to(ROOT).parts[:-1], path.stem]
    return Call(*place(parts, code.co_name), method=bool(code.co_argcount) and code.co_varnames[0] == "self")


@cache
def resolved(path: Path) -> Path:
    return path.resolve()


def place(parts: list[str], name: str) -> tuple[str, str]:
    """(room, file.name) of something in a module; a folder beside core is a room in brackets."""
    room = parts[1] if parts[0] == "core" and len(parts) > 1 else f"({parts[0]})"
    return room, f"{parts[-1]}.{name}"


def follow(arguments: tuple[str, ...] = CALL) -> Walk:
    """Run the command and say where it went."""
    from counterlens.cli.main import main

    walk = Walk()
    with tempfile.TemporaryDirectory() as folder:
        sys.setprofile(walk.hear)
        try:
            main.main([*arguments, "--out", folder], standalone_mode=False)
        finally:
            sys.setprofile(None)
    return walk


def show(walk: Walk) -> None:
    """The path, a line a function of the engine, and how often each room was entered."""
    for what, calls in groupby(walk.path, lambda pair: pair[0]):
        steps = [f"{call.room}/{call.name}" for _, call in calls]
        print(f"engine/{what.name}: {', '.join(step for step, _ in groupby(steps))}")
    rooms = [room for room in walk.entered if not room.startswith("(")]
    print(f"\nrooms of core entered: {len(rooms)} ({', '.join(rooms)})")
    for methods, words in ((True, "every call"), (False, "without methods of values handed on")):
        visits = walk.visits(methods)
        print(f"\n{words}: {' > '.join(visits)}")
        print("times entered:", ", ".join(f"{room} {times}" for room, times in Counter(visits).most_common()))


if __name__ == "__main__":
    show(follow())

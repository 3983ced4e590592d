"""The pool: every pipeline and classifier is loaded once, lent to whoever asks, and counted in bytes."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from counterlens.core.errors import DirtyReturn, PoolFull
from counterlens.core.utils.digest import weight_hashes

__all__ = ["Key", "Lent", "Pool", "bytes_of", "weight_hashes"]

SHARE = 0.85  # of the GPU memory that was free at first: the rest is for activations


class Lent(Protocol):
    """Anything with modules: a family, a classifier, a segmenter, a captioner."""

    @property
    def modules(self) -> Mapping[str, nn.Module]: ...


L = TypeVar("L", bound=Lent)


@dataclass(frozen=True)
class Key:
    """What makes two loaded models the same one; ``options`` are (name, value) pairs such as ("offload", "model")."""

    model: str
    revision: str = ""
    variant: str = ""
    dtype: str = "float32"
    device: str = "cpu"
    adapters: tuple[str, ...] = ()
    options: frozenset[tuple[str, Any]] = frozenset()


@dataclass
class _Entry:
    lent: Any
    clean: dict[str, dict[str, Any]]
    borrowers: list[int] = field(default_factory=list)  # a thread id for each loan
    condemned: bool = False


class Pool:
    """Lends models; drops the least recently used that is not on loan when ``budget`` bytes are passed.

    Without a budget the CPU has no limit, and each GPU 85 % of what was free on it before its first model.
    With one, the models of all devices count together.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self._held: OrderedDict[Key, _Entry] = OrderedDict()
        self._leaving: list[_Entry] = []  # came back dirty while somebody else still has them: bytes that still count
        self._limits: dict[str, int] = {}
        self._lock = threading.RLock()

    @contextmanager
    def lend(self, key: Key, load: Callable[[Key], L]) -> Iterator[L]:
        """Borrow the model of ``key``, loading it with ``load(key)`` if nobody has yet.

        Raises PoolFull if it does not fit beside those on loan (it is dropped again), and DirtyReturn at the end if
        hooks, modes or forwards were left changed (it will be loaded anew). An exception of the body always wins.
        """
        me = threading.get_ident()
        entry, before = self._take(key, load, me)
        try:
            yield entry.lent
        except BaseException:
            self._give_back(key, entry, before, me)
            raise
        if changes := self._give_back(key, entry, before, me):
            more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
            what = ", ".join(changes[:3]) + more
            raise DirtyReturn(f"{key.model} came back changed: {what}; it will be loaded anew, mend the borrower")

    def used(self, device: str | None = None) -> int:
        """Bytes of all models held, each storage counted once; with ``device`` ("cuda:0") only what lies there."""
        with self._lock:
            held = [*self._held.values(), *self._leaving]
            merged: dict[tuple[str, int], int] = {}
            for entry in held:
                merged |= _storages(entry.lent.modules)
        return sum(size for (where, _), size in merged.items() if device in (None, where))

    def held(self) -> tuple[Key, ...]:
        """What is loaded now, least recently used first."""
        with self._lock:
            return tuple(self._held)

    def clear(self) -> None:
        """Drop everything that is not on loan."""
        with self._lock:
            self._drop([key for key, entry in self._held.items() if not entry.borrowers])

    def _take(self, key: Key, load: Callable[[Key], L], me: int) -> tuple[_Entry, dict[str, dict[str, Any]]]:
        with self._lock:  # held while loading, so that two threads that ask at once load once
            if key in self._held:
                self._held.move_to_end(key)
            else:
                self._limit(key)  # a GPU's free memory is taken before the first model is on it
                lent = self._load(key, load)
                self._held[key] = _Entry(lent, _snapshot(lent.modules))
                self._fit(key)
            entry = self._held[key]
            entry.borrowers.append(me)
            return entry, _snapshot(entry.lent.modules)

    def _load(self, key: Key, load: Callable[[Key], L]) -> L:
        try:
            return load(key)
        except torch.cuda.OutOfMemoryError:
            pass  # outside the except clause, or its traceback keeps the half-loaded model alive
        self.clear()
        try:
            return load(key)
        except torch.cuda.OutOfMemoryError as error:
            held = _mib(self.used())
            hint = "try --dtype bfloat16, CPU offload or a smaller model"
            raise PoolFull(f"{key.model} does not fit on {key.device} beside {held} on loan: {hint}") from error

    def _fit(self, new: Key) -> None:
        limit, where = self._limit(new)
        if limit is None:
            return
        for key in [k for k, entry in self._held.items() if not entry.borrowers and k != new]:
            if self.used(where) <= limit:
                return
            self._drop([key])
        if (used := self.used(where)) > limit:
            own = bytes_of(self._held[new].lent.modules)
            self._drop([new])
            raise PoolFull(
                f"{new.model} ({_mib(own)}) does not fit: {_mib(used)} would be held, the limit is {_mib(limit)}; "
                "use a smaller dtype, CPU offload or a larger budget"
            )

    def _limit(self, key: Key) -> tuple[int | None, str | None]:
        device = torch.device(key.device)
        if self.budget is not None or device.type != "cuda" or not torch.cuda.is_available():
            return self.budget, None
        where = str(torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index))
        if where not in self._limits:
            free, _ = torch.cuda.mem_get_info(where)
            self._limits[where] = int(free * SHARE)
        return self._limits[where], where

    def _give_back(self, key: Key, entry: _Entry, before: dict[str, dict[str, Any]], me: int) -> list[str]:
        """Names what changed and condemns the model if anything did."""
        with self._lock:
            entry.borrowers.remove(me)
            if entry.condemned:
                changes = []
            elif not entry.borrowers:
                changes = _changes(entry.clean, _snapshot(entry.lent.modules))
            elif set(entry.borrowers) == {me}:  # a loan inside a loan: it must leave what it found
                changes = _changes(before, _snapshot(entry.lent.modules))
            else:  # another thread has it too: whose change it is cannot be told before the last one is back
                changes = []
            if changes:
                entry.condemned = True
                self._leaving.append(entry)
                self._held.pop(key, None)
            if entry.condemned and not entry.borrowers:
                self._leaving.remove(entry)
                _free()
        return changes

    def _drop(self, keys: list[Key]) -> None:
        for key in keys:
            del self._held[key]
        if keys:
            _free()


def bytes_of(modules: Mapping[str, nn.Module]) -> int:
    """Bytes of the parameters and buffers, each storage once; what lies on the meta device has none."""
    return sum(_storages(modules).values())


def _storages(modules: Mapping[str, nn.Module]) -> dict[tuple[str, int], int]:
    tensors = (t for m in modules.values() for t in (*m.parameters(), *m.buffers()) if t.device.type != "meta")
    parts = ((str(t.device), t.untyped_storage()) for t in tensors)
    return {(where, part.data_ptr()): part.nbytes() for where, part in parts}


def _snapshot(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Any]]:
    """What a borrower could leave behind, by module path. Objects are kept, not their ids, which may be used again."""
    return {
        f"{root}.{path}".rstrip("."): _state(module)
        for root, top in modules.items()
        for path, module in top.named_modules()
    }


def _state(m: nn.Module) -> dict[str, Any]:
    return {
        "forward hook": tuple(m._forward_hooks),
        "forward pre-hook": tuple(m._forward_pre_hooks),
        "backward hook": (*m._backward_hooks, *m._backward_pre_hooks),
        "training mode": m.training,
        "requires_grad": tuple((n, p.requires_grad) for n, p in m.named_parameters(recurse=False)),
        "replaced forward": vars(m).get("forward"),
        "attention processor": vars(m).get("processor") or m._modules.get("processor"),
    }


def _changes(before: Mapping[str, dict[str, Any]], after: Mapping[str, dict[str, Any]]) -> list[str]:
    new = [f"module added at {path}" for path in after if path not in before]
    gone = [f"module removed at {path}" for path in before if path not in after]
    both = ((path, state, after[path]) for path, state in before.items() if path in after)
    return [f"{what} at {path}" for path, a, b in both for what in a if not _same(a[what], b[what])] + new + gone


def _same(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, (tuple, bool)) and a == b)


def _free() -> None:
    gc.collect()  # pipelines are full of reference cycles
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _mib(n: int) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.1f} MiB"

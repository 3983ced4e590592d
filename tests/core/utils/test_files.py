"""Files are whole or not there."""

import errno
import math
import os
from pathlib import Path

import numpy as np
import pytest

from counterlens.core.errors import MissingError, RunFailed
from counterlens.core.utils import files


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    files.write_atomic(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(files, "write_all", full)
    with pytest.raises(MissingError, match="no space left to write a in"), files.explained(path):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "code, error, words", [(errno.EACCES, MissingError, "no permission"), (errno.EIO, RunFailed, "cannot write")]
)
def test_troubles_are_one_line(code, error, words):
    with pytest.raises(error, match=words), files.explained(Path("x")):
        raise OSError(code, os.strerror(code))


def test_leftovers_of_dead_processes_are_swept_and_of_living_ones_are_not(tmp_path):
    mine = files.temporary(tmp_path / "a")
    dead = tmp_path / f"b.tmp-{files.HOST}-{2**22 + 1}-0123abcd"
    for path in (mine, dead):
        path.write_bytes(b"")
    assert files.sweep(tmp_path) == [dead] and mine.exists() and not dead.exists()
    assert files.alive(os.getpid()) and not files.alive(2**22 + 1)


def test_plain_values_are_strict_json():
    value = {1: (math.inf, np.float32(0.5)), "p": Path("a"), "a": np.arange(2), "s": None}
    assert files.plain(value) == {"1": [None, 0.5], "p": "a", "a": [0, 1], "s": None}


def test_the_cache_folder_is_chosen_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTERLENS_CACHE", str(tmp_path))
    assert files.cache_folder() == tmp_path

"""Digests, and tensors on the disk under them."""

import errno
import os
import warnings

import pytest
import torch

from counterlens.core.utils.tensor_cache import Cache


def key(cache, name="a"):
    return cache.key({"image": name, "dtype": torch.float32, "steps": 50})


def test_round_trip(tmp_path):
    cache = Cache(tmp_path)
    base = torch.randn(2, 4, 8, 8)
    tensors = {"x": base, "view": base.transpose(1, 2), "half": base.half(), "b": base.bfloat16(), "n": torch.tensor(3)}
    assert cache.get(key(cache)) is None
    cache.put(key(cache), tensors)
    found = Cache(tmp_path).get(key(cache))
    assert all(torch.equal(found[n], t) and found[n].dtype == t.dtype for n, t in tensors.items())
    assert key(cache) != key(cache, "b") and cache.size() > 0 and cache.clear() > 0 and cache.size() == 0


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_file_is_a_miss_and_goes(tmp_path, damage):
    cache = Cache(tmp_path)
    cache.put(key(cache), {"x": torch.ones(100)})
    path = cache.path(key(cache))
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(key(cache)) is None and not path.exists()


def test_least_recently_used_goes_first(tmp_path):
    cache = Cache(tmp_path, limit=10_000)
    for k, name in enumerate("abc"):
        cache.put(key(cache, name), {"x": torch.zeros(700)})
        os.utime(cache.path(key(cache, name)), (k + 1, k + 1))
    assert cache.get(key(cache, "a")) is not None  # used now: b is the oldest
    cache.put(key(cache, "d"), {"x": torch.zeros(700)})
    assert [n for n in "abcd" if cache.get(key(cache, n)) is not None] == ["a", "c", "d"]
    cache.put(key(cache, "e"), {"x": torch.zeros(7000)})
    assert cache.get(key(cache, "e")) is None and cache.get(key(cache, "d")) is not None


def test_a_full_disk_warns_once_and_goes_on(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = Cache(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="takes nothing more") as caught:
        cache.put(key(cache), {"x": torch.ones(1)})
        cache.put(key(cache), {"x": torch.ones(1)})
    assert len(caught) == 1 and list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_a_miss(tmp_path):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache.put(key(cache), {"x": torch.ones(1)})
    assert cache.get(key(cache)) is None


def test_keys_are_digests_and_the_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTERLENS_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="not a cache key"):
        Cache().get("../x")
    assert tmp_path in Cache().folder.parents

"""The pool: loaded once, counted once, returned clean."""

import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from counterlens.core.errors import DirtyReturn, PoolFull
from counterlens.core.models.pool import Key, Pool, bytes_of

MIB = 2**20


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q, self.processor = nn.Linear(4, 4), SimpleNamespace()


class Loader:
    """1 MiB of its own and 1 MiB shared by all; counts the loads of each key."""

    def __init__(self):
        self.vae, self.loads = nn.Linear(256, 1024, bias=False), []

    def __call__(self, key):
        self.loads.append(key.model)
        return SimpleNamespace(modules={"unet": nn.Linear(512, 512, bias=False), "vae": self.vae, "attn": Attention()})


SMALL = bytes_of({"attn": Attention()})


def names(pool):
    return [key.model for key in pool.held()]


def test_loaded_once_shared_and_counted_once():
    pool, load = Pool(), Loader()
    with pool.lend(Key("a"), load) as one, pool.lend(Key("a"), load) as two, pool.lend(Key("b"), load):
        assert one is two and load.loads == ["a", "b"]
    assert pool.used() == 3 * MIB + 2 * SMALL == pool.used("cpu") and pool.used("cuda:0") == 0


@pytest.mark.parametrize(
    "other", [{"revision": "x"}, {"dtype": "float16"}, {"adapters": ("l",)}, {"options": frozenset({("tiling", True)})}]
)
def test_what_differs_in_the_key_is_another_model(other):
    pool, load = Pool(), Loader()
    with pool.lend(Key("a"), load) as one, pool.lend(Key("a", **other), load) as two:
        assert one is not two


def test_least_recently_used_is_dropped():
    pool, load = Pool(budget=int(3.5 * MIB)), Loader()
    for name in "abac":
        with pool.lend(Key(name), load):
            pass
    assert names(pool) == ["a", "c"] and load.loads == ["a", "b", "c"]


def test_what_does_not_fit_is_dropped_again_and_both_numbers_are_said():
    pool, load = Pool(budget=int(2.5 * MIB)), Loader()
    with pool.lend(Key("a"), load), pytest.raises(PoolFull, match=r"3\.0 MiB.*2\.5 MiB"), pool.lend(Key("b"), load):
        pass
    assert names(pool) == ["a"]
    with pool.lend(Key("b"), load):
        assert names(pool) == ["b"]


def test_the_meta_device_has_no_bytes():
    assert bytes_of({"m": nn.Linear(9999, 9999, device="meta")}) == 0


LEFT = {
    "forward hook at unet": lambda m: m["unet"].register_forward_hook(lambda *a: None),
    "forward pre-hook at vae": lambda m: m["vae"].register_forward_pre_hook(lambda *a: None),
    "backward hook at unet": lambda m: m["unet"].register_full_backward_hook(lambda *a: None),
    "training mode at unet": lambda m: m["unet"].eval(),
    "requires_grad at attn.to_q": lambda m: m["attn"].to_q.bias.requires_grad_(False),
    "replaced forward at unet": lambda m: setattr(m["unet"], "forward", lambda x: x),
    "attention processor at attn": lambda m: setattr(m["attn"], "processor", SimpleNamespace()),
    "module added at attn.lora": lambda m: m["attn"].add_module("lora", nn.Identity()),
}


@pytest.mark.parametrize("what", LEFT)
def test_what_a_borrower_leaves_behind_is_named(what):
    pool, load = Pool(), Loader()
    with pytest.raises(DirtyReturn, match=f"mine came back changed: {what}"), pool.lend(Key("mine"), load) as lent:
        LEFT[what](lent.modules)
    assert pool.held() == () and pool.used() == 0
    with pool.lend(Key("mine"), load) as again:
        assert again is not lent


def test_what_is_taken_back_is_clean():
    pool, load = Pool(), Loader()
    with pool.lend(Key("a"), load) as lent:
        handle = lent.modules["unet"].register_forward_hook(lambda *a: None)
        with pool.lend(Key("a"), load):  # a loan inside finds the hook and leaves it
            pass
        handle.remove()
    assert names(pool) == ["a"]


def test_a_loan_inside_a_loan_is_the_one_that_is_named():
    pool, load = Pool(), Loader()
    with pool.lend(Key("a"), load) as lent:
        with pytest.raises(DirtyReturn), pool.lend(Key("a"), load):
            LEFT["forward hook at unet"](lent.modules)
        assert pool.held() == () and pool.used() > 0  # still on loan, still counted
    assert pool.used() == 0


def test_the_exception_of_the_body_wins_and_the_model_is_not_lent_again():
    pool, load = Pool(), Loader()
    with pytest.raises(ZeroDivisionError), pool.lend(Key("a"), load) as lent:
        LEFT["forward hook at unet"](lent.modules)
        raise ZeroDivisionError
    assert pool.held() == ()
    with pytest.raises(ZeroDivisionError), pool.lend(Key("a"), load):
        raise ZeroDivisionError
    assert names(pool) == ["a"]


def test_a_load_that_fails_leaves_nothing():
    pool = Pool()
    with (
        pytest.raises(OSError, match="no weights"),
        pool.lend(Key("a"), lambda key: (_ for _ in ()).throw(OSError("no weights"))),
    ):
        pass
    assert pool.held() == ()


def test_out_of_memory_drops_what_is_idle_and_tries_once_more():
    pool, load = Pool(), Loader()
    with pool.lend(Key("idle"), load):
        pass

    def tight(key):
        if "idle" in names(pool):
            raise torch.cuda.OutOfMemoryError("full")
        return load(key)

    with pool.lend(Key("b"), tight):
        assert names(pool) == ["b"]
    with (
        pytest.raises(PoolFull, match="does not fit on cpu"),
        pool.lend(Key("c"), lambda key: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("full"))),
    ):
        pass


def test_many_threads_load_once():
    pool, load, seen, barrier = Pool(), Loader(), [], threading.Barrier(8)

    def work():
        barrier.wait()
        for _ in range(20):
            with pool.lend(Key("a"), load) as lent:
                seen.append(id(lent))

    threads = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert load.loads == ["a"] and len(seen) == 160 and len(set(seen)) == 1 and names(pool) == ["a"]


def test_another_threads_hook_is_not_blamed_on_who_returns_first():
    pool, load = Pool(), Loader()
    with pool.lend(Key("a"), load) as lent:

        def other():
            with pool.lend(Key("a"), load):
                lent.modules["unet"].register_forward_hook(lambda *a: None)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        lent.modules["unet"]._forward_hooks.clear()
    assert names(pool) == ["a"]


def test_a_gpu_is_limited_by_what_was_free_before_its_first_model(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (100 * MIB, 200 * MIB))
    pool = Pool()
    assert pool._limit(Key("a", device="cuda")) == (85 * MIB, "cuda:1")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (1 * MIB, 200 * MIB))
    assert pool._limit(Key("b", device="cuda:1")) == (85 * MIB, "cuda:1")
    assert pool._limit(Key("b")) == (None, None) and Pool(budget=5)._limit(Key("a", device="cuda")) == (5, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_has_a_limit_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (2 * MIB, 2 * MIB))
    pool = Pool()

    def load(key):
        return SimpleNamespace(modules={"unet": nn.Linear(512, 512, bias=False, device=key.device)})

    with pool.lend(Key("a", device="cuda"), load), pool.lend(Key("c"), load):
        assert pool.used("cuda:0") == MIB == pool.used("cpu")
        with pytest.raises(PoolFull, match=r"2\.0 MiB.*1\.7 MiB"), pool.lend(Key("b", device="cuda:0"), load):
            pass

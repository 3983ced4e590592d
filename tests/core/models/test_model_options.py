"""Which pipeline and where it runs: one set of options, flat in whatever holds them."""

import pytest
from pydantic import ValidationError

from counterlens.benchmarks.protocol.protocol import Protocol
from counterlens.benchmarks.protocol.suite import suite
from counterlens.core.engine.request import Request
from counterlens.core.h_space.job import FindRequest
from counterlens.core.models.model_options import WHERE, ModelOptions, PipelineOptions
from counterlens.core.utils.digest import digest

SAID = {"model": "a/b", "dtype": "float16", "adapters": ("x",), "prior": "p", "revision": "q", "variant": "fp16"}


def test_what_is_not_given_is_the_default():
    empty = ModelOptions(model="", dtype=None, adapters=None, hand_over=None, device=None, offline=None)
    assert empty == ModelOptions() and empty.model is None
    with pytest.raises(ValidationError):
        ModelOptions(dtype="float8")


def test_requests_and_protocols_hold_every_option():
    everywhere = {**SAID, "device": "cpu", "offload": True, "tiling": True, "offline": True}
    for one in (Request(images=("i",), **everywhere), FindRequest(**everywhere), ModelOptions(**everywhere)):
        assert {name: getattr(one, name) for name in everywhere} == everywhere
    assert {name: getattr(Protocol(data="d", classifier="c", **SAID), name) for name in SAID} == SAID
    assert not WHERE & Protocol.model_fields.keys()  # where it runs changes no number


def test_the_key_tells_pipelines_apart():
    plain, key = ModelOptions(device="cpu").key("folder"), ModelOptions(device="cpu", **SAID).key("folder")
    assert plain.options == frozenset() and plain.model == "folder"
    assert (key.dtype, key.adapters, key.revision, key.variant) == ("float16", ("x",), "q", "fp16")
    assert dict(key.options) == {"prior": "p"}
    refined = ModelOptions(device="cpu", refiner="r", offload=True).key("folder")
    assert dict(refined.options) == {"refiner": "r", "hand_over": 0.8, "offload": True}


def test_digests_of_records_and_protocols_are_those_of_before():
    """Records that exist are found again: the digests were taken when each of these held fields of its own."""
    assert digest(Request(images=("shapes:0",)).settings())[:16] == "fcca7e9c22b842d2"
    assert suite("smoke").protocol.hash[:12] == "ab06a90ac851"
    assert suite("shapes").protocol.hash[:12] == "f2c2a30efe38"


def test_another_adapter_is_another_protocol():
    plain = Protocol(data="d", classifier="c")
    other = Protocol(data="d", classifier="c", adapters=("x",))
    assert plain.hash != other.hash and "adapters" not in plain.dumped() and other.dumped()["adapters"] == ["x"]
    content = {key: value for key, value in other.dumped().items() if key != "hash"}
    assert Protocol(**content) == other


def test_results_do_not_depend_on_where():
    assert PipelineOptions.model_fields.keys() < Request(images=("i",)).settings().keys()
    assert not WHERE & Request(images=("i",)).settings().keys()

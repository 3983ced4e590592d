"""Seeds: a stream for each use, and the same one every time."""

import torch

from counterlens.core.utils.seeds import generator, key


def test_a_key_is_63_bits_that_depend_on_every_part_and_their_order():
    assert key(0, 3, "words") == 519918646638613848 < 2**63, "streams are the same for ever"
    assert len({key(0, 3, "words"), key(3, 0, "words"), key(0, 3, "noise"), key(0, 3)}) == 4


def test_one_number_seeds_as_it_is_and_several_by_their_key():
    def first(*parts):
        return float(torch.rand(1, generator=generator(*parts)))

    assert first(5) == float(torch.rand(1, generator=torch.Generator().manual_seed(5)))
    assert first(5 + 2**63) == first(5)
    assert first(5, "a") == first(key(5, "a")) != first(5, "b")

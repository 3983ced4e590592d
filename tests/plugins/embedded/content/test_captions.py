"""Captions say the factors; the tokenizer has one token a word."""

import numpy as np
import pytest

from counterlens.core.training.tokenizer import load_tokenizer, merged
from counterlens.plugins.embedded.content import captions, shapes


def test_captions_say_the_factors():
    f = shapes.Factors(0.9, 0.0, 0.5, 0.39, 0.2, 0.44, 0.56, 5)
    assert captions.of_shape(f) == "a spiky large red kiki with five lobes on a cyan background at bottom left"
    short = captions.of_shape(f, np.random.default_rng(3))
    assert "kiki" in short and len(short) < len(captions.of_shape(f))


def test_later_merges_do_not_undo_earlier_words():
    vocab, merges = captions.vocabulary()
    ranks = {pair: i for i, pair in enumerate(merges)}
    for word in (*captions.COLOURS, *captions.NUMBERS, *captions.GLUE, *captions.GRADES):
        assert merged([*word[:-1], word[-1] + "</w>"], ranks) == [word + "</w>"]
        assert word + "</w>" in vocab


def test_tokenizer_files(tmp_path):
    pytest.importorskip("transformers")
    captions.write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    ids = tokenizer("A spiky kiki", padding="max_length", max_length=captions.MAX_LENGTH).input_ids
    vocab, _ = captions.vocabulary()
    assert ids[:6] == [vocab["<|startoftext|>"], vocab["a</w>"], vocab["spiky</w>"], vocab["kiki</w>"]] + ids[-1:] * 2
    assert len(ids) == captions.MAX_LENGTH


def test_swapped_captions_are_those_of_the_other_class():
    from dataclasses import replace

    from counterlens.plugins.embedded.make.export import tokenizer_folder
    from counterlens.plugins.embedded.make.pipelines import class_swapped

    tokenizer = load_tokenizer(tokenizer_folder())

    def ids_of(drawn):
        texts = [captions.of_shape(f) for f in drawn]
        return tokenizer(texts, padding="max_length", max_length=captions.MAX_LENGTH, return_tensors="pt").input_ids

    drawn = shapes.factors("test", 20)
    other = [replace(f, spikiness=1 - f.spikiness) for f in drawn]
    assert class_swapped(ids_of(drawn), tokenizer).equal(ids_of(other))

"""A small tokenizer whose tokens are the words that it was made for."""

from counterlens.core.training.tokenizer import END, START, byte_letters, merged, vocabulary, write_tokenizer


def test_every_byte_has_a_sign_of_its_own():
    signs = byte_letters()
    assert len(set(signs)) == 256 and signs[ord("a")] == "a" and " " not in signs


def test_every_word_is_one_token_also_as_the_library_reads_it(tmp_path):
    words = ("round", "rounder", "über", "a", "photo")
    vocab, merges = vocabulary(words)
    ranks = {pair: k for k, pair in enumerate(merges)}
    signs = byte_letters()
    for word in words:
        spelled = [signs[byte] for byte in word.encode()]
        assert len(merged([*spelled[:-1], spelled[-1] + "</w>"], ranks)) == 1
    write_tokenizer(tmp_path, vocab, merges, 16)
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("a rounder photo").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == [START, "a</w>", "rounder</w>", "photo</w>", END]
    assert len(tokenizer("zebra").input_ids) > 3, "another word falls into letters"

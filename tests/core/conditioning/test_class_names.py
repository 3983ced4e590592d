"""Class names in captions: whole words, any punctuation, articles, synonyms, and spaCy where it is there."""

import pytest

from counterlens.core.conditioning.class_names import (
    article,
    candidates,
    caption_naming,
    find_class_name,
    named,
    names_of,
    swap,
)
from counterlens.core.conditioning.nouns import grammar, rules
from counterlens.core.errors import MissingError, UsageError

RULES = rules()


@pytest.mark.parametrize(
    ("caption", "source", "target", "wanted"),
    [
        ("a cab in front of a cabinet", "cab", "tram", "a tram in front of a cabinet"),
        ("a cabinet with a scab and a cab", "cab", "tram", "a cabinet with a scab and a tram"),
        ("An apple and a pear", "apple", "kiki", "A kiki and a pear"),
        ("a red kiki", "kiki", "orange", "a red orange"),
        ("the kiki. It is an umbrella", "umbrella", "unicorn", "the kiki. It is a unicorn"),
        ("two small kikis on grass", "kiki", "fox", "two small foxes on grass"),
        ("a Kiki", "kiki", "bouba", "a bouba"),
    ],
)
def test_a_swap_is_of_whole_words_and_mends_the_article(caption, source, target, wanted):
    """C7: str.replace edited ``cab`` inside ``cabinet`` and left ``a orange``."""
    assert swap(caption, source, target, RULES).target == wanted


@pytest.mark.parametrize(
    "label", ["Bugatti Veyron 16.4", "Mercedes Conv.", "Ram C/V", "C++", "St. Bernard", "30's car"]
)
def test_names_with_dots_and_slashes(label):
    """C8: labels with a dot were not found and their images skipped; captions were cut at the dot."""
    caption = f"a photo of a {label} on a road. It is wet."
    assert named(caption, label, RULES)
    assert swap(caption, label, "kiki", RULES).target == "a photo of a kiki on a road. It is wet."
    assert swap("a kiki on a road", "kiki", label, RULES).target == f"{article(label)} {label} on a road"
    assert caption_naming("on a road", label, RULES)[0].startswith(f"{article(label)} {label}, ")


def test_a_caption_without_the_name_is_mended_or_refused():
    """C8 and R10: a word that was not found gave an empty mask, and an assertion that ended the process."""
    mended, note = caption_naming("a cat on a mat", "Egyptian cat", RULES)
    assert mended == "an Egyptian cat on a mat" and "'Egyptian cat'" in note
    assert caption_naming("", "kiki", RULES)[0] == "a kiki"
    assert caption_naming("a kiki", "kiki", RULES) == ("a kiki", "")
    assert find_class_name("a red thing", "kiki", RULES) is None
    with pytest.raises(UsageError, match=r"'a red thing' does not name its class 'kiki'.*--prompt"):
        caption_naming("a red thing", "kiki", RULES, repair=False)


def test_labels_that_other_lists_spell_otherwise():
    """C16: two lists that spell a label differently found neither caption nor inversion."""
    assert names_of("tench, Tinca_tinca") == ("tench", "Tinca tinca")
    for caption in ("a Tench", "a tinca tinca", "tenches"):
        assert named(caption, "tench, Tinca_tinca", RULES)
    assert named("a fire-engine", "fire engine", RULES) and named("a fire engine", "fire_engine", RULES)


def test_sub_words_of_a_name():
    found = find_class_name("a big white shark in the sea", "great white shark", RULES)
    assert found.how == "head" and (found.start, found.end) == (6, 17)
    assert caption_naming("a loaf on a table", "loaf of bread", RULES)[0] == "a loaf of bread on a table"
    assert find_class_name("it can crane its neck", "crane", RULES).how == "name", "a name itself is always found"


def test_words_of_captions_are_stripped_counted_and_may_be_none():
    """C13: `` cat`` and ``cat`` were two words, and an answer without brackets raised IndexError."""
    nouns = candidates([" Cat,  dog", "[cat ]", "a cat and two dogs.", "", "!?"], RULES)
    assert nouns == [("cat", 3), ("dog", 2)]
    assert candidates(["", "the of"], RULES) == []
    assert candidates(["a cat", "a cat", "a dog"], RULES, least=2) == [("cat", 2)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A pipeline of spaCy's with a tagger of rules, as a folder: no model can be fetched in a test."""
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("attribute_ruler")
    for word, pos, lemma in [("mice", "NOUN", "mouse"), ("mouse", "NOUN", "mouse"), ("crane", "VERB", "crane")]:
        ruler.add([[{"LOWER": word}]], {"POS": pos, "LEMMA": lemma})
    ruler.add([[{"LOWER": "field"}]], {"POS": "NOUN", "LEMMA": "field"})
    folder = tmp_path_factory.mktemp("spacy") / "model"
    nlp.to_disk(folder)
    return str(folder)


def test_spacy_finds_nouns_by_their_lemma(model):
    nouns = grammar(model)
    assert nouns.note == "" and nouns.name.startswith("spacy")
    assert caption_naming("three mice in a field", "field mouse", nouns)[0] == "three field mouse in a field"
    assert [word.lemma for word in nouns.words("The mice crane.") if word.noun] == ["mouse"]
    assert candidates(["mice in a field", "a mouse"], nouns) == [("mouse", 2), ("field", 1)]


def test_without_a_model_the_rules_are_used_and_said():
    pytest.importorskip("spacy")
    import spacy

    nouns = grammar()
    if spacy.util.is_package("en_core_web_sm"):
        assert nouns.note == ""
    else:
        assert nouns.name == "rules" and "python -m spacy download en_core_web_sm" in nouns.note
    with pytest.raises(MissingError, match="python -m spacy download no_such_model"):
        grammar("no_such_model")


def test_without_spacy_at_all(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "spacy", None)
    grammar.cache_clear()
    try:
        assert "pip install spacy" in grammar().note
        assert caption_naming("two mats", "mat", grammar())[1] == ""
    finally:
        grammar.cache_clear()

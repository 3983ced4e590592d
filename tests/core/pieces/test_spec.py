"""The mini-language of pieces."""

import pytest

from counterlens.core.errors import UsageError
from counterlens.core.pieces.spec import parse_spec


def test_a_name_and_its_options():
    assert parse_spec("l2 weight=0.5 'words=a b' at-step=x=1") == (
        "l2",
        {"weight": "0.5", "words": "a b", "at_step": "x=1"},
    )


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "an empty piece"),
        ("l2 'open", "No closing quotation"),
        ("l2 weight", "cannot read 'weight'"),
        ("l2 =1", "cannot read '=1'"),
        ("l2 at-step=1 at_step=2", "is given twice"),
    ],
)
def test_what_cannot_be_read_is_one_line(text, words):
    with pytest.raises(UsageError, match=words) as found:
        parse_spec(text)
    assert "\n" not in str(found.value)

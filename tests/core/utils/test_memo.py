"""What is made once and kept."""

from counterlens.core.utils.memo import Memo


def test_a_value_is_made_once_for_a_key():
    kept, made = Memo(), []

    def make():
        made.append(1)
        return None  # also what is nothing is kept

    assert kept.once("a", make) is None and kept.once("a", make) is None and len(made) == 1
    assert kept.once("b", lambda: 2) == 2 and kept["b"] == 2

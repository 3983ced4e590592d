"""Inversions are made once and charged as if alone."""


def test_a_stored_inversion_counts_as_without_the_store(problem, tmp_path):
    """Starts share their steps: a second start costs what it adds, whether it was made, kept, or found."""
    from counterlens.core.problem.inversion_cache import Inversions
    from counterlens.core.problem.inversion_ledger import InversionLedger
    from counterlens.core.utils.tensor_cache import Cache

    skips = (0.75, 0.25, 0.5)
    plain = problem(steps=8)
    for skip in skips:
        plain.invert(skip)
    for _ in range(2):
        p = problem(steps=8).with_(inversions=InversionLedger(Inversions(Cache(tmp_path))))
        assert [len(p.invert(skip).grid) for skip in skips] == [3, 7, 5]
        assert p.scene.net.meter.forward == plain.scene.net.meter.forward == dict.fromkeys(range(3), 6)

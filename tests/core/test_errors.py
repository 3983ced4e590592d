"""Errors that a user can act on."""

from counterlens.core import errors


def test_exit_codes():
    codes = {errors.RunFailed: 1, errors.UsageError: 2, errors.PlanError: 2, errors.MissingError: 4, errors.PoolFull: 4}
    assert all(error.exit_code == code for error, code in codes.items())
    assert all(issubclass(error, errors.CounterlensError) for error in codes)


def test_a_name_that_is_nearly_known_gets_a_suggestion():
    assert "did you mean 'guided'? known: guided, h-space" in str(
        errors.unknown("method", "guidde", ["h-space", "guided"])
    )
    assert str(errors.unknown("method", "zzz", [])) == "unknown method 'zzz': known: none"

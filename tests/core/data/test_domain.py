"""A domain is data too."""

import pytest

from counterlens.core.errors import UsageError
from counterlens.core.plugin.registry import load_registry

REGISTRY = load_registry(third_party=False)


def test_a_domain_is_a_data_set():
    found = REGISTRY.open_dataset("domain:digits?split=validation&first=12")
    assert len(found) == 12 and found.labels[4] == "four"
    domain = REGISTRY.domain("digits")
    for k, example in enumerate(found.examples):
        assert example.label == domain.sample(k, "validation").label
        assert (example.read() == domain.sample(k, "validation").pixels).all()
    other = REGISTRY.open_dataset("domain:digits?split=test&first=12")
    assert found.content() != other.content()
    with pytest.raises(UsageError, match="splits train, validation and test"):
        REGISTRY.open_dataset("domain:digits?split=val")

"""The digits: fixed, stratified splits."""

import numpy as np
import pytest

from counterlens.plugins.embedded.content import digits


def test_splits_hold_every_image_once_and_are_stratified():
    splits = digits.split_indices()
    together = np.concatenate([splits[name] for name in ("test", "val", "train", "train-judge")])
    assert len(together) == 1797 and len(set(together.tolist())) == 1797
    for name in ("test", "val", "train", "train-judge"):
        _, labels = digits.images(name)
        share = np.bincount(labels, minlength=10) / len(labels)
        assert share.min() > 0.085 and share.max() < 0.115


def test_images_are_grey_framed_and_smooth():
    pictures, labels = digits.images("test")
    assert pictures.shape[1:] == (32, 32, 3) and pictures.dtype == np.uint8
    assert np.array_equal(pictures[..., 0], pictures[..., 2])
    assert pictures[:, 0].max() < 20  # the frame
    assert len(labels) == 359


def test_unknown_split():
    with pytest.raises(ValueError, match="train-judge"):
        digits.images("trian")

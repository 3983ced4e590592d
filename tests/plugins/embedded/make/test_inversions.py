"""The trained pipelines give a real image back."""

import pytest
import torch

from counterlens.plugins.embedded.content import store
from counterlens.plugins.embedded.make import inversions

torch.set_num_threads(1)


@pytest.mark.parametrize("part", store.PIPELINES)
def test_inversions_give_the_image_back(part):
    found = inversions.of_inversions("shapes", store.WEIGHTS / "shapes", part, count=3)
    # 8-bit rounding on top of what the autoencoder alone loses
    assert found["edit_friendly_worst_loss_db"] <= 0.1
    assert found["ddim_psnr_db"] >= 25


@pytest.mark.parametrize("domain", ["shapes", "digits"])
def test_the_autoencoder_loses_little(domain):
    images, back = inversions.vae_round_trip(domain, store.WEIGHTS / domain, 50)
    assert inversions.quality(images, back).mean() >= 28

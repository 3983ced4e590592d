"""What a pipeline does to an image without any edit is said in every record."""

from dataclasses import replace

import torch

from counterlens.core.engine.reconstruction import reconstructions, warnings_of
from counterlens.plugins.guidance.target import Target


class Dimmed:
    """A pipeline whose decoder is off."""

    def __init__(self, pipeline, factor):
        self.pipeline, self.factor = pipeline, factor

    def __getattr__(self, name):
        return getattr(self.pipeline, name)

    def decode(self, x0):
        return self.factor * x0


def seen(p, factor):
    resources = replace(p.scene.resources, pipeline=Dimmed(p.scene.resources.pipeline, factor))
    return reconstructions(p.with_(scene=replace(p.scene, resources=resources)))


def test_an_exact_pipeline_changes_nothing(problem):
    p = problem(batch=2, guidance=(Target(),))
    rows = reconstructions(p)
    before = p.target_of(p.score(p.scene.x0)).tolist()
    assert [row["reconstruction_p_target"] for row in rows] == [round(value, 6) for value in before]
    assert all(row["reconstruction_psnr"] == 100 and not row["reconstruction_flipped"] for row in rows)
    assert all(warnings_of(row) == () for row in rows)


def test_a_pipeline_that_cannot_reproduce_is_named(problem):
    p = problem(batch=2, guidance=(Target(),))
    rows = seen(p, -1.0)  # the negative: far from the image, and the other half is brighter
    assert all(row["reconstruction_psnr"] < 20 and row["reconstruction_flipped"] for row in rows)
    low, alone = warnings_of(rows[0])
    assert "dB only" in low and "no edit is needed" in alone


def test_an_inverter_s_own_figure_has_the_last_word(problem):
    p = problem(batch=2, guidance=(Target(),))
    p.scene.net.meter.psnr[0] = 12.345
    assert [row["reconstruction_psnr"] for row in reconstructions(p)] == [12.345, 100.0]
    assert torch.isfinite(torch.tensor(12.345))

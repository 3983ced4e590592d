"""The options that the editor and the search of activations share: a file of directions, and the steps they act in."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from counterlens.core.pieces.base import Piece


class WindowOptions(Piece):
    """Which directions, fit to which steps, in which of them."""

    directions: str = Field("", description="file of counterlens directions find (or --directions FILE)")
    window: tuple[float, float] = Field(
        (0.0, 1.0), description="begin,end: shares of the trajectory, 0 is the noisy end"
    )
    schedule: Literal["flat", "rising", "falling", "middle"] = Field(
        "flat", description="how it weighs the steps in it"
    )
    resample: bool = Field(False, description="interpolate directions over timesteps if the steps are others")

    @model_validator(mode="after")
    def _ordered(self) -> WindowOptions:
        if not 0 <= self.window[0] < self.window[1] <= 1:
            raise ValueError("window is begin,end with 0 <= begin < end <= 1")
        return self

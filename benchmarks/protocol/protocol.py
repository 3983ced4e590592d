"""The protocol: everything that a number depends on beside the method, in one versioned, hashed value.

Two numbers can be compared when their protocols have the same hash; otherwise ``differences`` says why not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from counterlens.core.models.model_options import PipelineOptions
from counterlens.core.utils.digest import digest

SINCE_1 = frozenset(PipelineOptions.model_fields) - {"model", "dtype"}  # said only where they are not the default


class Protocol(PipelineOptions):
    """How images are chosen, what is asked of them, how they are measured. Frozen; ``hash`` names it.

    ``model``: the pipeline of all methods; the domain's best for each if none is given.
    """

    version: Literal[1] = Field(1, description="of the rules; numbers that mean something else get another")
    data: str = Field(description="URI of the data")
    classifier: str = Field(description="URI of the explained classifier, which may steer")
    judge: str = Field("", description="URI of the judge, which only reports")
    population: Literal["all", "correct"] = Field(
        "all", description="all images in order, or those that the explained classifier gets right"
    )
    direction: dict[str, str] | Literal["domain", "runner-up"] = Field(
        "domain", description="target of each decided class: {class: target}, the domain's own, or the runner-up"
    )
    selection_split: str = Field("validation", description="where hyper-parameters are chosen")
    split: str = Field("test", description="where numbers are reported")
    limit: int = Field(200, ge=1, description="images, the first of the split that the direction applies to")
    size: int | None = Field(None, ge=8, description="side of the images; the picture's own if not given")
    fit: Literal["crop", "pad", "squash"] = "crop"
    resize: Literal["lanczos"] = Field("lanczos", description="filter of every resize, antialiased")
    tau: float | None = Field(None, gt=0, lt=1, description="target probability to reach; the method's own if none")
    budget: int | None = Field(
        None, ge=1, description="U-Net and gradient evaluations an image; what costs more is marked, not stopped"
    )
    metrics: tuple[str, ...] = Field((), description="metrics as NAME key=value; the cheap ones if empty")
    backbones: dict[str, str] = Field({}, description="weights of metrics by word, such as lpips: alex")
    missing: Literal["counted"] = Field("counted", description="images without a number stay in the denominator")
    gallery: int = Field(256, ge=2, description="training images that real-image controls choose from")
    confidence: float = Field(0.95, gt=0, lt=1)
    resamples: int = Field(2000, ge=100, description="of the bootstrap over images")
    seed: int = Field(0, ge=0)
    draws: int = Field(1, ge=1, description="counterfactuals of each image by each method, under as many seeds")
    batch: int = Field(8, ge=1, description="images solved together; other sizes agree to rounding, not to the bit")

    @cached_property
    def hash(self) -> str:
        """64 hex digits."""
        return digest(self._content())

    def dumped(self) -> dict[str, Any]:
        """As a dictionary, with its hash."""
        return {**self._content(), "hash": self.hash}

    def _content(self) -> dict[str, Any]:
        fields = type(self).model_fields
        defaults = {name for name in SINCE_1 if getattr(self, name) == fields[name].default}
        return {**self.model_dump(mode="json", exclude=defaults), "model": self.model or ""}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What two dumped protocols disagree about: {field: (one's, other's)}."""
    fields = [name for name in dict.fromkeys((*one, *other)) if name != "hash"]
    return {name: (one.get(name), other.get(name)) for name in fields if one.get(name) != other.get(name)}

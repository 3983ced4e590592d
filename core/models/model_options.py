"""Which pipeline, and where and how it runs: the options of everything that loads one, with their help texts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from counterlens.core.models.pool import Key


class PipelineOptions(BaseModel):
    """Which pipeline and what is done to it: what a result depends on. None means that an option is not given."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str | None = Field(None, description="Pipeline: a folder, a hub id, or domain:NAME/FAMILY.")
    revision: str = Field("", description="Revision of a hub model.")
    variant: str = Field("", description="File variant of a model, such as fp16.")
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="Numbers that networks run in.")
    adapters: tuple[str, ...] = Field((), description="LoRA adapter to merge into the U-Net.")
    prior: str = Field("", description="Where an unCLIP model's image encoder is, if elsewhere.")
    refiner: str = Field("", description="SDXL's refiner, which takes over for the last steps.")
    hand_over: float = Field(0.8, gt=0, lt=1, description="Share of the noise schedule before the refiner takes over.")

    @model_validator(mode="before")
    @classmethod
    def _given(cls, values: Any) -> Any:
        """Without the options that are not given."""
        if not isinstance(values, dict):
            return values
        empty = {name for name in ModelOptions.model_fields if values.get(name, "") is None} | {"model"}
        return {name: value for name, value in values.items() if value or name not in empty}


class ModelOptions(PipelineOptions):
    """A pipeline and where it runs."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    offload: bool = Field(False, description="Keep parts of the pipeline in CPU memory while they rest.")
    tiling: bool = Field(False, description="Encode and decode large images in tiles.")
    offline: bool = Field(False, description="Use no network: only what is on this machine.")

    @classmethod
    def among(cls, values: Mapping[str, Any]) -> ModelOptions:
        """Those of the values that are model options; the others are left alone."""
        return cls(**{name: values[name] for name in ModelOptions.model_fields if name in values})

    def key(self, folder: str) -> Key:
        """What names the pipeline of this folder or hub id in the pool; UsageError for a device that is not there."""
        from counterlens.core.models.device import device_of
        from counterlens.core.models.pool import Key

        options: dict[str, Any] = {name: getattr(self, name) for name in ("offload", "tiling", "offline", "prior")}
        if self.refiner:
            options |= {"refiner": self.refiner, "hand_over": self.hand_over}
        return Key(
            folder,
            revision=self.revision,
            variant=self.variant,
            dtype=self.dtype,
            device=device_of(self.device),
            adapters=self.adapters,
            options=frozenset((name, value) for name, value in options.items() if value),
        )


WHERE = frozenset(ModelOptions.model_fields) - frozenset(PipelineOptions.model_fields)  # changes no result


def go_offline(offline: bool = True) -> None:
    """Tell the hub's client, if it is to be left alone: one that cannot be reached is asked for a minute."""
    if offline:
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from counterlens.core.problem.method_pieces import Search

if TYPE_CHECKING:
    from counterlens.core.problem.items import SearchResult
    from counterlens.core.problem.problem import Problem
    from counterlens.core.search.descent_variables import DescentSettings


class Descent(Search):
    """Descend the energies' gradient through the whole sampler (DiG-IN, Augustin et al. 2024): the start and every
    step's conditions are moved, editors stay.

    An image's best iterate is kept; in its record ``strength`` is the number of that iterate, 0 the walk as it was.
    """

    name: ClassVar[str] = "descent"
    strength_unit: ClassVar[str] = "updates"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory", "prediction", "pull"})
    free: tuple[Literal["start", "conditions", "nulls"], ...] = Field(
        ("start", "conditions", "nulls"),
        description="what is moved: the start, each step's condition, each step's empty condition",
        min_length=1,
    )
    iterations: int = Field(
        20, description="updates; each needs a walk and its gradient, and one walk more at the end", ge=1
    )
    rates: tuple[float, float, float] = Field(
        (1e-3, 1e-2, 1e-2), description="learning rates of start, conditions and nulls"
    )
    optimiser: Literal["adam", "adamw", "sgd"] = Field("adam", description="sgd has momentum 0.9")
    schedule: Literal["constant", "cosine"] = Field("constant", description="cosine: every rate falls to its tenth")
    last: int = Field(3, description="clean estimates, from the end, that carry the loss", ge=1)
    weights: Literal["linear", "uniform"] = Field("linear", description="linear: 1, 2, … toward the end, of their sum")
    gradient: str = Field(
        "full", description="full (exact), truncated:K (of the last K steps alone), or shortcut (states held constant)"
    )
    checkpoint: bool = Field(
        True, description="compute each step again going backward: one latent a step is kept, and no activations"
    )
    keep_norm: bool = Field(True, description="the moved start keeps each image's norm")
    best: Literal["reached", "loss"] = Field(
        "reached", description="kept iterate: the least loss among those that reach tau, if any do; or the least loss"
    )
    stop: float | None = Field(None, description="an image whose loss is below this is done")
    after: int | None = Field(
        None,
        description="an image is done so many iterates after the first that reaches tau; the nearest flip has 0",
        ge=0,
    )
    patience: int = Field(
        0, description="an image is done after so many iterates that fall by less than 1 %; 0: never", ge=0
    )

    @field_validator("gradient")
    @classmethod
    def _known(cls, value: str) -> str:
        if not re.fullmatch(r"full|shortcut|truncated:[1-9]\d*", value):
            raise ValueError(f"{value!r}: use full, shortcut or truncated:K with K from 1")
        return value

    def run(self, problem: Problem) -> SearchResult:
        from counterlens.core.search.descent import descend, descended

        how = self._how()
        return descended(problem, partial(descend, how=how))

    def _how(self) -> DescentSettings:
        import torch

        from counterlens.core.search.descent_variables import DescentSettings

        makers: dict[str, Any] = {
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "sgd": partial(torch.optim.SGD, momentum=0.9),
        }
        kind, _, k = self.gradient.partition(":")
        options = self.model_dump(exclude={"optimiser", "gradient"})
        return DescentSettings(optimiser=makers[self.optimiser], gradient=kind, truncated=int(k or 0), **options)

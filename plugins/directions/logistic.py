from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.conditioning.directions import Direction

if TYPE_CHECKING:
    from counterlens.core.conditioning.directions import ClassPair, Move


class Logistic(Direction):
    """The weight of a logistic regression between the two classes."""

    name: ClassVar[str] = "logistic"
    c: float = Field(1.0, description="inverse of the penalty on the weight", gt=0)

    def fit(self, pair: ClassPair) -> Move:
        import torch
        from sklearn.linear_model import LogisticRegression

        from counterlens.core.conditioning.directions import constant

        x = torch.cat([pair.source, pair.target]).double().numpy()
        y = [0] * len(pair.source) + [1] * len(pair.target)
        found = LogisticRegression(C=self.c, class_weight="balanced", max_iter=1000).fit(x, y)
        return constant(pair.along(torch.from_numpy(found.coef_[0]).float()))

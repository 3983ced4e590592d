from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.errors import UsageError
from counterlens.core.problem.method_pieces import Guidance

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.view import View


class Disagreement(Guidance):
    """The explained classifier says the target's class and another one does not (DiG-IN, section 4.2)."""

    name: ClassVar[str] = "disagreement"
    needs: ClassVar[frozenset[str]] = frozenset({"labels", "gradient"})
    any_source: ClassVar[bool] = True
    other: str = Field("judge", description="URI of the classifier that should not say it; judge: that of --judge")
    loss: Literal["joint", "confidence", "log-confidence", "logits"] = Field(
        "joint",
        description="joint: -log p1 - log(1 - p2), which pulls even where both are sure; confidence: p2 - p1; "
        "log-confidence: log p2 - log p1; logits: the lead over the best other class, of the second minus the first",
    )

    def classifiers(self) -> tuple[str, ...]:
        return (self.other,)

    def meet(self, classifier: Classifier, others: Mapping[str, Classifier]) -> None:
        other = others[self.other]
        if set(classifier.labels) != set(other.labels):
            only = sorted(set(classifier.labels) ^ set(other.labels))
            raise UsageError(
                f"classifiers with different labels cannot disagree: {classifier.uri} has {len(classifier.labels)}, "
                f"{other.uri} has {len(other.labels)}; in one of them only: {', '.join(only[:5])}"
            )

    def __call__(self, view: View, step: Step) -> Tensor:
        return self.value(view.logits, view.logits_of(self.other), view.scene.target)

    def value(self, first: Tensor, second: Tensor, target: Tensor) -> Tensor:
        """[B] of both classifiers' logits [B,K], in the same order of classes."""
        if self.loss == "logits":
            return lead(second, target) - lead(first, target)
        if self.loss == "joint":  # the other losses are flat where p2 is 1, or are content with p1 alone
            return missed(first, target) - denied(second, target)
        own = [logits.log_softmax(1).gather(1, target[:, None])[:, 0] for logits in (first, second)]
        if self.loss == "log-confidence":
            return own[1] - own[0]
        return own[1].exp() - own[0].exp()


def missed(logits: Tensor, target: Tensor) -> Tensor:
    """-log p(target), [B]."""
    return -logits.log_softmax(1).gather(1, target[:, None])[:, 0]


def denied(logits: Tensor, target: Tensor) -> Tensor:
    """log(1 - p(target)), [B], of the other classes' logits: exact where p(target) rounds to 1."""
    others = logits.scatter(1, target[:, None], float("-inf"))
    return others.logsumexp(1) - logits.logsumexp(1)


def lead(logits: Tensor, target: Tensor) -> Tensor:
    """The target's logit minus the largest of the others', [B]."""
    others = logits.scatter(1, target[:, None], float("-inf")).amax(1)
    return logits.gather(1, target[:, None])[:, 0] - others

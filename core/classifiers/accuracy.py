"""Is the contract right? Accuracy on labelled images, and what it would be if they were read otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.classifiers.preprocessing import Preprocessing

GOOD = 0.9  # at this accuracy no other reading is tried
BETTER = 0.2  # another reading counts when it is better by this much and leaves half of the errors at most
SAMPLE = 256  # images that other readings are tried on


@dataclass(frozen=True)
class Accuracy:
    """``chance``: what guesses with the same shares of classes would reach. ``note``: what looks wrong, if anything."""

    n: int
    correct: int
    accuracy: float
    chance: float
    per_class: Mapping[str, float]
    note: str = ""

    @property
    def near_chance(self) -> bool:
        """Not told from guessing: within two standard errors, and at least 5 (at most 15) points, of chance."""
        error = (self.chance * (1 - self.chance) / self.n) ** 0.5
        return self.accuracy <= self.chance + min(max(2 * error, 0.05), 0.15)

    def __str__(self) -> str:
        return f"accuracy {_percent(self.accuracy)} (chance {_percent(self.chance)}, {self.n} images)"


def measure_accuracy(classifier: Classifier, images: Tensor, labels: Sequence[str | int] | Tensor) -> Accuracy:
    """Accuracy on ``images`` [N,3,H,W] in [0,1] with N ``labels`` (names or indices). UsageError without any."""
    truth = _indices(classifier, images, labels)
    return _score(classifier, truth, classifier.evaluate(images).argmax(1).cpu())


def checked_accuracy(
    classifier: Classifier, images: Tensor, labels: Sequence[str | int] | Tensor, force: bool = False
) -> Accuracy:
    """``measure_accuracy``, and look for a wrong contract when the result is poor.

    UsageError with the reason when the accuracy is near chance, unless ``force``; otherwise the reason is in ``note``.
    """
    truth = _indices(classifier, images, labels)
    predicted = classifier.evaluate(images).argmax(1).cpu()
    score = _score(classifier, truth, predicted)
    if score.accuracy >= GOOD and not score.near_chance:
        return score
    reason = diagnose(classifier, images, truth, predicted, score.accuracy)
    if score.near_chance and not force:
        advice = reason or "check labels, size, mean and std of the classifier, and the labels of the images"
        raise UsageError(f"classifier {classifier.uri}: {score}; {advice}; --force goes on")
    return replace(score, note=f"{score}; {reason}" if reason else (str(score) if score.near_chance else ""))


def diagnose(classifier: Classifier, images: Tensor, truth: Tensor, predicted: Tensor, accuracy: float) -> str:
    """The reading of images or labels with a far better accuracy, in words with what to do; empty when there is none.

    ``truth`` and ``predicted``: indices [N].
    """
    found = [_label_order(classifier, truth, predicted)]
    picked = torch.linspace(0, len(images) - 1, min(len(images), SAMPLE)).round().long()
    sample, sample_truth = images[picked], truth[picked]
    for advice, contract, change in readings(classifier.contract):
        answer = replace(classifier, contract=contract).evaluate(change(sample)).cpu()
        # among equally right readings the one that is surest of the truth
        sure = answer.gather(1, sample_truth[:, None]).clamp_min(1e-12).log().mean().item()
        found.append(((answer.argmax(1) == sample_truth).double().mean().item(), sure, advice))
    best, _, advice = max(found)
    if best < accuracy + BETTER or 1 - best > (1 - accuracy) / 2:
        return ""
    return advice.replace("RESULT", _percent(best))


def readings(contract: Preprocessing) -> list[tuple[str, Preprocessing, Callable[[Tensor], Tensor]]]:
    """Other ways to read the same images: (advice, contract, change of the images). RESULT stands for the accuracy."""
    same: Callable[[Tensor], Tensor] = lambda images: images  # noqa: E731
    ones, count = (1.0,) * contract.channels, contract.channels
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if count == 3 else ((0.449,), (0.226,))
    scales = {
        "without normalisation it would be RESULT, so the network normalises its input itself "
        "(normalised twice): give mean=0 and std=1": ((0.0,) * count, ones),
        "with the mean and std of ImageNet it would be RESULT: give "
        f"mean={_list(imagenet[0])} and std={_list(imagenet[1])}": imagenet,
        "with images in [-1,1] it would be RESULT: give mean=0.5 and std=0.5": ((0.5,) * count, (0.5,) * count),
        f"with images in [0,255] it would be RESULT: give mean=0 and std={1 / 255:.6f}": (
            (0.0,) * count,
            (1 / 255,) * count,
        ),
    }
    result = [
        (advice, replace(contract, mean=mean, std=std), same)
        for advice, (mean, std) in scales.items()
        if (mean, std) != (contract.mean, contract.std)
    ]
    if count == 3:
        advice = "with the colours in the order BGR it would be RESULT: exchange them in a python: classifier"
        result.append((advice, contract, lambda images: images.flip(1)))
    return result


def _label_order(classifier: Classifier, truth: Tensor, predicted: Tensor) -> tuple[float, float, str]:
    """The best one-to-one renaming of the outputs: fitted on one half of the images, scored on the other."""
    from scipy.optimize import linear_sum_assignment

    labels = classifier.contract.labels
    order = truth.argsort(stable=True)  # halves with equal shares of the classes
    fit, held = order[::2], order[1::2]
    if not len(held):
        return 0.0, 0.0, ""
    table = torch.zeros(len(labels), len(labels), dtype=torch.long)
    table.index_put_((predicted[fit], truth[fit]), torch.ones(len(fit), dtype=torch.long), accumulate=True)
    # a class that nothing speaks for keeps its name
    cost = -(table * 2 * len(labels) + torch.eye(len(labels), dtype=torch.long)).numpy()
    names = torch.as_tensor(linear_sum_assignment(cost)[1])
    accuracy = (names[predicted[held]] == truth[held]).double().mean().item()
    renamed = [labels[i] for i in names.tolist()]
    how = "in alphabetical order" if renamed == sorted(labels) else "in another order"
    listed = ",".join(name.replace(",", "%2C") for name in renamed) if len(renamed) <= 20 else "… in that order"
    return accuracy, float("-inf"), f"with labels {how} it would be RESULT: give labels={listed}"


def _indices(classifier: Classifier, images: Tensor, labels: Sequence[str | int] | Tensor) -> Tensor:
    values = labels.tolist() if isinstance(labels, Tensor) else list(labels)
    if not values or len(values) != len(images):
        raise UsageError(f"the accuracy needs a label for each image: {len(images)} images, {len(values)} labels")
    return torch.tensor([classifier.label_index(value) for value in values])


def _score(classifier: Classifier, truth: Tensor, predicted: Tensor) -> Accuracy:
    count, n = len(classifier.contract.labels), len(truth)
    hits = truth == predicted
    shares = [torch.bincount(part, minlength=count).double() / n for part in (truth, predicted)]
    one_class = int((shares[0] > 0).sum()) == 1  # then a guess with equal shares would always be right
    chance = 1 / count if one_class else float((shares[0] * shares[1]).sum())
    names = classifier.contract.labels
    per_class = {names[k]: hits[truth == k].double().mean().item() for k in truth.unique().tolist()}
    return Accuracy(
        n=n, correct=int(hits.sum()), accuracy=hits.double().mean().item(), chance=chance, per_class=per_class
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _list(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)

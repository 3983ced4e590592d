from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from counterlens.core.errors import UsageError
from counterlens.core.h_space.finder import Finder

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.h_space.job import FindJob
    from counterlens.core.h_space.shifts import Shift, ShiftBank

HELD = 4  # every fourth sample is held out


class Supervised(Finder):
    """Directions that tell the classifier's classes apart, one a class, all in one pass over the samples.

    A class against all others (or against one): by the difference of the means, by ridge regression (LDA), by a
    logistic or linear SVM normal, or by the covariance of the activation with the class's log-odds. Strength 1 goes as
    far as the class means lie apart along the direction (for the covariance: as one standard deviation of the log-odds
    goes). How well held-out samples are told apart is measured in every timestep.
    """

    name: ClassVar[str] = "supervised"
    needs: ClassVar[frozenset[str]] = frozenset({"mid-block", "labels"})
    form: Literal["mean-difference", "ridge", "logistic", "svm", "covariance"] = Field(
        "mean-difference", description="how the classes are told apart"
    )
    classes: tuple[str, ...] = Field((), description="which classes get a direction; all if empty")
    against: str = Field("", description="the class that they are told apart from; all others if empty")
    ridge: float = Field(1.0, description="ridge: penalty, over the mean variance of a coordinate", gt=0)
    c: float = Field(0.01, description="logistic and svm: inverse of the penalty, activations at unit variance", gt=0)
    without: tuple[str, ...] = Field((), description="classes whose directions are projected out, all together")
    damping: float = Field(0.0, description="ridge of that projection, over its largest squared singular value", ge=0)
    per_step: bool = Field(False, description="project in every timestep, not only over all of them at once")
    keep_length: bool = Field(False, description="give the projected direction its length again")
    least: float = Field(0.0, description="steps whose held-out AUROC is below this are left out", ge=0, le=1)

    def find(self, job: FindJob) -> ShiftBank:
        h, logits = self._samples(job)
        labels, chosen = job.explained.labels, self._chosen(job)
        norms = h.flatten(2).norm(dim=2).mean(0)
        counts = {name: int((logits.argmax(1) == k).sum()) for k, name in enumerate(labels)}
        if not self.classes and len(chosen) > 2:  # all of them: those that the samples show
            for name in (name for name in chosen if counts[name] < 3):
                job.notice(f"{name}: only {counts[name]} of {len(h)} samples are decided so, no direction")
            chosen = tuple(name for name in chosen if counts[name] >= 3)
        every = {name: self._direction(h, logits, labels, name) for name in dict.fromkeys((*chosen, *self.without))}
        found = []
        for name in chosen:
            shift = every[name]
            if others := [every[other] for other in self.without if other != name]:
                shift = self._projected(shift, others)
            found.append(shift)
        return job.bank(found, norms, decided=counts)

    def _chosen(self, job: FindJob) -> tuple[str, ...]:
        labels = job.explained.labels
        for name in (*self.classes, *self.without, *filter(None, [self.against])):
            job.explained.label_index(name)
        return tuple(labels[job.explained.label_index(name)] for name in self.classes) or tuple(labels)

    def _samples(self, job: FindJob) -> tuple[Tensor, Tensor]:
        """Activations [N,T,C,h',w'] and logits [N,K] of every sample; the decision is the label."""
        import torch

        h, logits = [], []
        for batch in job.recorded():
            h.append(batch.h[job.quest.site].transpose(0, 1).cpu())
            logits.append(job.logits(batch.picture))
        return torch.cat(h), torch.cat(logits)

    def _direction(self, h: Tensor, logits: Tensor, labels: tuple[str, ...], name: str) -> Shift:
        """The direction of one class, from samples that are not held out, with its AUROC on those that are."""
        import torch

        from counterlens.core.classifiers.log_odds import log_odds
        from counterlens.core.h_space.shifts import Shift

        k, decided = labels.index(name), logits.argmax(1)
        inside = decided == k
        used = inside | (decided == labels.index(self.against)) if self.against else torch.ones_like(inside)
        rows = torch.nonzero(used)[:, 0]
        h, inside, z = h[rows], inside[rows], log_odds(logits[rows], torch.full((len(rows),), k))
        place = torch.where(inside, inside.cumsum(0), (~inside).cumsum(0))  # in its class, from 1
        held = place % HELD == 0
        _enough(inside[~held], name, self.against or "the others", len(logits))
        fit = _normal(self, h[~held], inside[~held], z[~held])
        rates = [auroc(_along(h[held, t], fit[t]), inside[held]) for t in range(h.shape[1])]
        kept = torch.tensor([0.0 if rate < self.least else 1.0 for rate, _ in rates])
        about: dict[str, Any] = {
            "auroc_mean": round(sum(rate for rate, _ in rates) / len(rates), 4),
            "auroc": [round(rate, 4) for rate, _ in rates],
            "auroc_se": [round(error, 4) for _, error in rates],
            "n": [int(inside.sum()), int((~inside).sum())],
            "form": self.form,
        }
        return Shift(name, fit * kept.view(-1, 1, 1, 1), self.name, about)

    def _projected(self, shift: Shift, others: list[Shift]) -> Shift:
        """The direction without those of other classes (Haas et al. 2024, eq. 12), and the cosines before and after."""
        import torch

        from counterlens.core.h_space.gradients import cosines, projected_out

        v, conditions = shift.delta.flatten(1), torch.stack([other.delta.flatten(1) for other in others])
        if self.per_step:
            new = torch.stack([projected_out(v[t], conditions[:, t], self.damping) for t in range(len(v))])
        else:
            new = projected_out(v.flatten(), conditions.flatten(1), self.damping).view_as(v)
        if self.keep_length:
            new = new * (v.norm() / new.norm().clamp_min(1e-12))
        both = {
            "before": cosines(v.flatten(), conditions.flatten(1)),
            "after": cosines(new.flatten(), conditions.flatten(1)),
        }
        about = {
            f"cosines_{when}": {o.name: round(float(c), 6) for o, c in zip(others, found, strict=True)}
            for when, found in both.items()
        }
        kept = {"norm_kept": round(float(new.norm() / v.norm().clamp_min(1e-12)), 4)}
        return shift.with_(delta=new.view_as(shift.delta), about={**shift.about, **kept, **about})


def _enough(inside: Tensor, name: str, others: str, count: int) -> None:
    for what, rows in ((name, inside), (others, ~inside)):
        if int(rows.sum()) < 2:
            raise UsageError(
                f"{int(rows.sum())} of {count} samples are decided as {what!r}: a direction needs two of each; "
                "give --count more, or --from images for as many of each class"
            )


def _normal(how: Supervised, h: Tensor, inside: Tensor, z: Tensor) -> Tensor:
    """The direction [T,C,h',w'] of samples [N,T,C,h',w'], a timestep at a time."""
    import torch

    apart = h[inside].mean(0) - h[~inside].mean(0)
    if how.form == "mean-difference":
        return apart
    if how.form == "covariance":
        unit = (z - z.mean()) / z.std().clamp_min(1e-6)
        return torch.einsum("n,ntchw->tchw", unit, h - h.mean(0)) / len(z)
    steps = []
    for t in range(h.shape[1]):
        w = _weight(how, h[:, t].flatten(1).double(), inside)
        unit = w / w.norm().clamp_min(1e-12)
        steps.append((unit * (unit @ apart[t].flatten().double())).float().view_as(apart[t]))
    return torch.stack(steps)


def _weight(how: Supervised, x: Tensor, inside: Tensor) -> Tensor:
    """A linear classifier's weight [d] on samples [N,d]: found among the samples' combinations, since N << d."""
    import torch

    x = x - x.mean(0)
    values, u = torch.linalg.eigh(x @ x.T)
    keep = values > 1e-10 * values.amax()
    scale = values[keep].sqrt()
    scores, basis = u[:, keep] * scale, (u[:, keep] / scale).T @ x  # x = scores·basis, rows of basis orthonormal
    y = inside.double() * 2 - 1
    if how.form == "ridge":
        penalty = how.ridge * float(x.square().mean()) * len(x)
        a = scores.T @ (y - y.mean()) / (values[keep] + penalty)
        return a @ basis
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    spread = float(x.square().sum(1).mean() ** 0.5)  # the penalty means the same at every size of activation
    made = {"logistic": LogisticRegression, "svm": LinearSVC}[how.form]
    fitted = made(C=how.c * spread, class_weight="balanced", max_iter=5000)
    fitted.fit((scores / max(spread, 1e-12)).numpy(), inside.numpy())
    return torch.from_numpy(fitted.coef_[0]) @ basis


def _along(h: Tensor, w: Tensor) -> Tensor:
    return h.flatten(1) @ w.flatten()


def auroc(scores: Tensor, positive: Tensor) -> tuple[float, float]:
    """(AUROC, its standard error by Hanley and McNeil 1982); (nan, nan) where one class is missing."""
    from counterlens.core.conditioning.direction_quality import auroc as rate

    m, n = int(positive.sum()), int((~positive).sum())
    if not (m and n):
        return float("nan"), float("nan")
    a = rate(scores, positive)
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (m - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (m * n)
    return a, max(0.0, variance) ** 0.5

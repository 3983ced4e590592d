"""A classifier and its preprocessing contract: images in [0,1] in, logits and probabilities out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from counterlens.core.classifiers.answers import KINDS, as_logits, kind_of, probe_images, scores_in
from counterlens.core.classifiers.preprocessing import closest
from counterlens.core.errors import PlanError, UsageError, unknown
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    from counterlens.core.classifiers.preprocessing import Preprocessing

SIZES = (28, 32, 64, 96, 128, 224, 256, 299, 384)  # sides that are tried when the size is not given
FAILS = (RuntimeError, ValueError, TypeError, AssertionError, IndexError, AttributeError)


@dataclass(eq=False)
class Classifier:
    """A network (or black box) with its contract.

    ``module``: called with what ``contract.prepare`` makes, [B,channels,h,w]; answers [B,K], or [B,1] for a sigmoid
    head, whose one number becomes two: [0, z]; or something with such a part, by the name ``output``. ``outputs``: one
    of ``answers.KINDS``, or ``auto`` (looked at when it is opened). ``independent``: the names of the outputs of a
    network that tells labels apart from each other no more than from none (sigmoids); ``contract.labels`` are then the
    absence and presence of one of them. ``modules``: the networks inside, for the pool and for the digest. ``salt``:
    what else decides the answer (a prompt template). ``notes``: what was found that a user should know.
    """

    uri: str
    module: Callable[[Tensor], Tensor]
    contract: Preprocessing
    differentiable: bool = True
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    outputs: str = "logits"
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    salt: str = ""
    output: str = ""
    independent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, module: nn.Module, contract: Preprocessing, uri: str, device: Any = "cpu", **rest: Any) -> Classifier:
        """A frozen network in eval mode on ``device``, asked once so that a misfit shows now; UsageError then."""
        return cls(uri, module, contract, modules={"classifier": module}, device=device, **rest).ready()

    @classmethod
    def black_box(cls, function: Callable[[Tensor], Any], contract: Preprocessing, uri: str, **rest: Any) -> Classifier:
        """A function of prepared images that can only be asked: no gradient. Arrays and lists count as answers."""
        rest = {"outputs": "probabilities", **rest}
        return cls(uri, function, contract, differentiable=False, **rest).ready()

    def ready(self) -> Classifier:
        """Freeze and move the networks, ask once with a grey image, compare the answer with the labels."""
        for module in self.modules.values():
            module.eval().to(self.device, self.dtype)
            for parameter in module.parameters():  # one by one: a scripted network has no requires_grad_
                parameter.requires_grad_(False)
        size = self.contract.size or (64, 64)
        try:
            with torch.no_grad():
                answer = self._ask(probe_images(size))
        except UsageError as error:
            raise UsageError(f"classifier {self.uri}: {error}") from None
        except FAILS as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(
                f"classifier {self.uri} fails on an image of {size[0]}x{size[1]}: {reason}{self._hint(reason)}"
            ) from error
        self._compare(answer)
        self._name(answer)
        return self

    def _hint(self, reason: str) -> str:
        """What may help a network that fails: another number of channels, or the size that it was made for."""
        if "to have 1 channels" in reason:
            return "; it takes grey pictures: add ?channels=1"
        if self.contract.size is not None:
            return "" if "shape" not in reason and "size" not in reason else "; is size= the one it was trained at?"
        for side in SIZES:
            try:
                with torch.no_grad():
                    self._ask(probe_images((side, side)))
            except (UsageError, *FAILS):
                continue
            return f"; its size was not given, and it works with {side}x{side}: add ?size={side}"
        return "; its size was not given: add ?size=… as it was trained"

    def _compare(self, answer: Tensor) -> None:
        labels = self.independent or self.contract.labels
        count = len(labels)
        if answer.ndim != 2 or len(answer) != len(probe_images((1, 1))):
            shape = [1, *answer.shape[1:]] if answer.ndim else []
            raise UsageError(f"classifier {self.uri} must answer [B,K] for B images, not {shape} for one")
        if answer.shape[1] != count and not (answer.shape[1] == 1 and count == 2):
            raise UsageError(
                f"classifier {self.uri} has {answer.shape[1]} outputs and {count} labels: give labels=a,b,… to match"
            )
        if not torch.isfinite(answer).all():
            raise UsageError(f"classifier {self.uri} answers with numbers that are not finite: its weights are damaged")
        if self.outputs == "sigmoid" and answer.shape[1] > 1 and not self.independent:
            raise UsageError(
                f"classifier {self.uri} has independent labels (multi-label, a sigmoid each), no classes that "
                f"exclude each other: choose one, ?label={labels[0]} (its counterfactual is the picture without it, or "
                "with it), or add ?outputs=logits to have them read as a softmax"
            )

    def _name(self, answer: Tensor) -> None:
        """Settle what the numbers are, where that is left open."""
        if self.outputs == "auto":
            self.outputs = kind_of(answer)
            if self.outputs != "logits":
                self.notes += (f"its answers are {self.outputs}: read as such (?outputs=logits if they are not)",)
        elif self.outputs == "logits" and not self.independent and kind_of(answer) == "probabilities":
            self.notes += ("its answers look like probabilities, read as logits: is ?outputs=probabilities meant?",)
        if self.outputs not in KINDS:
            raise unknown("outputs", self.outputs, KINDS)
        if answer.shape[1] == 1 and self.outputs == "logits" and bool(((answer >= 0) & (answer <= 1)).all()):
            self.notes += ("its one answer is between 0 and 1: if it is a probability, add ?outputs=probabilities",)

    @property
    def _column(self) -> int | None:
        """Which of the independent outputs the two labels are about."""
        return self.independent.index(self.contract.labels[1]) if self.independent else None

    def _ask(self, images: Tensor) -> Tensor:
        """The raw answer [B,K] or [B,1], fp32."""
        prepared = self.contract.prepare(images.to(self.device, torch.float32)).to(self.dtype)
        width = len(self.independent or self.contract.labels)
        answer = scores_in(self.module(prepared), len(images), width, self.output)
        return answer.to(self.device, torch.float32)

    def logits(self, images: Tensor) -> Tensor:
        """[B,3,H,W] in [0,1] -> [B,K], fp32, on the device of the images; differentiable unless a black box.

        PlanError when a black box is asked for a gradient.
        """
        if not self.differentiable and images.requires_grad and torch.is_grad_enabled():
            raise PlanError(
                f"classifier {self.uri} is a black box, it has no gradient: "
                "use a method that only asks it, or a differentiable classifier"
            )
        return as_logits(self._ask(images), self.outputs, self._column).to(images.device)

    def probabilities(self, images: Tensor) -> Tensor:
        """[B,3,H,W] in [0,1] -> [B,K], rows sum to 1."""
        return self.logits(images).softmax(1)

    @torch.no_grad()
    def evaluate(self, images: Tensor, batch: int = 64) -> Tensor:
        """Probabilities [N,K] of many images, ``batch`` at a time, without gradient."""
        return torch.cat([self.probabilities(part) for part in images.split(batch)])

    def label_index(self, label: str | int) -> int:
        """The index of a label: its name, its name in other case, or a number. UsageError with a suggestion."""
        labels = self.contract.labels
        if isinstance(label, str) and label in labels:
            return labels.index(label)
        alike = [i for i, name in enumerate(labels) if name.casefold() == str(label).strip().casefold()]
        if isinstance(label, str) and len(alike) == 1:
            return alike[0]
        if str(label).isdecimal() and int(label) < len(labels):
            return int(label)
        raise unknown("target", str(label), closest(str(label), labels))

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the K classes, in the order of the logits."""
        return self.contract.labels

    @property
    def gives(self) -> frozenset[str]:
        """Words of capabilities.py for the plan."""
        return frozenset({"labels", "gradient"} if self.differentiable else {"labels"})

    @cached_property
    def digest(self) -> str:
        """sha256 of the weights (or, of a black box, its URI), the contract and the salt."""
        total = hashlib.sha256(f"{self.contract.canonical()}|{self.outputs}|{self.salt}".encode())
        if self.output or self.independent:
            total.update(f"{self.output}|{self.independent}".encode())
        if not self.modules:
            total.update(self.uri.encode())
        for owner, module in sorted(self.modules.items()):
            for name, tensor in sorted(module.state_dict().items()):
                total.update(f"{owner}.{name}{list(tensor.shape)}{tensor.dtype}".encode())
                total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return total.hexdigest()


def reading_of(uri: Uri, contract: Preprocessing, outputs: str = "logits") -> dict[str, Any]:
    """How the options of a URI say that the answer is to be read, as arguments for ``Classifier``.

    ``outputs``: what it is unless the URI says so. ``label`` picks one of the labels of independent outputs: the
    classifier then tells its absence from its presence.
    """
    outputs = uri.text("outputs") or outputs
    if outputs not in (*KINDS, "auto"):
        raise unknown("outputs", outputs, KINDS)
    found: dict[str, Any] = {"contract": contract, "outputs": outputs, "output": uri.text("output")}
    chosen = uri.text("label")
    if not chosen:
        return found
    if chosen not in contract.labels:
        raise unknown(f"label of {uri}", chosen, closest(chosen, contract.labels))
    if outputs in ("logits", "auto"):
        raise UsageError(f"{uri}: label= picks one of independent labels: add &outputs=sigmoid if they are independent")
    pair = (f"not {chosen}", chosen)
    return {**found, "contract": replace(contract, labels=pair), "independent": contract.labels}

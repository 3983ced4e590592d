"""A classifier and its preprocessing contract: images in [0,1] in, logits and probabilities out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from counterlens.core.classifiers.preprocessing import closest
from counterlens.core.errors import PlanError, UsageError, unknown

if TYPE_CHECKING:
    from counterlens.core.classifiers.preprocessing import Preprocessing

TINY = 1e-12  # the least probability whose logarithm is taken


@dataclass(eq=False)
class Classifier:
    """A network (or black box) with its contract.

    ``module``: called with what ``contract.prepare`` makes, [B,channels,h,w]; answers [B,K], or [B,1] for a sigmoid
    head, whose one number becomes two: [0, z]. ``outputs``: ``logits`` or ``probabilities``. ``modules``: the
    networks inside, for the pool and for the digest. ``salt``: what else decides the answer (a prompt template).
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
            module.eval().requires_grad_(False).to(self.device, self.dtype)
        size = self.contract.size or (64, 64)
        try:
            with torch.no_grad():
                answer = self._ask(torch.full((1, 3, *size), 0.5))
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"classifier {self.uri} fails on an image of {size[0]}x{size[1]}: {reason}") from error
        self._compare(answer)
        return self

    def _compare(self, answer: Tensor) -> None:
        count = len(self.contract.labels)
        if answer.ndim != 2 or len(answer) != 1:
            raise UsageError(f"classifier {self.uri} must answer [B,K] for B images, not {list(answer.shape)} for one")
        if answer.shape[1] != count and not (answer.shape[1] == 1 and count == 2):
            raise UsageError(
                f"classifier {self.uri} has {answer.shape[1]} outputs and {count} labels: give labels=a,b,… to match"
            )
        if not torch.isfinite(answer).all():
            raise UsageError(f"classifier {self.uri} answers with numbers that are not finite: its weights are damaged")

    def _ask(self, images: Tensor) -> Tensor:
        """The raw answer [B,K] or [B,1], fp32."""
        prepared = self.contract.prepare(images.to(self.device, torch.float32)).to(self.dtype)
        answer = self.module(prepared)
        return torch.as_tensor(answer).to(self.device, torch.float32)

    def logits(self, images: Tensor) -> Tensor:
        """[B,3,H,W] in [0,1] -> [B,K], fp32, on the device of the images; differentiable unless a black box.

        PlanError when a black box is asked for a gradient.
        """
        if not self.differentiable and images.requires_grad and torch.is_grad_enabled():
            raise PlanError(
                f"classifier {self.uri} is a black box, it has no gradient: "
                "use a method that only asks it, or a differentiable classifier"
            )
        answer = self._ask(images)
        if self.outputs == "probabilities":
            answer = torch.cat([1 - answer, answer], 1) if answer.shape[1] == 1 else answer
            answer = answer.clamp_min(TINY).log()
        elif answer.shape[1] == 1:
            answer = torch.cat([torch.zeros_like(answer), answer], 1)
        return answer.to(images.device)

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
        if not self.modules:
            total.update(self.uri.encode())
        for owner, module in sorted(self.modules.items()):
            for name, tensor in sorted(module.state_dict().items()):
                total.update(f"{owner}.{name}{list(tensor.shape)}{tensor.dtype}".encode())
                total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return total.hexdigest()

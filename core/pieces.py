"""The kinds of pieces a plugin can bring. A piece is a frozen pydantic model whose fields are its options.

Field descriptions are the help text; unknown options are errors. A piece holds no state of a run: ``bind``
returns what takes part in the loop (itself, unless it needs tensors of the scene).
This module imports no torch, so that listing pieces is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from counterlens.core.capabilities import checked

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from counterlens.core.bank import Bank
    from counterlens.core.classifier import Classifier
    from counterlens.core.directions import Pair
    from counterlens.core.finding import FindJob
    from counterlens.core.levels import Estimate
    from counterlens.core.network import Step
    from counterlens.core.problem import Problem, View
    from counterlens.core.request import Asked
    from counterlens.core.training import Job
    from counterlens.core.types import Condition, Extra, Found, Inversion, Scene


class Piece(BaseModel):
    """Base of every piece: a ``name``, what it ``needs`` and ``gives`` (words of core/capabilities.py)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        cls.needs = checked(cls.needs, cls.__name__)
        cls.gives = checked(cls.gives, cls.__name__)

    def wanted(self) -> frozenset[str]:
        """What this piece needs with these options (some need more with one option than with another)."""
        return self.needs

    def check(self, asked: Sequence[Asked]) -> None:
        """Look at files and options before anything is loaded; UsageError says what is wrong."""

    def classifiers(self) -> tuple[str, ...]:
        """URIs of further classifiers that are opened for it, and found in ``scene.studio.others``."""
        return ()

    def meet(self, classifier: Classifier, others: Mapping[str, Classifier]) -> None:
        """Look at the opened classifiers before any pipeline is loaded; UsageError says what does not fit."""

    @classmethod
    def summary(cls) -> str:
        return (cls.__doc__ or "").strip().partition("\n")[0]


class Editor(Piece):
    """Changes what flows through the loop. Every hook is a no-op here; override those you need.

    ``sites``: activation sites for ``on_activation`` (see ``core/sites.py`` for their names);
    ``attention_sites``: attention layers for ``on_attention``; either may be a function of the step, and
    ``step.site`` says where a hook is.
    """

    kind: ClassVar[str] = "editor"
    sites: ClassVar[tuple[str, ...]] = ()
    attention_sites: ClassVar[tuple[str, ...]] = ()
    mixes: ClassVar[bool] = False  # whether the rows of a step may be at different noise levels

    def bind(self, scene: Scene) -> Any:
        """What takes part in the loop for this scene: an object with any of the ``on_…`` hooks."""
        return self

    def on_start(self, problem: Problem, inversion: Inversion) -> Any:
        """What takes part, now that the start of the trajectory is known; called once a walk, after ``bind``."""
        return self

    def on_problem(self, problem: Problem) -> Problem:
        """The problem with what this editor adds to its scene (a change map), once, before the search."""
        return problem

    def on_latent(self, x: Tensor, step: Step) -> Tensor:
        """x [B,C,h,w] before the network is asked."""
        return x

    def on_condition(self, cond: Condition, step: Step) -> Condition:
        """{branch: [B,T,D]} before the network is asked."""
        return cond

    def on_extra(self, extra: Extra, step: Step) -> Extra:
        """{branch: {name: [B,…]}}: further inputs of the network (SDXL's pooled text), after ``on_condition``."""
        return extra

    def on_activation(self, h: Tensor, step: Step) -> Tensor:
        """h [B,c,h',w'] at one of ``sites`` (``step.site``), for one branch (``step.branch``)."""
        return h

    def on_attention(self, p: Tensor, step: Step) -> Tensor:
        """p [B,heads,q,k] at one of ``attention_sites``, for one branch."""
        return p

    def on_estimate(self, est: Estimate, step: Step) -> Estimate:
        """The clean image and the noise, after branches were combined."""
        return est

    def on_next(self, x: Tensor, step: Step) -> Tensor:
        """The next x [B,C,h,w], after the parts were mixed again at the next level."""
        return x


class Energy(Piece):
    """A differentiable number an image, lower is better: the common part of guidance and regularizers."""

    weight: float = Field(1.0, description="factor in the sum of energies", ge=0)

    @property
    def draws(self) -> bool:
        """Whether it looks at random draws (``view.draw``), so that two looks at one image differ."""
        return False

    def __call__(self, view: View, step: Step) -> Tensor:
        """[B]: one number an image; never averaged over the batch."""
        raise NotImplementedError


class Guidance(Energy):
    """Differentiable pull toward the target: ``(view, step) -> [B]``, lower is nearer."""

    kind: ClassVar[str] = "guidance"
    gives: ClassVar[frozenset[str]] = frozenset({"pull"})
    any_source: ClassVar[bool] = False  # whether an image that is decided as its target already is explained too


class Regularizer(Energy):
    """Penalty for leaving the source: ``(view, step) -> [B]``."""

    kind: ClassVar[str] = "regularizer"


class Inverter(Piece):
    """Makes a start of a trajectory out of a real image."""

    kind: ClassVar[str] = "inverter"
    gives: ClassVar[frozenset[str]] = frozenset({"trajectory"})
    nested: ClassVar[bool] = False  # whether a later start is part of an earlier one (``problem.kept_steps``)
    skip: float = Field(
        0.0, description="share of the trajectory left out, from its noisy end: 0 starts at pure noise", ge=0, lt=1
    )

    def start(self, n: int, skip: float | None = None) -> int:
        """The first step that runs, of ``n``."""
        return min(n - 1, round(n * (self.skip if skip is None else skip)))

    def invert(self, problem: Problem, skip: float | None = None) -> Inversion:
        """The start for ``problem.scene``; ``skip`` overrides the option (searches try several)."""
        raise NotImplementedError


class Combiner(Piece):
    """Makes one prediction out of the branches; exactly one a method."""

    kind: ClassVar[str] = "combiner"
    gives: ClassVar[frozenset[str]] = frozenset({"prediction"})

    def branches(self, available: Sequence[str]) -> tuple[str, ...]:
        """Which of the family's branches have to be asked, the conditional one last."""
        return tuple(available)

    def __call__(self, branches: Mapping[str, Tensor], step: Step) -> Tensor:
        raise NotImplementedError


class Direction(Piece):
    """How an image's embedding moves from one class toward another; learned from the embeddings of both."""

    kind: ClassVar[str] = "direction"

    def fit(self, pair: Pair) -> Callable[[Tensor], Tensor]:
        """Of two classes of unit embeddings: a function of unit embeddings [B,D] that gives their steps [B,D].

        One step (strength 1) goes as far along itself as the class means lie apart, unless the piece says otherwise.
        """
        raise NotImplementedError


class Finder(Piece):
    """Finds directions in a U-Net's activations (shifts, core/bank.py); its fields are options of ``directions find``.

    ``per_image``: it works along the trajectory of images that are named (``--image``), not over many samples.
    """

    kind: ClassVar[str] = "finder"
    needs: ClassVar[frozenset[str]] = frozenset({"mid-block"})
    per_image: ClassVar[bool] = False

    def find(self, job: FindJob) -> Bank:
        """The shifts, with their statistics and where they come from (``job.bank(shifts, norms)``)."""
        raise NotImplementedError


class Trainer(Piece):
    """What ``counterlens train NAME DATA`` makes; its fields are the command's options.

    ``networks``: ``none``, ``model`` when it works with a pipeline (``--model``) that has what it ``needs``, or
    ``maybe`` when that depends on its options. ``file``: what it writes if ``--out`` does not say.
    """

    kind: ClassVar[str] = "trainer"
    networks: ClassVar[str] = "none"
    file: ClassVar[str] = ""

    def uses_model(self) -> bool:
        """Whether a pipeline is lent, with these options."""
        return self.networks == "model"

    def plan(self, job: Job) -> Mapping[str, Any]:
        """What ``train`` would do with this job, how long it takes and how big it gets, as far as it is known; nothing
        is written."""
        return {"options": self.model_dump(), "out": str(job.out)}

    def train(self, job: Job) -> Mapping[str, Any]:
        """Do the work and write ``job.out``; returns the record that is printed.

        The hashes of the images that were read are written beside it (core/training_images.py); a trainer whose parts
        see different images writes a record into the sub-folder of each.
        """
        raise NotImplementedError


class Search(Piece):
    """How a method spends its evaluations; exactly one a method."""

    kind: ClassVar[str] = "search"

    def run(self, problem: Problem) -> Found:
        """The counterfactual latents of ``problem.scene``, a row an image."""
        raise NotImplementedError


class Masker(Piece):
    """A change map [B,1,H,W] in [0,1] for a scene; 1 = may change.

    What every map can be refined by is done in the order of the fields below.
    """

    kind: ClassVar[str] = "masker"
    gives: ClassVar[frozenset[str]] = frozenset({"map"})
    invert: bool = Field(False, description="swap what may change and what is kept")
    power: float = Field(1.0, description="exponent of the map: above 1 weakens greys, below 1 strengthens them", gt=0)
    area: float | None = Field(
        None, description="at most this share of the picture may change, the largest values first", gt=0, le=1
    )
    shrink: float = Field(0.0, description="pixels that it shrinks by first: specks vanish", ge=0)
    grow: float = Field(0.0, description="pixels that the map grows outward by", ge=0)
    feather: float = Field(0.0, description="pixels over which it falls to 0 outside, outward only", ge=0)
    blur: float = Field(0.0, description="standard deviation in pixels of a last Gaussian blur", ge=0)
    cap: float = Field(1.0, description="factor of the whole map: the largest change", gt=0, le=1)

    def mask(self, scene: Scene) -> Tensor:
        """The map as found, [B,1,H,W] in [0,1]."""
        raise NotImplementedError

    def found(self, problem: Problem) -> Tensor:
        """The map of a problem, for maskers that look at more than the scene (a first pass of the method)."""
        return self.mask(problem.scene)

    def map(self, problem: Problem) -> Tensor:
        """The map as refined by the options, [B,1,H,W] in [0,1]."""
        from counterlens.core.maps import refined

        options = ("invert", "power", "area", "grow", "feather", "cap", "shrink", "blur")
        return refined(self.found(problem), **{name: getattr(self, name) for name in options})


class Captioner(Piece):
    """A caption for each picture that names its class: ``said`` makes them, ``caption`` mends or refuses those that
    do not, before anything expensive is done with them.
    """

    kind: ClassVar[str] = "captioner"
    gives: ClassVar[frozenset[str]] = frozenset({"caption"})
    missing: Literal["repair", "refuse"] = Field("repair", description="a caption that does not name its class")
    grammar: str = Field("", description="spaCy model that finds nouns; its small English one, else rules")

    def said(self, pictures: Sequence[np.ndarray], labels: Sequence[str], device: str = "cpu") -> list[str]:
        """Captions of pictures uint8 [H,W,3], each with the name of its class (as written in the classifier)."""
        raise NotImplementedError

    def caption(
        self, pictures: Sequence[np.ndarray], labels: Sequence[str], device: str = "cpu"
    ) -> list[tuple[str, str]]:
        """(caption, note) of every picture: a note says what had to be mended. UsageError if it is to be refused."""
        from counterlens.core.grammar import grammar
        from counterlens.core.phrases import ensured

        texts, nouns = self.said(pictures, labels, device), grammar(self.grammar)
        pairs = zip(texts, labels, strict=True)
        found = [ensured(text, label, nouns, self.missing == "repair") for text, label in pairs]
        return [(text, "; ".join(filter(None, (note, note and nouns.note)))) for text, note in found]


class Metric(Piece):
    """A number an image (or a set of images) about counterfactuals; how to write one is in core/metrics.py.

    ``scope``: ``image`` or ``set``. ``bounds``: least and greatest value, None is unbounded. ``cost``: ``record``
    (read off the record), ``pixels`` (arithmetic), ``classifier`` (asks a classifier) or ``network`` (another network).
    ``population``: a word of ``POPULATIONS`` in core/metrics.py, the images that the number speaks about.
    ``source``: where the definition comes from.
    """

    kind: ClassVar[str] = "metric"
    scope: ClassVar[str] = "image"
    higher_is_better: ClassVar[bool | None] = None
    bounds: ClassVar[tuple[float | None, float | None]] = (None, None)
    unit: ClassVar[str] = ""
    cost: ClassVar[str] = "pixels"
    population: ClassVar[str] = "all"
    source: ClassVar[str] = ""


KINDS: dict[str, type[Piece]] = {
    cls.kind: cls
    for cls in (
        Editor,
        Guidance,
        Regularizer,
        Inverter,
        Combiner,
        Direction,
        Finder,
        Trainer,
        Search,
        Masker,
        Captioner,
        Metric,
    )
}

"""From pictures to scenes: fit, score, choose targets, encode, condition. Everything is batched and seeded an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from counterlens.core.errors import UsageError
from counterlens.core.images.fit import fit
from counterlens.core.images.map_file import read_map
from counterlens.core.images.pixels import as_saved, to_tensor
from counterlens.core.problem.items import Item, ScoredImage
from counterlens.core.problem.scene import Resources, Scene
from counterlens.core.utils.digest import digest, image_digest
from counterlens.core.utils.memo import Memo
from counterlens.core.utils.seeds import key

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.data.training_images import TrainedPart
    from counterlens.core.engine.prepare import Prepared
    from counterlens.core.images.fit import Fitted
    from counterlens.core.models.pipeline import Pipeline


def ready_items(
    prepared: Prepared, pipeline: Pipeline, classifier: Classifier | None, weights: str
) -> list[ScoredImage]:
    """Every image asked for, fitted and scored, with its target and its digest.

    An image already decided as the target is a row with a failure. Without a classifier there is one class, of no
    name: nothing is decided.
    """
    fitted = [fit(one.picture, pipeline.size, prepared.request.fit) for one in prepared.asked]
    images = torch.stack([to_tensor(f.pixels) for f in fitted])
    labels = classifier.contract.labels if classifier else ("",)
    before = torch.ones(len(images), 1)
    if classifier:
        before = _score(classifier, images, pipeline.device, prepared.request.batch)
    change, own = _map(prepared, pipeline.size), _own(prepared)
    common = digest(
        {
            "settings": prepared.request.settings(),
            "method": prepared.composition.method.model_dump(),
            "classifier": classifier.digest if classifier else "",
            "weights": weights,
            "examples": _examples(prepared),
        }
    )
    ready, known = [], prepared.trained
    for one, view, image, p in zip(prepared.asked, fitted, images, before, strict=True):
        if prepared.request.errors and not _wrong(one, labels, p):
            continue
        own_target = one.label if prepared.request.errors else one.target
        source, target = int(p.argmax()), _target(own_target or prepared.request.target, classifier, p)
        same = f"{one.name} is already decided as {labels[target]!r} (p = {p[target]:.2f}): nothing to explain"
        item = _item(one, view, labels, target, common)
        item = _trained(item, [net for net in known if one.digest in net.images])
        place = None if view.pixels.shape == one.picture.pixels.shape else partial(view.place, one.picture, within=own)
        anyway = any(guidance.any_source for guidance in prepared.composition.guidance)
        failure = same if classifier and source == target and not anyway else None
        ready.append(
            ScoredImage(
                item=item,
                image=image,
                before=p,
                source=source,
                target=target,
                caption=one.caption,
                map=change,
                place=place,
                failure=failure,
            )
        )
    if not ready:
        raise UsageError(
            f"none of {len(prepared.asked)} images is decided otherwise than its label: no error to explain"
        )
    return _cut(_captioned(ready, prepared, labels, pipeline.device), prepared, pipeline)


def _cut(ready: list[ScoredImage], prepared: Prepared, pipeline: Pipeline) -> list[ScoredImage]:
    """With a note where a prompt is longer than the text encoder reads: the rest of it is not seen."""
    tokenizer = pipeline.others.get("tokenizer")
    if tokenizer is None or "text" not in prepared.given:
        return ready
    for k, one in enumerate(ready):
        prompt = one.caption if prepared.request.prompt is None else prepared.request.prompt
        count, most = len(tokenizer(prompt, verbose=False).input_ids) if prompt else 0, tokenizer.model_max_length
        if count > most:
            note = f"the prompt has {count} tokens and the text encoder reads {most}: the rest is not seen; shorten it"
            ready[k] = replace(one, item=replace(one.item, notes=(*one.item.notes, note)))
    return ready


def _captioned(ready: list[ScoredImage], prepared: Prepared, labels: Sequence[str], device: str) -> list[ScoredImage]:
    """With captions of the request's captioner, for images that have neither one of their own nor a prompt."""
    rows = [k for k, one in enumerate(ready) if not one.caption and not one.failure]
    if prepared.captioner is None or prepared.request.prompt is not None or not rows:
        return ready
    pictures, names = [ready[k].item.pixels for k in rows], [labels[ready[k].source] for k in rows]
    for k, (caption, note) in zip(rows, prepared.captioner.caption(pictures, names, device), strict=True):
        item = replace(ready[k].item, notes=(*ready[k].item.notes, *([note] if note else [])))
        ready[k] = replace(ready[k], item=item, caption=caption)
    return ready


def _wrong(one: SourceImage, labels: Sequence[str], p: Tensor) -> bool:
    """Whether a labelled image is decided otherwise; UsageError when its label is not one of the classifier's."""
    if one.label not in labels:
        raise UsageError(f"--errors: {one.name} has no label that the classifier knows ({one.label!r})")
    return labels[int(p.argmax())] != one.label


def _examples(prepared: Prepared) -> str | None:
    """The digest of the labelled images, where a piece learns from them."""
    learns = any("examples" in piece.wanted() for piece in prepared.composition.pieces())
    return prepared.examples.content() if learns and prepared.examples else None


def _item(one: SourceImage, view: Fitted, labels: Sequence[str], target: int, common: str) -> Item:
    """An image with its target; the digest says all that its result depends on."""
    return Item(
        name=one.name,
        pixels=view.pixels,
        digest=digest({"image": image_digest(view.pixels), "target": labels[target], "common": common}),
        target=labels[target],
        label=one.label if one.label in labels else None,
        notes=tuple(note for note in (*one.picture.notes, view.note) if note),
        origin={"image_digest": image_digest(view.pixels), "domain": one.domain, "index": one.index},
    )


def _trained(item: Item, nets: Sequence[TrainedPart]) -> Item:
    """With a note where networks were trained on the image: what they say of it is not what they say of others."""
    if not nets:
        return item
    note = f"a training image of {' and of '.join(net.name for net in nets)}: it says nothing about new images"
    origin = {**item.origin, "trained_on": tuple(net.what for net in nets)}
    return replace(item, notes=(*item.notes, note), origin=origin)


def _target(asked: str | None, classifier: Classifier | None, p: Tensor) -> int:
    """The index of the class asked for; without one, the most probable class that is not predicted. p [K]."""
    if classifier is None:
        return 0
    return classifier.label_index(asked) if asked is not None else int(p.argsort(descending=True)[1])


def _score(classifier: Classifier, images: Tensor, device: str, batch: int) -> Tensor:
    with torch.no_grad():
        parts = [classifier.probabilities(as_saved(part.to(device))).cpu() for part in images.split(max(1, batch))]
    return torch.cat(parts)


def _map(prepared: Prepared, size: tuple[int, int]) -> Tensor | None:
    """The change map of the request, [1,H,W] in [0,1], cut as the pictures are."""
    if not prepared.request.map:
        return None
    return torch.from_numpy(read_map(prepared.request.map).fitted(size, prepared.request.fit))[None]


def _own(prepared: Prepared) -> np.ndarray | None:
    """The map of the request at the photographs' own size, where it alone says what may change, and by the pixel."""
    if not prepared.request.map:
        return None
    alone = any(
        e.name == "change-map" and not (e.source or e.feather) and e.composite for e in prepared.composition.editors
    )
    return read_map(prepared.request.map).values if alone else None


def seed_of(item: Item, seed: int) -> int:
    """An image's own seed, from its content and the user's seed: the same for every method, batch and order,
    so that methods share noises and inversions."""
    return key(item.origin["image_digest"], seed)


def scene_of(
    ready: Sequence[ScoredImage],
    prepared: Prepared,
    pipeline: Pipeline,
    classifier: Classifier,
    memo: Memo | None = None,
    others: Mapping[str, Classifier] | None = None,
) -> Scene:
    """A scene of these images, encoded and conditioned, with a fresh network and meter."""
    method, device = prepared.composition.method, pipeline.device
    image = torch.stack([r.image for r in ready]).to(device)
    prompts = [prepared.request.prompt if prepared.request.prompt is not None else r.caption for r in ready]
    branches = prepared.composition.combiner.branches(pipeline.branches)
    with torch.no_grad():
        x0 = pipeline.encode(image)
        cond, extra = pipeline.condition(image, prompts, branches)
    options: Mapping[str, Any] = {"prompts": tuple(prompts), "fit": prepared.request.fit}
    maps = [r.map for r in ready if r.map is not None]
    return Scene(
        items=tuple(r.item for r in ready),
        image=image,
        x0=x0,
        cond=cond,
        extra=extra,
        source=torch.tensor([r.source for r in ready], device=device),
        target=torch.tensor([r.target for r in ready], device=device),
        seeds=tuple(seed_of(r.item, prepared.request.seed) for r in ready),
        rows=tuple(range(len(ready))),
        grid=pipeline.grid(method.steps),
        net=pipeline.network(),
        resources=Resources(
            pipeline=pipeline,
            classifier=classifier,
            options=options,
            examples=prepared.examples,
            memo=Memo() if memo is None else memo,
            others=others or {},
        ),
        strength=torch.ones(len(ready), device=device),
        change_map=torch.stack(maps).to(device) if maps else None,
    )

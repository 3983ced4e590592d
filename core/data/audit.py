"""What there is to know of labelled images before hours are spent on them: sizes, damage, twins, and whether a quick
probe can tell the classes apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from counterlens.core.errors import CounterlensError
from counterlens.core.images.fit import Picture, fit
from counterlens.core.utils.digest import image_digest

if TYPE_CHECKING:
    from counterlens.core.data.dataset import Dataset, Example

SIDE = 32  # pixels a side of what the probe sees
MOST = 2000  # images that it is fitted on
FEW = 20  # images of a class below which little can be learned


def audit(dataset: Dataset, tick: Callable[[int, int], None] = lambda *_: None) -> dict[str, Any]:
    """The table, and ``warnings`` in words. Every image is read once."""
    small, kept, sizes, broken = [], [], Counter[str](), []
    same: dict[str, list[Example]] = defaultdict(list)
    for k, example in enumerate(dataset.examples):
        tick(k + 1, len(dataset))
        try:
            pixels = example.read()
        except CounterlensError as error:
            broken.append(str(error))
            continue
        kept.append(example)
        sizes[f"{pixels.shape[1]} x {pixels.shape[0]}"] += 1
        same[image_digest(pixels)].append(example)
        small.append(fit(Picture(pixels), SIDE).pixels)
    twins = [found for found in same.values() if len(found) > 1]
    quick = probe(np.stack(small), kept, dataset.labels) if small else {}
    classes = [_row(label, dataset, kept) for label in dataset.labels]
    return {
        "data": dataset.uri,
        "classes": classes,
        "sizes": dict(sizes.most_common(8)),
        "unreadable": broken,
        "no_images": list(dataset.passed),
        "duplicates": [[example.id for example in found] for found in twins],
        "probe": quick,
        "warnings": warnings(classes, twins, broken, quick),
    }


def _row(label: str, dataset: Dataset, kept: Sequence[Example]) -> dict[str, Any]:
    own = [example for example in kept if example.label == label]
    asked = sum(example.label == label for example in dataset.examples)
    return {"class": label, "images": len(own), "groups": len({e.group for e in own}), "unreadable": asked - len(own)}


def warnings(
    classes: Sequence[dict[str, Any]], twins: Sequence[Sequence[Example]], broken: Sequence[str], quick: dict[str, Any]
) -> list[str]:
    """What a user should think about before training."""
    found, counts = [], {row["class"]: row["images"] for row in classes}
    found += [f"class {name!r} has {count} images: few to learn from" for name, count in counts.items() if count < FEW]
    if max(counts.values()) > 10 * max(1, min(counts.values())):
        found.append(
            f"classes of very different size ({max(counts.values())} and {min(counts.values())}): weighted alike"
        )
    if broken:
        found.append(f"{len(broken)} images cannot be read and are left out: {broken[0]}")
    across = [[e.id for e in some] for some in twins if len({e.label for e in some}) > 1]
    if across:
        found.append(f"{len(across)} images are in more than one class, such as {' = '.join(across[0][:2])}")
    if apart := [some for some in twins if len({e.group for e in some}) > 1]:
        found.append(f"{len(apart)} images are there twice in different groups: they may land in training and in test")
    return [*found, *filter(None, [doubt(quick)])]


def doubt(quick: dict[str, Any]) -> str:
    """What a probe at chance says; empty when it can tell the classes apart."""
    if not quick.get("chance"):
        return ""
    return (
        f"a quick probe cannot tell the classes apart (AUC {quick['auc']} ± {quick['error']} on {quick['images']} "
        "images that it had not seen): are the labels right? Training may be hours for nothing"
    )


def probe(images: np.ndarray, examples: Sequence[Example], labels: Sequence[str]) -> dict[str, Any]:
    """Grouped cross-validation of a logistic regression on coarse pixels and edges: images uint8 [N,32,32,3].

    ``auc`` (one class against the rest, averaged) with its standard error (Hanley & McNeil 1982); ``chance``: within
    two of them of one half. Empty where there are too few groups.
    """
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    rows = np.random.default_rng(0).permutation(len(images))[:MOST]
    truth = np.array([labels.index(examples[k].label) for k in rows])
    groups = np.array([examples[k].group for k in rows])
    folds = min(5, *(len(set(groups[truth == k])) for k in range(len(labels))))
    if folds < 2:
        return {}
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    try:
        p = cross_val_predict(_model(), features(images[rows]), truth, groups=groups, cv=cut, method="predict_proba")
        auc = np.mean([roc_auc_score(truth == k, p[:, k]) for k in range(len(labels))])
    except ValueError:  # a fold without one of the classes
        return {}
    fewest = min(np.bincount(truth, minlength=len(labels)))
    error = float(np.sqrt(max(auc * (1 - auc), 0.05) / fewest))
    return {
        "auc": round(float(auc), 3),
        "error": round(error, 3),
        "images": len(rows),
        "chance": bool(auc - 2 * error < 0.5),
    }


def features(images: np.ndarray) -> np.ndarray:
    """[N,F]: brightness on a grid of 8 x 8, and how much it changes across and along, also its spread."""
    grey = images.astype(np.float64).mean(-1) / 255
    across, along = np.abs(np.diff(grey, axis=2, append=0)), np.abs(np.diff(grey, axis=1, append=0))
    grids = [_coarse(x) for x in (grey, across, along)]
    flat = np.sort(grey.reshape(len(grey), -1), 1)[:, :: SIDE * SIDE // 16]
    return np.concatenate([*grids, flat], 1)


def _coarse(x: np.ndarray) -> np.ndarray:
    n = len(x)
    return x.reshape(n, 8, SIDE // 8, 8, SIDE // 8).mean((2, 4)).reshape(n, -1)


def _model() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.02, class_weight="balanced", max_iter=1000))

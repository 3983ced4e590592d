"""The closed vocabulary of what pieces need and give. A plan is a walk over these words."""

from __future__ import annotations

from collections.abc import Iterable

WORDS: dict[str, str] = {
    # given by model families
    "pixels": "the loop runs on pixels",
    "latents": "the loop runs on the latents of an autoencoder",
    "text": "conditioned on a prompt",
    "words": "one CLIP text encoder, whose input words can be learned",
    "image-embedding": "conditioned on an image embedding",
    "classes": "conditioned on a class label",
    "unconditional": "can be asked without any condition",
    "null-branch": "has an empty condition for classifier-free guidance",
    "mid-block": "a U-Net with a bottleneck (h-space)",
    "attention": "attention layers whose probabilities can be changed",
    "cross-attention": "attention over words",
    "refiner": "a second network can take over for the last steps (--refiner)",
    # given by a domain or --data
    "examples": "labelled images to learn from (--data URI)",
    # given by classifiers
    "labels": "a classifier with named labels",
    "gradient": "a classifier that can be differentiated",
    # given by pieces of a method
    "trajectory": "a start of a trajectory made from the source image",
    "exact": "a trajectory that reproduces its source exactly",
    "stochastic": "stored noise for every step",
    "prediction": "one answer made of the branches",
    "map": "a change map",
    "pull": "guidance toward the target",
    "caption": "a caption of the source image",
    # given to metrics
    "classifier": "the explained classifier",
    "judge": "an independent judge, which only reports",
    "attributes": "a classifier of attributes",
    "truth": "the true counterfactual of every image",
    "factors": "known factors that can be read off any image",
    "region": "the region that may change",
    "several": "several counterfactuals of an image",
    "weights": "weights by path",
    "features": "an extractor of features",
}


def checked(words: Iterable[str], owner: str) -> frozenset[str]:
    """The words as a set; a word outside the vocabulary is a mistake of the plugin's author."""
    words = frozenset(words)
    if unknown := sorted(words - WORDS.keys()):
        raise TypeError(f"{owner}: unknown capability {', '.join(unknown)}; known: {', '.join(sorted(WORDS))}")
    return words

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from counterlens.core.conditioning.captioner import Captioner
from counterlens.core.errors import MissingError, UsageError
from counterlens.plugins.captioners.hf_vlm import joined
from counterlens.plugins.captioners.requirements import EXTRA, check_weights, lacking
from counterlens.plugins.captioners.template import checked, filled

if TYPE_CHECKING:
    import numpy as np

    from counterlens.core.data.source_image import SourceImage


class OpenFlamingo(Captioner):
    """OpenFlamingo (Awadalla et al. 2023): captions in the manner of a few demonstrations, as in DiG-IN.

    Demonstrations are encoded once; prompts are padded on the left and share calls. Each begins with the class's name.
    """

    name: ClassVar[str] = "openflamingo"
    checkpoint: str = Field(description="the trained layers: a .safetensors file or the published checkpoint.pt")
    language: str = Field("anas-awadalla/mpt-7b", description="language model: folder or hub id; no remote code is run")
    vision: str = Field("ViT-L-14", description="image encoder: a name of open_clip, or the JSON file of one")
    vision_weights: str = Field("openai", description="its weights: a tag of open_clip, or a file; empty: random")
    every: int = Field(4, description="layers of the language model between two that look at pictures", ge=1)
    demos: str = Field("", description="JSON lines with image (a path, from the file's folder) and caption")
    start: str = Field("an image of {a} {label}", description="how captions begin")
    beams: int = Field(3, description="beams of the search for a caption", ge=1)
    words: int = Field(20, description="most new tokens of a caption", ge=1)
    rows: int = Field(8, description="pictures in one call", ge=1)
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="precision of the model")

    @field_validator("start")
    @classmethod
    def _checked(cls, value: str) -> str:
        return checked(value)

    def check(self, asked: Sequence[SourceImage]) -> None:
        if missing := lacking():
            raise MissingError(f"captioner openflamingo needs {', '.join(missing)}: {EXTRA}")
        check_weights(self.language)
        if not Path(self.checkpoint).expanduser().is_file():
            fetch = "hf download openflamingo/OpenFlamingo-9B-vitl-mpt7b checkpoint.pt"
            raise MissingError(f"OpenFlamingo checkpoint {self.checkpoint} does not exist: {fetch}")
        demonstrations(self.demos)

    def said(self, pictures: Sequence[np.ndarray], labels: Sequence[str], device: str = "cpu") -> list[str]:
        from counterlens.plugins.captioners.flamingo_model import Flamingo, FlamingoSettings

        self.check(())
        model = Flamingo.open(self.settings(FlamingoSettings), device)
        model.show(demonstrations(self.demos))
        starts = [filled(self.start, label) for label in labels]
        texts: list[str] = []
        for at in range(0, len(pictures), self.rows):
            part = slice(at, at + self.rows)
            texts += model.continued(pictures[part], starts[part], self.beams, self.words)
        return [joined(start, text) for start, text in zip(starts, texts, strict=True)]


def demonstrations(path: str) -> list[tuple[np.ndarray, str]]:
    """Pictures uint8 [H,W,3] with captions. UsageError for a picture that is told in two ways: one must be wrong."""
    from counterlens.core.images.load import load_picture
    from counterlens.core.utils.digest import image_digest

    if not path:
        return []
    file = Path(path).expanduser()
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        pairs = [(load_picture(file.parent / one["image"]).pixels, " ".join(one["caption"].split())) for one in lines]
    except OSError as error:
        raise UsageError(f"demonstrations {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"demonstrations {path}: every line is a JSON object with image and caption") from None
    told: dict[str, str] = {}
    for one, (picture, caption) in zip(lines, pairs, strict=True):
        if told.setdefault(image_digest(picture), caption) != caption:
            raise UsageError(f"demonstrations {path}: {one['image']} is there twice, with two captions; keep one")
    return list({image_digest(picture): (picture, caption) for picture, caption in pairs}.values())

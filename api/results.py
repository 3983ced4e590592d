"""What ``counterlens.explain`` gives back: pictures, numbers, and how they look in a notebook."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from PIL import Image

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SHOWN = 224  # pixels a side at least, in a notebook: small pictures are enlarged, pixel by pixel
SLIDER = """<div style="position:relative;width:{w}px;height:{h}px">
<img src="{before}" style="position:absolute;width:{w}px;height:{h}px;image-rendering:pixelated">
<img src="{after}" style="position:absolute;width:{w}px;height:{h}px;image-rendering:pixelated;
clip-path:inset(0 0 0 50%)">
</div><input type="range" min="0" max="100" value="50" style="width:{w}px" aria-label="before and after"
 oninput="this.previousElementSibling.lastElementChild.style.clipPath='inset(0 0 0 '+this.value+'%)'">"""


@dataclass(frozen=True, repr=False)
class Explanation:
    """One image with its counterfactual.

    ``record``: everything that was measured, as on the command line's ``--json``. ``source`` is the picture as the
    network saw it, ``image`` its counterfactual; both None where the image failed, and ``failure`` says why.
    """

    record: Mapping[str, Any]
    source: Image.Image | None = None
    image: Image.Image | None = None
    map: Image.Image | None = None

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Explanation:
        """From a record and the pictures that were written beside its counterfactual."""
        if not record.get("counterfactual"):
            return cls(record)
        place = Path(record["counterfactual"])
        return cls(record, _open(place.with_name("source.png")), _open(place), _open(place.with_name("map.png")))

    def __repr__(self) -> str:
        how = self.failure or ("flipped" if self.flipped else "not flipped")
        return f"Explanation({self.name}: {self.record.get('source')} → {self.target}, {how})"

    @property
    def name(self) -> str:
        return self.record["image"]

    @property
    def failure(self) -> str | None:
        return self.record.get("failure")

    @property
    def flipped(self) -> bool:
        """Whether the explained classifier decides the counterfactual as the target."""
        return bool(self.record.get("flipped"))

    @property
    def target(self) -> str:
        return self.record["target"]

    @property
    def probabilities(self) -> dict[str, tuple[float, float]]:
        """{label: (before, after)} of the explained classifier, the largest change first."""
        before, after = self.record.get("probabilities_before") or {}, self.record.get("probabilities_after") or {}
        both = {label: (before[label], after[label]) for label in before if label in after}
        return dict(sorted(both.items(), key=lambda kv: -abs(kv[1][1] - kv[1][0])))

    @cached_property
    def difference(self) -> np.ndarray:
        """Counterfactual minus source, float32 [H,W,3] in [-1,1]."""
        import numpy as np

        if self.source is None or self.image is None:
            raise ValueError(f"{self.name} has no counterfactual: {self.failure}")
        before, after = (np.asarray(p.convert("RGB"), np.float32) / 255 for p in (self.source, self.image))
        return after - before

    def save(self, out: str | PathLike[str]) -> Path:
        """Write source.png, counterfactual.png, difference.png and record.json into a folder; returns it."""
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        pictures = {"source": self.source, "counterfactual": self.image, "map": self.map}
        if self.image is not None:
            pictures["difference"] = self._drawn_difference()
        for name, picture in pictures.items():
            if picture is not None:
                picture.save(folder / f"{name}.png")
        text = json.dumps(dict(self.record), indent=1, ensure_ascii=False, default=str)
        (folder / "record.json").write_text(text + "\n", encoding="utf-8")
        return folder

    def show(self) -> Any:
        """Source, counterfactual and difference side by side, as a matplotlib figure."""
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
        shown = [(self.source, self._words("before")), (self.image, self._words("after"))]
        for axis, (picture, title) in zip(axes, shown, strict=False):
            if picture is not None:
                axis.imshow(picture, interpolation="nearest")
            axis.set_title(title, fontsize=9)
        if self.image is not None:
            axes[2].imshow(self._drawn_difference(), interpolation="nearest")
            axes[2].set_title("difference (red more, blue less)", fontsize=9)
        for axis in axes:
            axis.axis("off")
        return figure

    def _words(self, when: str) -> str:
        p = self.record.get(f"p_target_{when}")
        said = "" if p is None else f"{self.target} {p:.2f}"
        judge = self._judged(when)
        told = "source" if when == "before" else "counterfactual"
        return f"{told}: {said}" + ("" if judge is None else f", judge {judge:.2f}")

    def _judged(self, when: str) -> float | None:
        """The judge's probability of the target, where there is a judge."""
        return (self.record.get(f"judge_{when}") or {}).get(self.target)

    def _drawn_difference(self) -> Image.Image:
        """The mean change of the channels, red where it is brighter and blue where darker, white where alike."""
        import numpy as np

        change = self.difference.mean(-1)
        strength = np.clip(np.abs(change) / max(1e-6, float(np.abs(change).max())), 0, 1)[..., None]
        colour = np.where(change[..., None] > 0, (178, 24, 43), (33, 102, 172))
        return Image.fromarray((255 - strength * (255 - colour)).round().astype(np.uint8))

    def _repr_html_(self) -> str:
        head = f"<b>{escape(self.name)}</b>: {escape(str(self.record.get('source')))} → {escape(self.target)}"
        if self.source is None or self.image is None:
            return f"<div>{head}<br>failed: {escape(str(self.failure))}</div>"
        width, height = _enlarged(self.source.size)
        slider = SLIDER.format(w=width, h=height, before=_data_uri(self.source), after=_data_uri(self.image))
        change = f'<img src="{_data_uri(self._drawn_difference())}" width="{width}" style="image-rendering:pixelated">'
        rows = "".join(
            f"<tr><td>{escape(label)}</td><td>{before:.3f}</td><td>{after:.3f}</td></tr>"
            for label, (before, after) in list(self.probabilities.items())[:5]
        )
        said = [f"flipped: {'yes' if self.flipped else 'no'}"]
        judged = self._judged("before"), self._judged("after")
        if None not in judged:
            said.append(f"judge of {self.target}: {judged[0]:.2f} → {judged[1]:.2f}")
        if self.record.get("plausibility") is not None:
            said.append(f"plausibility: {self.record['plausibility']:.2f}")
        table = f"<table><tr><th></th><th>before</th><th>after</th></tr>{rows}</table>"
        return (
            f'<div>{head}<div style="display:flex;gap:16px;flex-wrap:wrap"><div>{slider}</div><div>{change}</div>'
            f"<div>{table}<br>{escape('; '.join(said))}</div></div></div>"
        )


class Explanations(Sequence[Explanation]):
    """Explanations of several images, in the order asked for."""

    def __init__(self, found: Iterable[Explanation]) -> None:
        self._found = list(found)

    @overload
    def __getitem__(self, k: int) -> Explanation: ...

    @overload
    def __getitem__(self, k: slice) -> Explanations: ...

    def __getitem__(self, k: int | slice) -> Explanation | Explanations:
        return Explanations(self._found[k]) if isinstance(k, slice) else self._found[k]

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        flipped = sum(one.flipped for one in self)
        failed = sum(one.failure is not None for one in self)
        return f"Explanations({len(self)} images, {flipped} flipped, {failed} failed)"

    def to_dataframe(self) -> pd.DataFrame:
        """A row an image with every plain field of its record; needs pandas."""
        return dataframe(one.record for one in self)

    def save(self, out: str | PathLike[str]) -> Path:
        """A folder an image, numbered in their order."""
        for k, one in enumerate(self):
            one.save(Path(out) / f"{k:04d}")
        return Path(out)

    def _repr_html_(self) -> str:
        shown = "".join(f'<div style="margin:8px 0">{one._repr_html_()}</div>' for one in self._found[:12])
        rest = f"<p>… and {len(self) - 12} more</p>" if len(self) > 12 else ""
        return f"<div><p>{escape(repr(self))}</p>{shown}{rest}</div>"


def dataframe(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The plain fields of rows as a pandas table; MissingError where pandas is not installed."""
    from counterlens.core.errors import MissingError

    try:
        import pandas as pd
    except ImportError:
        raise MissingError("a dataframe needs pandas: python -m pip install pandas") from None
    plain = (type(None), str, int, float, bool)
    return pd.DataFrame([{k: v for k, v in row.items() if isinstance(v, plain)} for row in rows])


def _open(path: Path) -> Image.Image | None:
    """A picture in memory, since its folder may go; None where there is none."""
    if not path.is_file():
        return None
    with Image.open(path) as image:
        image.load()
        return image.copy()


def _enlarged(size: tuple[int, int]) -> tuple[int, int]:
    times = max(1, -(-SHOWN // max(size)))
    return size[0] * times, size[1] * times


def _data_uri(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()

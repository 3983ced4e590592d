"""Is it still the same one? Cosine of embeddings: of any extractor, of faces (FS, FVA), of SimSiam (S³)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.metrics.context import features_missing
from counterlens.core.metrics.metric import YES_NO, PictureMetric

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.metrics.context import Context


class Cosine(PictureMetric):
    """Cosine of the features of the source and of the counterfactual."""

    name: ClassVar[str] = "cosine"
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (-1, 1)
    cost: ClassVar[str] = "network"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    features: str = Field("judge", description="judge, classifier, a classifier's URI, inception, clip:ID, …")

    def missing(self, context: Context) -> str:
        return super().missing(context) or features_missing(self.features, context)

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Context) -> Tensor:
        return self.cosine(source, edited, context)

    def cosine(self, source: Tensor, edited: Tensor, context: Context) -> Tensor:
        import torch.nn.functional as F

        features = context.features(self.features)
        return F.cosine_similarity(features.of(source.cpu()).double(), features.of(edited.cpu()).double())


class FaceSimilarity(Cosine):
    """FS: cosine of VGGFace2 embeddings of the two faces."""

    name: ClassVar[str] = "fs"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "weights"})
    source: ClassVar[str] = "Jeanneret et al. 2023 (ACE)"
    features: str = Field("vggface2", description="extractor of faces: vggface2 or vggface2:PATH")


class FaceVerification(FaceSimilarity):
    """FVA: whether the two faces are taken for the same person (cosine above the threshold)."""

    name: ClassVar[str] = "fva"
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)
    unit: ClassVar[str] = YES_NO
    source: ClassVar[str] = "Singla et al. 2020; threshold as in ACE"
    threshold: float = Field(0.5, description="least cosine of the same person", ge=-1, le=1)

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Context) -> Tensor:
        return (self.cosine(source, edited, context) > self.threshold).double()


class S3(Cosine):
    """S³: cosine of SimSiam's embeddings (ResNet-50 and its projector)."""

    name: ClassVar[str] = "s3"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "weights"})
    source: ClassVar[str] = "Jeanneret et al. 2023 (ACE)"
    features: str = Field("simsiam", description="extractor: simsiam or simsiam:PATH")

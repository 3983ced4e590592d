"""Metrics that come with counterlens, and the feature extractors that they may use."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.metrics import extractors
from counterlens.plugins.metrics.network import factors
from counterlens.plugins.metrics.network.attributes import AttributeChange, CorrelationDifference, Disentanglement, Mnac
from counterlens.plugins.metrics.network.cout import Cout
from counterlens.plugins.metrics.network.diversity import Diversity
from counterlens.plugins.metrics.network.flip_robustness import FlipRobustness
from counterlens.plugins.metrics.network.lpips import Lpips
from counterlens.plugins.metrics.network.plausibility import Plausibility, Plausible
from counterlens.plugins.metrics.network.similarity import S3, Cosine, FaceSimilarity, FaceVerification
from counterlens.plugins.metrics.pixels import change_map as maps
from counterlens.plugins.metrics.pixels import distance, extent, truth
from counterlens.plugins.metrics.pixels.leakage import Leakage, PsnrOutside
from counterlens.plugins.metrics.pixels.psnr_ssim import Psnr, Ssim
from counterlens.plugins.metrics.record import confidence, costs, flips
from counterlens.plugins.metrics.record.judge import JudgeAgreement, JudgeConverted, JudgeFlipRate
from counterlens.plugins.metrics.sets import fid, neighbours


@hookimpl
def counterlens_schemes():
    return {"features": {scheme: f"weights of {what}" for scheme, what in extractors.ADVICE.items()}}


@hookimpl
def counterlens_open_features(uri, context):
    return extractors.opened(uri, context) if extractors.knows(uri) else None


@hookimpl
def counterlens_features_missing(uri, context):
    return extractors.missing(uri, context) if extractors.knows(uri) else None


@hookimpl
def counterlens_metrics():
    return [
        *(flips.FlipRate, flips.FlipRateCorrect, flips.TargetAtTau, flips.FlipOut),
        *(confidence.Confidence, confidence.ConfidenceChange, confidence.Bits, confidence.Entropy),
        *(JudgeAgreement, JudgeConverted, JudgeFlipRate),
        *(distance.L1, distance.L2, distance.LInf, Psnr, Ssim, Lpips),
        *(extent.ChangedArea, extent.Sparsity, extent.Components, extent.TotalVariation, Leakage, PsnrOutside),
        *(AttributeChange, Disentanglement),
        *(Plausibility, Plausible, FlipRobustness),
        *(Cout, Mnac, CorrelationDifference, Cosine, FaceSimilarity, FaceVerification, S3, Diversity),
        *(fid.Fid, fid.SplitFid, fid.SpatialFid, neighbours.Kid, neighbours.PrecisionRecall),
        *(costs.Seconds, costs.UnetEvaluations, costs.GradientEvaluations, costs.PeakMemory),
        *(truth.TruthL1, truth.TruthGain, truth.EditPrecision, truth.EditRecall),
        *(factors.FactorChange, factors.Faithfulness),
        *(maps.KeptMax, maps.KeptMean, maps.Seam, maps.DoseSlope, maps.Cam),
    ]

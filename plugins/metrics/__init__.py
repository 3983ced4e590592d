"""Metrics that come with counterlens, and the feature extractors that they may use."""

from counterlens.core.hookspecs import hookimpl
from counterlens.plugins.metrics import change_map as maps
from counterlens.plugins.metrics import confidence, costs, distance, extent, factors, fid, flips, neighbours, truth
from counterlens.plugins.metrics.attributes import AttributeChange, CorrelationDifference, Disentanglement, Mnac
from counterlens.plugins.metrics.cout import Cout
from counterlens.plugins.metrics.diversity import Diversity
from counterlens.plugins.metrics.judge import JudgeAgreement, JudgeConverted, JudgeFlipRate
from counterlens.plugins.metrics.leakage import Leakage, PsnrOutside
from counterlens.plugins.metrics.networks import EXTRACTORS, EXTRACTORS_MISSING
from counterlens.plugins.metrics.perceptual import Lpips
from counterlens.plugins.metrics.signal import Psnr, Ssim
from counterlens.plugins.metrics.similarity import S3, Cosine, FaceSimilarity, FaceVerification

__all__ = ["EXTRACTORS", "EXTRACTORS_MISSING"]


@hookimpl
def counterlens_metrics():
    return [
        *(flips.FlipRate, flips.FlipRateCorrect, flips.TargetAtTau, flips.FlipOut),
        *(confidence.Confidence, confidence.ConfidenceChange, confidence.Bits, confidence.Entropy),
        *(JudgeAgreement, JudgeConverted, JudgeFlipRate),
        *(distance.L1, distance.L2, distance.LInf, Psnr, Ssim, Lpips),
        *(extent.ChangedArea, extent.Sparsity, extent.Components, extent.TotalVariation, Leakage, PsnrOutside),
        *(AttributeChange, Disentanglement),
        *(Cout, Mnac, CorrelationDifference, Cosine, FaceSimilarity, FaceVerification, S3, Diversity),
        *(fid.Fid, fid.SplitFid, fid.SpatialFid, neighbours.Kid, neighbours.PrecisionRecall),
        *(costs.Seconds, costs.UnetEvaluations, costs.GradientEvaluations, costs.PeakMemory),
        *(truth.TruthL1, truth.TruthGain, truth.EditPrecision, truth.EditRecall),
        *(factors.FactorChange, factors.Faithfulness),
        *(maps.KeptMax, maps.KeptMean, maps.Seam, maps.DoseSlope, maps.Cam),
    ]

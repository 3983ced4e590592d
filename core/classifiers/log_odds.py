"""How firmly a classifier says a class: log-odds of its logits, which do not saturate as probabilities do."""

from __future__ import annotations

import math

from torch import Tensor


def log_odds(logits: Tensor, target: Tensor) -> Tensor:
    """[B]: the target's logit over those of all others together; p(target) >= tau where it is >= log(tau/(1-tau))."""
    own = logits.gather(1, target[:, None])[:, 0]
    return own - logits.scatter(1, target[:, None], -math.inf).logsumexp(1)


def log_odds_at(tau: float) -> float:
    """The log-odds at which p(target) is ``tau``."""
    return math.log(tau / (1 - tau))

"""The losses: next token, distance between predicted and actual view, and SIGReg."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from suffice.jepa.forward import Pass
from suffice.jepa.settings import Distance, Objective

_DIRECTIONS = 256
_KNOTS = 17
_SHORTEST = 1e-3  # increment of hidden states that has a direction


@dataclass(frozen=True)
class Losses:
    """The losses of a step, as scalars; `latent` is None for a step without a latent loss."""

    total: Tensor
    next_token: Tensor
    latent: Tensor | None


def losses(output: Pass, targets: Tensor, *, objective: Objective) -> Losses:
    """Return the weighted losses; `targets` (labels,) are token ids."""
    next_token = functional.cross_entropy(output.logits.float(), targets)
    if not len(output.actual):
        return Losses(total=next_token, next_token=next_token, latent=None)
    predicted, actual = output.predicted.float(), output.actual.float()
    latent = distance(predicted, actual, objective=objective)
    total = next_token + objective.weight * latent
    if objective.sigreg_weight:
        total = total + objective.sigreg_weight * sigreg(torch.cat([predicted, actual]))
    return Losses(total=total, next_token=next_token, latent=latent)


def distance(predicted: Tensor, actual: Tensor, *, objective: Objective) -> Tensor:
    """Return the mean distance between views (examples, hidden size); gradients reach both sides.

    COSINE is 1 - cos, in [0, 2]. INFONCE is the cross-entropy of picking each example's own view
    from the batch, with cosine / temperature as logits.

    TUBE is 1 - cos(h[t] - h[r], h[r] - h[s]): Semantic Tube Prediction, arXiv 2602.22617. h are the
    last hidden states of one conversation, s < r < t one random triple of its tokens a step, and
    gradients reach all three. The reference code (github.com/galilai-group/llm-jepa, stp.py)
    differs: it takes the increment of a random span against that of the rest, and leaves out the
    system message and the tokens of the template. An increment shorter than 1e-3, as between equal
    tokens in a row, has no direction: it counts nothing, for its gradient would drown the others.
    """
    if objective.distance is Distance.MSE:
        return functional.mse_loss(predicted, actual)
    if objective.distance is Distance.TUBE:
        directed = torch.minimum(predicted.norm(dim=1), actual.norm(dim=1)) > _SHORTEST
        bends = torch.where(directed, 1 - functional.cosine_similarity(predicted, actual), 0)
        return bends.sum() / directed.sum().clamp(min=1)
    if objective.distance is Distance.COSINE:
        return 1 - functional.cosine_similarity(predicted, actual).mean()
    similarity = functional.normalize(predicted) @ functional.normalize(actual).T
    own = torch.arange(len(actual), device=actual.device)
    return functional.cross_entropy(similarity / objective.temperature, own)


def sigreg(views: Tensor) -> Tensor:
    """Return the distance of views (n, hidden size) from a normal: SIGReg, arXiv 2511.08544.

    It is the mean Epps-Pulley statistic of the views' projections on random directions: the squared
    gap between the characteristic functions, weighted by that of the normal.
    """
    directions = functional.normalize(
        torch.randn(views.shape[1], _DIRECTIONS, device=views.device), dim=0
    )
    knots = torch.linspace(0, 3, _KNOTS, device=views.device)
    normal = torch.exp(-knots.square() / 2)
    angles = (views @ directions).unsqueeze(-1) * knots
    gap = (angles.cos().mean(0) - normal).square() + angles.sin().mean(0).square()
    return 2 * len(views) * torch.trapezoid(gap * normal, knots).mean()

import math

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from suffice.jepa.forward import Pass  # noqa: E402
from suffice.jepa.objective import distance, losses, sigreg  # noqa: E402
from suffice.jepa.settings import Distance, Objective  # noqa: E402

EYE = torch.eye(4)


def measured(predicted: torch.Tensor, actual: torch.Tensor, kind: Distance) -> float:
    objective = Objective(distance=kind, temperature=0.5)
    return float(distance(predicted, actual, objective=objective))


def test_cosine_goes_from_0_to_2_and_ignores_length() -> None:
    assert measured(EYE, 3 * EYE, Distance.COSINE) == pytest.approx(0, abs=1e-6)
    assert measured(EYE, -EYE, Distance.COSINE) == pytest.approx(2)


def test_mse_does_not_ignore_length() -> None:
    assert measured(EYE, 3 * EYE, Distance.MSE) == pytest.approx(4 / 4)


def test_infonce_asks_which_view_is_ones_own() -> None:
    same = torch.ones(4, 4)
    assert measured(same, same, Distance.INFONCE) == pytest.approx(math.log(4))
    right = math.exp(1 / 0.5)
    assert measured(EYE, EYE, Distance.INFONCE) == pytest.approx(math.log((right + 3) / right))
    assert measured(EYE, EYE.roll(1, 0), Distance.INFONCE) > math.log(4)


def test_a_tube_compares_the_directions_of_increments() -> None:
    assert measured(EYE, 3 * EYE, Distance.TUBE) == pytest.approx(0, abs=1e-6)
    assert measured(EYE, EYE.roll(1, 0), Distance.TUBE) == pytest.approx(1)
    assert measured(EYE, -EYE, Distance.TUBE) == pytest.approx(2)


def test_an_increment_without_a_direction_counts_nothing() -> None:
    """Equal tokens in a row have equal states; the cosine's gradient there was 1e7."""
    steps = torch.randn(4, 6)
    steps[1] = 0
    steps[2] = 1e-5
    predicted, actual = steps.clone().requires_grad_(), torch.randn(4, 6, requires_grad=True)
    tube = distance(predicted, actual, objective=Objective(distance=Distance.TUBE))
    rest = distance(predicted[::3], actual[::3], objective=Objective(distance=Distance.TUBE))
    assert tube.item() == pytest.approx(rest.item())
    tube.backward()
    assert predicted.grad is not None
    assert not predicted.grad[1:3].any()
    assert float(predicted.grad.abs().max()) < 10
    still = torch.zeros(2, 6, requires_grad=True)
    nothing = distance(still, still, objective=Objective(distance=Distance.TUBE))
    nothing.backward()
    assert nothing.item() == 0
    assert still.grad is not None
    assert not still.grad.any()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_a_tube_of_half_precision_is_finite(kind: torch.dtype) -> None:
    states = (torch.randn(3, 4, 32) * 50).to(kind)
    increments = [states[2].float() - states[1].float(), states[1].float() - states[0].float()]
    tube = distance(*increments, objective=Objective(distance=Distance.TUBE))
    assert 0 < float(tube) < 2


def test_the_total_weighs_the_parts() -> None:
    logits, targets = torch.zeros(3, 8), torch.tensor([1, 2, 3])
    output = Pass(logits=logits, hidden=EYE, predicted=EYE, actual=-EYE)
    parts = losses(output, targets, objective=Objective(weight=0.5))
    assert float(parts.next_token) == pytest.approx(math.log(8))
    assert float(parts.total) == pytest.approx(math.log(8) + 0.5 * 2)
    plain = Pass(logits=logits, hidden=EYE, predicted=EYE[:0], actual=EYE[:0])
    parts = losses(plain, targets, objective=Objective(weight=0.5))
    assert parts.latent is None
    assert float(parts.total) == pytest.approx(math.log(8))


def test_gradients_reach_both_views() -> None:
    predicted, actual = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6, requires_grad=True)
    for kind in Distance:
        distance(predicted, actual, objective=Objective(distance=kind)).backward()
        for side in (predicted, actual):
            assert side.grad is not None
            assert side.grad.abs().sum() > 0
            side.grad = None


def test_sigreg_is_small_for_a_normal_cloud_and_large_for_a_collapsed_one() -> None:
    torch.manual_seed(0)
    cloud = torch.randn(2000, 16)
    assert float(sigreg(cloud)) < 2
    assert float(sigreg(cloud * 3)) > 50
    assert float(sigreg(torch.ones(2000, 16))) > 50
    assert float(sigreg(cloud + 2)) > 50


def test_sigreg_joins_the_total() -> None:
    torch.manual_seed(0)
    output = Pass(logits=torch.zeros(3, 8), hidden=EYE, predicted=EYE, actual=EYE)
    targets = torch.tensor([1, 2, 3])
    without = losses(output, targets, objective=Objective())
    joined = losses(output, targets, objective=Objective(sigreg_weight=1))
    assert float(joined.total) > float(without.total)

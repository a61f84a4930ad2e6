import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from torch.nn.attention.flex_attention import create_mask  # noqa: E402

from suffice.jepa.mask import block_mask, dense_mask, rule  # noqa: E402
from suffice.jepa.packing import PackingLayout, pack  # noqa: E402
from suffice.jepa.views import TokenizedChat  # noqa: E402

#                      0 1        2         3   4..5 PRED  6..7 own view
ONE = TokenizedChat(prompt=(1, 2), answer=(3, 4), end=5, rest=(), text="")
TWO = TokenizedChat(prompt=(6,), answer=(7,), end=5, rest=(), text="")

SEEN = {  # by place in the row: [1 2 3 4 5 P P 3 4] [6 7 5 P P 7] [padding]
    0: {0},
    1: {0, 1},
    2: {0, 1, 2},
    3: {0, 1, 2, 3},
    4: {0, 1, 2, 3, 4},
    5: {0, 1, 5},
    6: {0, 1, 5, 6},
    7: {7},
    8: {7, 8},
    9: {9},
    10: {9, 10},
    11: {9, 10, 11},
    12: {9, 12},
    13: {9, 12, 13},
    14: {14},
}


def test_each_token_sees_its_own_past_and_nothing_else() -> None:
    mask = dense_mask(pack([ONE, TWO], PackingLayout(predictors=2, row_tokens=20)))
    assert mask.shape == (1, 1, 15, 15)
    assert {q: set(row.nonzero().flatten().tolist()) for q, row in enumerate(mask[0, 0])} == SEEN


def test_every_token_sees_something_also_padding() -> None:
    batch = pack([ONE, TWO], PackingLayout(predictors=2, row_tokens=1))
    assert (batch.segments == -1).any()
    assert dense_mask(batch).any(-1).all()


def test_the_block_mask_follows_the_same_rule() -> None:
    batch = pack([ONE, TWO, ONE], PackingLayout(predictors=1, row_tokens=16))
    rows, width = batch.ids.shape
    assert create_mask(rule(batch), rows, 1, width, width, "cpu").equal(dense_mask(batch))
    assert block_mask(batch).shape[-2:] == (width, width)

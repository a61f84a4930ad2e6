"""The attention mask of a packed row: one rule, as a dense mask and as a block mask."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from suffice.jepa.packing import TRUNK, PackedBatch

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def rule(batch: PackedBatch) -> Rule:
    """Return the attention rule: a token sees earlier tokens of its trunk and of its own branch.

    Padding is a trunk of its own, so that every query has a key.
    """
    segments, branches = batch.segments, batch.branches

    def may_attend(row: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        del head
        together = segments[row, q] == segments[row, k]
        branch = branches[row, k]
        return together & (k <= q) & ((branch == TRUNK) | (branch == branches[row, q]))

    return may_attend


def dense_mask(batch: PackedBatch) -> Tensor:
    """Return the mask as booleans (rows, 1, width, width), for scaled_dot_product_attention."""
    rows, width = batch.ids.shape
    place = torch.arange(width, device=batch.ids.device)
    row = torch.arange(rows, device=batch.ids.device).view(-1, 1, 1, 1)
    return rule(batch)(row, row, place.view(1, 1, -1, 1), place.view(1, 1, 1, -1))


def block_mask(batch: PackedBatch) -> BlockMask:
    """Return the mask as blocks of 128 x 128, for FlexAttention; empty blocks cost nothing."""
    rows, width = batch.ids.shape
    return create_block_mask(
        rule(batch), B=rows, H=None, Q_LEN=width, KV_LEN=width, device=str(batch.ids.device)
    )

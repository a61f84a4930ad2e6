"""LoRA adapters: what they take of memory and of each step."""

from msgspec import Struct

from suffice.errors import InputError
from suffice.silicon.matrices import attention_matrices, feed_forward_matrices, shared_matrices
from suffice.silicon.roofline import ACTIVATION_BYTES
from suffice.silicon.shapes import Shape

MOST = 10_000
WIDEST = 1024


class Adapters(Struct, frozen=True, kw_only=True):
    """How many LoRA adapters are kept in memory, of which rank; requests ask for them evenly."""

    count: int
    rank: int


def adapter_bytes(adapters: Adapters, model: Shape) -> float:
    """Bytes of one adapter in 16 bits over attention, dense layers and shared experts.

    A matrix of n parameters on a hidden size h has rank x (h + n / h) of them in its adapter.
    Routed experts have none: engines leave them out. Raises InputError for impossible numbers.
    """
    if not 1 <= adapters.count <= MOST or not 1 <= adapters.rank <= WIDEST:
        raise InputError(
            f"{adapters.count} adapters of rank {adapters.rank}",
            hint=f"give count= from 1 to {MOST:,} and rank= from 1 to {WIDEST:,}",
        )
    hidden = model.hidden
    layers = [(a.layers, attention_matrices(a, hidden=hidden)) for a in model.attention]
    layers += [(d.layers, feed_forward_matrices(d, hidden=hidden)) for d in model.dense]
    if model.experts is not None:
        layers.append((model.experts.layers, shared_matrices(model.experts, hidden=hidden)))
    sides = sum(
        count * (hidden + size / hidden) for count, sizes in layers for size in sizes.values()
    )
    return float(adapters.rank * sides * ACTIVATION_BYTES)

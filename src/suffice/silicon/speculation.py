"""Speculative decoding: guesses by a draft model or by the model's own draft heads (MTP)."""

from msgspec import Struct

from suffice.errors import InputError
from suffice.silicon.formats import mean_bits
from suffice.silicon.shapes import Shape, profile

MOST_TOKENS = 16


class Speculation(Struct, frozen=True, kw_only=True):
    """How many tokens are guessed a step, and how likely each is accepted if those before it were.

    `draft_cost` is what one guess takes, as a share of a step; None takes the model's own draft
    heads. `draft` is the model that guesses, if there is one.
    """

    tokens: int
    acceptance: float
    draft_cost: float | None = None
    draft: Shape | None = None


class Drafting(Struct, frozen=True, kw_only=True):
    """What the planner needs of it: cost of one guess as a share of a step, bytes in memory."""

    cost: float
    held_bytes: float


def drafting(speculation: Speculation, model: Shape) -> Drafting:
    """Work out what guesses cost; raises InputError for numbers that cannot be.

    A draft model costs its active parameters over the model's; its weights keep their own formats.
    Draft heads cost one layer and the output head.
    """
    if not 1 <= speculation.tokens <= MOST_TOKENS:
        raise InputError(
            f"{speculation.tokens} guessed tokens a step lie outside 1 to {MOST_TOKENS}",
            hint="2 to 5 are usual",
        )
    if not 0 <= speculation.acceptance <= 1:
        raise InputError(
            f"an acceptance rate of {speculation.acceptance:g} lies outside 0 to 1",
            hint="it is the probability that a guess is accepted if those before it were; "
            "engines report it",
        )
    counts = profile(model)
    if speculation.draft is not None:
        small = profile(speculation.draft)
        formats = speculation.draft.formats
        scales = formats.integer_scale_bits
        routed = small.moe_layers * small.experts * small.expert
        held = routed * mean_bits(formats.experts, integer_scale_bits=scales)
        held += (small.total - routed) * mean_bits(formats.dense, integer_scale_bits=scales)
        return Drafting(cost=small.active / counts.active, held_bytes=held / 8)
    if speculation.draft_cost is not None:
        if not 0 <= speculation.draft_cost < 1:
            raise InputError(
                f"a draft cost of {speculation.draft_cost:g} lies outside 0 to 1",
                hint="it is the time of one guess as a share of a step: 0.05 is usual",
            )
        return Drafting(cost=speculation.draft_cost, held_bytes=0)
    if not model.mtp:
        raise InputError(
            f"{model.name} has no draft heads that are known",
            hint="name what drafts: draft=MODEL, or its cost as a share of a step: draft=0.05",
        )
    layer = (counts.active - counts.head) / counts.layers
    part = model.formats.experts if counts.moe_layers else model.formats.dense
    return Drafting(
        cost=(layer + counts.head) / counts.active, held_bytes=model.mtp * mean_bits(part) / 8
    )

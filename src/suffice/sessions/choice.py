"""Which rung answers a turn: the held one, unless a boundary and the price allow another."""

from collections.abc import Mapping

from msgspec import Struct

from suffice.config.sections import CACHE_LIFE_S
from suffice.sessions.boundary import Boundary, boundary_of
from suffice.sessions.rates import TokenRates
from suffice.sessions.state import AgentState, AgentTurn


class SessionOutlook(Struct, frozen=True, kw_only=True):
    """What is expected of the rest of a session: means per request, of sessions seen before.

    `turns` more requests follow; each adds `growth_tokens` to the prompt and makes `output_tokens`.
    """

    turns: float = 20.0
    growth_tokens: float = 1500.0
    output_tokens: float = 400.0

    def rest_usd(self, rates: TokenRates, *, prompt_tokens: int, warm_tokens: int) -> float:
        """Return the dollars of this request and of the rest of the session on one rung.

        Later requests find the prompt of the one before in the cache: the n-th reads the prompt and
        n - 1 growths, and writes one growth.
        """
        first = rates.turn_usd(
            prompt_tokens=prompt_tokens, warm_tokens=warm_tokens, output_tokens=self.output_tokens
        )
        reads = self.turns * prompt_tokens + self.growth_tokens * self.turns * (self.turns - 1) / 2
        writes, outputs = self.turns * self.growth_tokens, self.turns * self.output_tokens
        return (
            first + reads * rates.read_usd + writes * rates.write_usd + outputs * rates.output_usd
        )


class Choice(Struct, frozen=True, kw_only=True):
    """The rung of a turn, and why: `reason` is one of the words of `choose`.

    `stay_usd` and `move_usd` are forecasts for the rest of the session, with the cache that a move
    loses and builds again; None where no move was in question, or a price is unknown.
    """

    rung: str
    reason: str
    boundary: Boundary | None = None
    escalated: bool = False
    stay_usd: float | None = None
    move_usd: float | None = None


def choose(
    state: AgentState | None,
    turn: AgentTurn,
    *,
    wish: str,
    ladder: tuple[str, ...],
    rates: Mapping[str, TokenRates],
    outlook: SessionOutlook,
) -> Choice:
    """Choose the rung of a turn, where the policy wishes for `wish`; `ladder` is cheapest first.

    The reasons: `start` takes the wish at the start of an agent, or where the ladder has lost the
    rung that it held. `held` is no boundary, or the
    policy wishes for the held rung. `moved` follows a wish downwards that pays. `dear` does not
    follow it, because the lost cache costs more than the rung saves, or because a price is unknown.
    `escalated` follows a wish upwards, once a session; `spent` does not follow a second one.
    """
    if state is None or state.rung not in ladder:
        return Choice(rung=wish, reason="start", boundary=Boundary.START)
    life_s = rates[state.rung].cache_life_s if state.rung in rates else CACHE_LIFE_S
    boundary = boundary_of(state, turn, cache_life_s=life_s)
    if boundary is None or wish == state.rung:
        return Choice(rung=state.rung, reason="held", boundary=boundary)
    stay_usd, move_usd = (
        None
        if name not in rates
        else outlook.rest_usd(
            rates[name],
            prompt_tokens=turn.prompt_tokens,
            warm_tokens=state.warm_tokens(name, turn, cache_life_s=rates[name].cache_life_s),
        )
        for name in (state.rung, wish)
    )
    if ladder.index(wish) > ladder.index(state.rung):
        moves, reason = not state.escalated, "spent" if state.escalated else "escalated"
    else:
        moves = stay_usd is not None and move_usd is not None and move_usd < stay_usd
        reason = "moved" if moves else "dear"
    return Choice(
        rung=wish if moves else state.rung,
        reason=reason,
        boundary=boundary,
        escalated=reason == "escalated",
        stay_usd=stay_usd,
        move_usd=move_usd,
    )

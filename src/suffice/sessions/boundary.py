"""Where in a session a choice may change: only where the cache is lost anyway, or nearly so."""

from enum import StrEnum

from suffice.sessions.state import AgentState, AgentTurn

COMPACTED_SHARE = 0.6


class Boundary(StrEnum):
    """A place at which a session may change its rung."""

    START = "start"
    PAUSE = "pause"
    COMPACTION = "compaction"


def boundary_of(
    state: AgentState | None, turn: AgentTurn, *, cache_life_s: float
) -> Boundary | None:
    """Say which boundary a turn stands at; None in the middle of a stretch.

    A pause is longer than the cache of the held rung lives. A compaction leaves less than 60 % of
    the last prompt, or shares less than that with it. A tool loop has no boundary inside: its
    results belong to calls that the held rung made.
    """
    if state is None:
        return Boundary.START
    if turn.in_tool_loop:
        return None
    held = state.prefixes.get(state.rung)
    if held is None or state.idle_s(held.time_s, turn) > cache_life_s:
        return Boundary.PAUSE
    shared = turn.prompt_tokens if turn.shared_tokens is None else turn.shared_tokens
    if min(shared, turn.prompt_tokens) < COMPACTED_SHARE * state.prompt_tokens:
        return Boundary.COMPACTION
    return None

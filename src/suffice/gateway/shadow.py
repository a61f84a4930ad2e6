"""Which requests a shadow answers too: the first turns of a share of the sessions."""

from suffice.config import GatewayConfig
from suffice.gateway.seats import Seat
from suffice.gateway.wire import ChatRequest
from suffice.sessions.rollout import drawn
from suffice.types import Request


def turn_of(request: Request) -> int:
    """Return which turn of its agent a request is, from 1: it holds the answers of those before."""
    return 1 + len([m for m in request.messages if m.get("role") == "assistant"])


def shadow_chance(chat: ChatRequest, seat: Seat, gateway: GatewayConfig) -> float | None:
    """Return how likely a request was to have a shadow, if it has one; a named rung has none.

    Sessions are drawn by a hash of their id, so each keeps to its draw on every worker.
    """
    if gateway.shadow_rung is None or chat.rung is not None:
        return None
    if turn_of(chat.request) > gateway.shadow_turns:
        return None
    share = gateway.shadow_share
    own = drawn(seat.session_id or seat.agent, purpose=b"suffice shadow")
    return share if own < share else None

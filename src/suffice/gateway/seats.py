"""A request's place in its session: what is remembered of its agent, and which rung that allows.

With `gateway.route_by = "session"` the policy reads the beginning of an agent and chooses for all
of it. The ledger's database remembers the choice, so that every worker and replica keeps to it.
"""

import asyncio
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from suffice.gateway.exchange import Exchange
from suffice.gateway.serving import Serving
from suffice.gateway.wire import ChatRequest
from suffice.ledger import Entry, Ledger, Role
from suffice.ledger.sessions import find_session, keep_session
from suffice.pipeline import Climb
from suffice.sessions import (
    AgentState,
    AgentTurn,
    Choice,
    SessionOutlook,
    after,
    choose,
)
from suffice.sessions.identity import agent_of, beginning_of, session_of
from suffice.sessions.rates import token_rates
from suffice.types import JSON, estimated


class SeatMemory(Struct, frozen=True, kw_only=True):
    """What is kept of an agent; `estimated_tokens` is what its last prompt was taken for.

    The engine counts tools and templates too, which an estimate from the text leaves out; the
    difference is carried over to the next prompt.
    """

    state: AgentState
    estimated_tokens: int


class Seat(NamedTuple):
    """A request's session and agent; `turn` is None where the session decides nothing."""

    session_id: str | None
    agent: str
    turn: AgentTurn | None = None
    memory: SeatMemory | None = None

    @property
    def state(self) -> AgentState | None:
        """What is remembered of the agent."""
        return None if self.memory is None else self.memory.state


async def take_seat(
    exchange: Exchange, chat: ChatRequest, serving: Serving, *, ledger: Ledger
) -> Seat:
    """Find the place of a request in its session; raises LedgerError."""
    gateway, request = serving.config.gateway, chat.request
    fields = exchange.fields or request.params
    session_id = session_of(exchange.headers, fields, header=gateway.session_header)
    agent = agent_of(request)
    if chat.rung is not None or gateway.route_by == "request":
        return Seat(session_id, agent)
    kept = await asyncio.to_thread(find_session, ledger, session_id or agent, agent=agent)
    memory = None if kept is None else msgspec.json.decode(kept, type=SeatMemory)
    tokens = estimated(request.text).tokens
    if memory is not None:
        tokens = max(0, tokens + memory.state.prompt_tokens - memory.estimated_tokens)
    turn = AgentTurn(
        time_s=datetime.now(UTC).timestamp(),
        prompt_tokens=tokens,
        in_tool_loop=_in_tool_loop(request.messages),
    )
    return Seat(session_id, agent, turn, memory)


def choose_for(seat: Seat, climb: Climb, serving: Serving) -> Choice | None:
    """Have a climb begin where its session allows it; None where no session decides.

    The policy's wish is its choice for the beginning of the agent. Where it would look at an answer
    first, the wish is the reference: an agent goes on from an answer before it can be reviewed.
    """
    pipeline = climb.pipeline
    if seat.turn is None or pipeline.router is None or climb.fallback is not None:
        return None
    step = pipeline.router.decide(beginning_of(climb.request))
    reference = pipeline.ladder.reference
    now = datetime.now(UTC)
    prices = {rung.name: pipeline.prices.get(rung.price or "") for rung in pipeline.ladder}
    choice = choose(
        seat.state,
        seat.turn,
        wish=step.rung if step.settled else reference.name,
        ladder=(*(rung.name for rung in pipeline.ladder.below_reference), reference.name),
        rates={
            name: token_rates(price, at=now, cache_life_s=serving.config.gateway.cache_life_s)
            for name, price in prices.items()
            if price is not None
        },
        outlook=SessionOutlook(),
    )
    climb.take(pipeline.ladder.rung(choice.rung))
    return choice


async def leave_seat(seat: Seat, entry: Entry, choice: Choice | None, *, ledger: Ledger) -> None:
    """Remember which rung answered, and how long its prompt was; raises LedgerError."""
    if seat.turn is None or entry.rung is None:
        return
    answered = next(a for a in reversed(entry.attempts) if a.role is Role.ANSWER)
    counted = answered.usage.input_tokens
    turn = seat.turn if counted is None else replace(seat.turn, prompt_tokens=counted.tokens)
    memory = SeatMemory(
        state=after(
            seat.state,
            turn,
            rung=entry.rung,
            escalated=choice is not None and choice.escalated,
        ),
        estimated_tokens=_estimate(seat),
    )
    await asyncio.to_thread(
        keep_session,
        ledger,
        seat.session_id or seat.agent,
        agent=seat.agent,
        body=msgspec.json.encode(memory).decode(),
        at=datetime.fromtimestamp(turn.time_s, UTC),
    )


def _estimate(seat: Seat) -> int:
    """Return what the text of the prompt alone was taken for."""
    assert seat.turn is not None
    if seat.memory is None:
        return seat.turn.prompt_tokens
    carried = seat.memory.state.prompt_tokens - seat.memory.estimated_tokens
    return max(0, seat.turn.prompt_tokens - carried)


def _in_tool_loop(messages: tuple[JSON, ...]) -> bool:
    """Say whether the results of tools came after the model's last message."""
    roles = [message.get("role") for message in messages]
    last = max((i for i, role in enumerate(roles) if role == "assistant"), default=-1)
    return "tool" in roles[last + 1 :]

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

from suffice.config.sections import CACHE_LIFE_S
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
from suffice.sessions.cache_life import cache_life_of
from suffice.sessions.identity import agent_of, keyed, owned, session_of
from suffice.sessions.rates import token_rates
from suffice.types import JSON, Completion, Finish, Rung, estimated


class SeatMemory(Struct, frozen=True, kw_only=True):
    """What is kept of an agent; `estimated_tokens` is what its last prompt was taken for.

    The engine counts tools and templates too, which an estimate from the text leaves out; the
    difference is carried over to the next prompt.
    """

    state: AgentState
    estimated_tokens: int


class Seat(NamedTuple):
    """A request's session and agent; `turn` is None where the session decides nothing.

    The session is one key's: another key may send the same id. `memory_id` is the name under which
    it is remembered, `state` what is remembered of the agent, and `estimated_tokens` what this
    prompt is taken for. The cache keeps the prompt for `cache_life_s`.
    """

    session_id: str | None
    agent: str
    memory_id: str
    turn: AgentTurn | None = None
    state: AgentState | None = None
    estimated_tokens: int = 0
    cache_life_s: float = CACHE_LIFE_S


async def take_seat(
    exchange: Exchange, chat: ChatRequest, serving: Serving, *, ledger: Ledger, key: str | None
) -> Seat:
    """Find the place of a request of a key in its session; raises LedgerError."""
    gateway, request = serving.config.gateway, chat.request
    fields = exchange.fields or {**request.params, "messages": list(request.messages)}
    sent = session_of(exchange.headers, fields, header=gateway.session_header)
    agent = agent_of(request, exchange.headers)
    if serving.id_key is not None:
        agent = keyed(agent, serving.id_key)
        sent = None if sent is None else keyed(sent, serving.id_key)
    seat = Seat(
        None if sent is None else owned(sent, key),
        agent,
        memory_id=("" if key is None else f"{key}/") + (sent or agent),
        cache_life_s=cache_life_of(fields, default_s=gateway.cache_life_s),
    )
    if chat.rung is not None or gateway.route_by == "request":
        return seat
    kept = await asyncio.to_thread(find_session, ledger, seat.memory_id, agent=seat.agent)
    memory = None if kept is None else msgspec.json.decode(kept, type=SeatMemory)
    tokens = estimated(request.text).tokens
    uncounted = memory.state.prompt_tokens - memory.estimated_tokens if memory else 0
    turn = AgentTurn(
        time_s=datetime.now(UTC).timestamp(),
        prompt_tokens=max(0, tokens + uncounted),
        in_tool_loop=_in_tool_loop(request.messages),
    )
    return seat._replace(turn=turn, state=memory.state if memory else None, estimated_tokens=tokens)


def choose_for(seat: Seat, turn: AgentTurn, climb: Climb) -> Choice | None:
    """Have a climb go on where its session allows it; None where the policy may not choose.

    The climb begins where the policy wishes, which has read the beginning of the agent.
    """
    pipeline = climb.pipeline
    if pipeline.router is None or climb.fallback is not None:
        return None
    ladder, now = pipeline.ladder, datetime.now(UTC)
    wish = _wish(climb, seat.state)
    held = [rung for rung in ladder if seat.state is not None and rung.name == seat.state.rung]
    prices = {rung.name: pipeline.prices.get(rung.price or "") for rung in (*held, wish)}
    choice = choose(
        seat.state,
        turn,
        wish=wish.name,
        ladder=(*(rung.name for rung in ladder.below_reference), ladder.reference.name),
        rates={
            name: token_rates(price, at=now, cache_life_s=seat.cache_life_s)
            for name, price in prices.items()
            if price is not None
        },
        outlook=SessionOutlook(),
    )
    climb.take(ladder.rung(choice.rung))
    return choice


def _wish(climb: Climb, state: AgentState | None) -> Rung:
    """Say which rung the policy wishes for.

    A policy that goes by checks wishes for its rung while the last answer of it passed, and for
    the reference from then on, where one failed or there is no verdict. Any other policy that would
    look at an answer first wishes for the reference: an agent goes on from an answer before it can
    be reviewed.
    """
    reference = climb.pipeline.ladder.reference
    if climb.settled:
        return climb.rung
    if not climb.goes_by_check:
        return reference
    held = [rung for rung in climb.pipeline.ladder if state is not None and rung.name == state.rung]
    if state is None or not held:
        return climb.rung
    if held[0] == reference:
        return reference if state.escalated else climb.rung
    return held[0] if state.passed else reference


async def check_turn(seat: Seat | None, climb: Climb, completion: Completion) -> None:
    """Have the checks look at an answer that ends a turn, where the session's policy goes by them.

    In the middle of a tool loop they have nothing to look at: the agent has not finished.
    """
    checks, rung = climb.pipeline.checks, climb.rung.name
    finished = completion.finish is Finish.STOP and not completion.tool_calls
    by_session = seat is not None and seat.turn is not None
    if by_session and finished and climb.goes_by_check and checks is not None:
        climb.note_check(await checks.look(climb.request, rung, completion.text))


async def leave_seat(seat: Seat, entry: Entry, choice: Choice | None, *, ledger: Ledger) -> None:
    """Remember which rung answered, and how long its prompt was; raises LedgerError.

    Requests of one agent may run at the same time: a later one's memory stays, and so does a way up
    that any of them took.
    """
    turn = seat.turn
    if turn is None or entry.rung is None:
        return
    answered = next(a for a in reversed(entry.attempts) if a.role is Role.ANSWER)
    counted, rung = answered.usage.input_tokens, entry.rung
    turn = turn if counted is None else replace(turn, prompt_tokens=counted.tokens)
    escalated = choice is not None and choice.escalated

    def memory(kept: str | None) -> str:
        known = None if kept is None else msgspec.json.decode(kept, type=SeatMemory).state
        if known is not None and known.time_s > turn.time_s and not escalated and kept is not None:
            return kept
        state = after(known, turn, rung=rung, escalated=escalated, passed=answered.check)
        moved = known is not None and known.escalated and not (seat.state and seat.state.escalated)
        if known is not None and moved and not escalated:
            state = replace(state, rung=known.rung, passed=known.passed)
        memory = SeatMemory(state=state, estimated_tokens=seat.estimated_tokens)
        return msgspec.json.encode(memory).decode()

    await asyncio.to_thread(
        keep_session,
        ledger,
        seat.memory_id,
        agent=seat.agent,
        body=memory,
        at=datetime.fromtimestamp(turn.time_s, UTC),
    )


def _in_tool_loop(messages: tuple[JSON, ...]) -> bool:
    """Say whether the results of tools came after the model's last message."""
    roles = [message.get("role") for message in messages]
    last = max((i for i, role in enumerate(roles) if role == "assistant"), default=-1)
    return "tool" in roles[last + 1 :]

"""Where a request begins on the ladder: whether the policy may choose, and where it was before.

An engine keeps the prompt of a conversation in its cache. On another rung the whole of it is read
anew, so a conversation that has reached the reference stays there unless the way down saves more
than that. Other rungs are never kept against the policy: its certificate would not cover it.
"""

from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from msgspec.structs import replace

from suffice.gateway.metrics.families import FALLBACKS
from suffice.gateway.metrics.registry import Metrics
from suffice.gateway.seats import Seat, choose_for
from suffice.gateway.serving import Serving
from suffice.gateway.wire import ChatRequest
from suffice.guarantee import Per
from suffice.meter import Price, charge
from suffice.pipeline import Climb, Pipeline
from suffice.sessions import Choice
from suffice.sessions.identity import beginning_of
from suffice.sessions.rollout import SessionArm
from suffice.types import Count, CountSource, Request, Rung, Usage, estimated

_NONE = Count(0, CountSource.ESTIMATED)


class Exclusion(NamedTuple):
    """Why the policy may not choose: a label for the metrics, and a sentence for the client."""

    label: str
    sentence: str


class Start(NamedTuple):
    """Where a request begins: its climb, its session's choice and its arm of a roll-out, if any."""

    climb: Climb
    choice: Choice | None
    arm: SessionArm | None


class Conversations:
    """The last rung of the conversations seen most recently; every worker knows its own."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._rungs: OrderedDict[str, str] = OrderedDict()

    def rung_of(self, conversation_id: str) -> str | None:
        """Return the name of the rung that answered last, or None for an unknown one."""
        return self._rungs.get(conversation_id)

    def note(self, conversation_id: str, rung: str) -> None:
        """Remember who answered; the conversation longest unheard of is forgotten."""
        self._rungs[conversation_id] = rung
        self._rungs.move_to_end(conversation_id)
        if len(self._rungs) > self._most:
            self._rungs.popitem(last=False)


def start_climb(
    chat: ChatRequest,
    serving: Serving,
    seat: Seat,
    *,
    conversations: Conversations,
    metrics: Metrics,
) -> Start:
    """Choose where a request begins, and why where its session decides.

    Where the certificate promises per session, a random part is one of sessions: all requests of a
    session have the same draw. A request that the policy may not serve is counted.
    """
    pipeline, rollout, arm = serving.pipeline, serving.rollout, None
    request = chat.request if chat.rung else pipeline.grouped(chat.request)
    exclusion = None if chat.rung else exclusion_of(chat, serving, group=request.group)
    read = None if seat.turn is None else beginning_of(request)
    if pipeline.bundle is not None and pipeline.bundle.certificate.per is Per.SESSION:
        read = replace(read or request, request_id=seat.session_id or seat.agent)
    barred = exclusion.sentence if exclusion else None
    climb = Climb(pipeline, request, named=chat.rung, barred=barred, read=read)
    if rollout.partial and chat.rung is None and climb.fallback is None:
        arm = rollout.arm(seat.session_id or seat.agent, wish=climb.rung.name)
        if not arm.by_policy:
            exclusion = Exclusion("rollout", "the policy does not choose for this session yet")
            climb = Climb(pipeline, request, barred=exclusion.sentence)
    if climb.fallback is not None:
        metrics.add(FALLBACKS, (exclusion.label if exclusion else "certificate",))
    held_back = not climb.settled and not (seat.turn is not None and climb.goes_by_check)
    if chat.stream and held_back and serving.config.gateway.defer_streams == "route":
        climb.take(pipeline.ladder.reference)
    reference = pipeline.ladder.reference
    if seat.turn is not None:
        return Start(climb, choose_for(seat, seat.turn, climb), arm)
    if chat.rung is None and climb.rung != reference and len(request.messages) > 1:
        before = conversations.rung_of(seat.agent)
        if before == reference.name and not leaving_pays(pipeline, request, climb.rung):
            climb.take(reference)
    return Start(climb, None, arm)


def exclusion_of(chat: ChatRequest, serving: Serving, *, group: str | None) -> Exclusion | None:
    """Say why the policy may not choose for a request; None when it may."""
    if serving.settings.observe:
        return Exclusion("observing", "the gateway only observes")
    bundle = serving.pipeline.bundle
    if bundle is None:
        return None
    alpha = bundle.certificate.alpha
    if chat.alpha is not None and chat.alpha < alpha:
        return Exclusion("alpha", f"the certificate promises {alpha:g}, not {chat.alpha:g}")
    if serving.rollout.stopped:
        return Exclusion("canary", "outcomes of its sessions have ended the roll-out")
    if not serving.guard.allowed(group):
        return Exclusion("alarm", "an alarm has ended the certificate for this group")
    return None


def leaving_pays(pipeline: Pipeline, request: Request, rung: Rung) -> bool:
    """Say whether going from the reference down to a rung saves more than the lost cache costs.

    The saving is the mean of the certificate's trials; what the cache is worth, a reading of all
    messages at the rung's input price less one at the reference's price for cached tokens. Where a
    price is unknown, nobody can say, and the conversation stays.
    """
    reference = pipeline.ladder.reference
    mean_usd = pipeline.bundle.mean_usd if pipeline.bundle else {}
    here, there = mean_usd.get(reference.name), mean_usd.get(rung.name)
    prompt = estimated(request.text)
    cached = _input_usd(pipeline.prices.get(reference.price or ""), prompt, cached=True)
    uncached = _input_usd(pipeline.prices.get(rung.price or ""), prompt, cached=False)
    if here is None or there is None or cached is None or uncached is None:
        return False
    return here - there > uncached - cached


def _input_usd(price: Price | None, prompt: Count, *, cached: bool) -> Decimal | None:
    usage = Usage(
        input_tokens=prompt,
        cache_read_tokens=prompt if cached else _NONE,
        cache_write_tokens=_NONE,
        output_tokens=_NONE,
        reasoning_tokens=_NONE,
    )
    return charge(usage, price, at=datetime.now(UTC)).usd

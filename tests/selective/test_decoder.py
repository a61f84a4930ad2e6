"""Selective decoding: the bounds hold for every stream, and nothing wrong passes silently."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.errors import EngineUnreachable, InputError
from suffice.selective.decoder import DecodeGate, GateSettings, Reason, SelectiveDecoder

SCORES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=200)
SETTINGS = st.builds(
    GateSettings,
    threshold=st.floats(0.01, 5.0),
    drift=st.floats(0.0, 0.9),
    refresh_events=st.integers(1, 50),
)


def run(gate: DecodeGate, scores: list[float]) -> list[int]:
    decodes = []
    for i, score in enumerate(scores):
        if gate.push(score) is not None:
            gate.decoded()
            decodes.append(i)
    return decodes


@given(scores=SCORES, settings=SETTINGS)
def test_decodes_and_staleness_stay_within_the_stated_bounds(
    scores: list[float], settings: GateSettings
) -> None:
    decodes = run(DecodeGate(settings), scores)
    assert decodes[0] == 0
    assert len(decodes) <= settings.most_decodes(score_sum=sum(scores), events=len(scores))
    ends = [*decodes[1:], len(scores)]
    assert max(b - a for a, b in zip(decodes, ends, strict=True)) <= settings.refresh_events


@given(times=st.lists(st.floats(0.0, 1e4), min_size=1, max_size=100))
def test_an_answer_older_than_the_limit_is_never_kept(times: list[float]) -> None:
    gate = DecodeGate(GateSettings(threshold=9.0, refresh_s=60.0))
    decoded_at, decodes = -math.inf, 0
    for at_s in sorted(times):
        if gate.push(0.0, at_s=at_s) is not None:
            gate.decoded()
            decoded_at, decodes = at_s, decodes + 1
        assert at_s - decoded_at < 60.0
    duration = max(times) - min(times)
    most = gate.settings.most_decodes(score_sum=0.0, events=len(times), duration_s=duration)
    assert decodes <= most


def test_evidence_adds_up_over_events_and_drift_takes_it_away() -> None:
    def first_change(score: float) -> int | None:
        gate = DecodeGate(GateSettings(threshold=0.5, drift=0.3))
        decodes = run(gate, [score] * 20)
        return decodes[1] if len(decodes) > 1 else None

    assert first_change(1.0) == 1
    assert first_change(0.5) == 3
    assert first_change(0.3) is None


def test_each_decode_says_why() -> None:
    gate = DecodeGate(GateSettings(threshold=0.5, drift=0.3, refresh_events=2))
    reasons = []
    for score in (0.0, 0.0, 1.0, 0.0, 0.0):
        reasons.append(gate.push(score))
        if reasons[-1]:
            gate.decoded()
    assert reasons == [Reason.FIRST, None, Reason.CHANGE, None, Reason.REFRESH]


@pytest.mark.parametrize("score", [math.nan, -0.1, 1.1, math.inf])
def test_a_score_that_is_no_probability_is_refused(score: float) -> None:
    gate = DecodeGate(GateSettings(threshold=0.5))
    with pytest.raises(InputError, match="not a probability"):
        gate.push(score)


def test_a_clock_that_goes_backwards_is_refused_and_changes_nothing() -> None:
    gate = DecodeGate(GateSettings(threshold=0.5, drift=0.0, refresh_s=10.0))
    gate.push(0.0, at_s=100.0)
    gate.decoded()
    for at_s in (99.0, math.nan):
        with pytest.raises(InputError, match="backwards"):
            gate.push(1.0, at_s=at_s)
    assert gate.push(0.0, at_s=109.0) is None
    assert gate.push(0.0, at_s=110.0) is Reason.REFRESH


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0.0},
        {"threshold": math.nan},
        {"threshold": 1.0, "drift": 1.0},
        {"threshold": 1.0, "refresh_events": 0},
        {"threshold": 1.0, "refresh_s": 0.0},
    ],
)
def test_settings_without_a_bound_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        GateSettings(**wrong)  # type: ignore[arg-type]


class Same:
    """Scores 1 when the event differs from the one decoded last."""

    def __init__(self) -> None:
        self.held: str | None = None

    def score(self, event: str) -> float:
        return float(event != self.held)

    def decoded(self, event: str, answer: str) -> None:
        self.held = event


async def test_answers_are_held_until_the_event_changes() -> None:
    async def decode(event: str) -> str:
        return event.upper()

    decoder = SelectiveDecoder(Same(), decode, settings=GateSettings(threshold=0.5))
    steps = [await decoder.push(event) for event in "aaabba"]
    assert [step.answer for step in steps] == list("AAABBA")
    assert [step.reason is not None for step in steps] == [True, False, False, True, False, True]
    assert [step.index for step in steps] == list(range(6))
    assert decoder.decodes == 3


async def test_after_a_failed_decode_the_old_answer_is_not_given() -> None:
    fails = [False, True, False]

    async def decode(event: str) -> str:
        if fails.pop(0):
            raise EngineUnreachable("gone")
        return event.upper()

    decoder = SelectiveDecoder(Same(), decode, settings=GateSettings(threshold=0.5))
    await decoder.push("a")
    with pytest.raises(EngineUnreachable):
        await decoder.push("b")
    step = await decoder.push("a")
    assert (step.answer, step.reason) == ("A", Reason.CHANGE)


async def test_memory_does_not_grow_with_the_stream() -> None:
    import tracemalloc

    async def decode(event: str) -> str:
        return "answer"

    decoder = SelectiveDecoder(Same(), decode, settings=GateSettings(threshold=0.5))

    async def push(count: int) -> None:
        for i in range(count):
            await decoder.push("ab"[i % 7 == 0])

    await push(1_000)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await push(20_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2_000


@pytest.mark.slow
def test_memory_is_flat_over_ten_million_events() -> None:
    import resource

    gate = DecodeGate(GateSettings(threshold=0.5))
    run(gate, [0.0, 0.5, 1.0] * 1_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(10_000_000):
        if gate.push(i % 10 / 10) is not None:
            gate.decoded()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_024  # kB

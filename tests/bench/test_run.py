"""A bench: what it keeps, what it spends, what it repeats, and when it stops."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Lock, Thread
from time import sleep
from typing import Any, Self

import msgspec
import pytest
from msgspec.structs import replace
from rich.console import Console

from suffice.bench.budget import most_usd
from suffice.bench.progress import show_progress
from suffice.bench.run import GIVE_UP_AFTER, Bench, BenchResult, bench_of, run_bench
from suffice.bench.tasks import Task
from suffice.config import PriceConfig, parse_config
from suffice.errors import (
    Abstained,
    BudgetExceeded,
    ConfigError,
    EngineProtocolError,
    EngineRefused,
    EngineUnreachable,
    EngineUnusable,
    InputError,
    PriceError,
)
from suffice.meter import Price, Rates, charge, max_usd, price_for
from suffice.scoring.labels import score_by_agreement
from suffice.trials.importers import read_trials
from suffice.types import (
    Completion,
    Count,
    CountSource,
    Finish,
    Request,
    Rung,
    Trial,
    TrialStatus,
    Usage,
)

PRICE = price_for(
    "p", PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(1000))
)
SMALL = Rung(name="small", engine="e", model="s", max_output_tokens=10, price="p")
BIG = Rung(name="big", engine="e", model="b", max_output_tokens=10, price="p")
JUDGE = Rung(name="judge", engine="j", model="j", max_output_tokens=10, price="p")

Reply = Callable[[Request, Rung], str]


def count(tokens: int) -> Count:
    return Count(tokens, CountSource.REPORTED)


class Engine:
    """Answers from a function, counts calls, and knows what it would have billed."""

    def __init__(self, reply: Reply = lambda request, rung: "2", *, delay_s: float = 0.0) -> None:
        self.reply, self.delay_s = reply, delay_s
        self.calls: Counter[tuple[str, str]] = Counter()
        self.billed_usd = Decimal(0)
        self.now = self.most_at_once = 0
        self.usage = Usage(input_tokens=count(5), output_tokens=count(4))

    async def complete(self, request: Request, rung: Rung) -> Completion:
        self.calls[request.request_id, rung.name] += 1
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        try:
            await asyncio.sleep(self.delay_s)
            text = self.reply(request, rung)
        finally:
            self.now -= 1
        self.billed_usd += charge(self.usage, PRICE).usd or 0
        return Completion(text=text, finish=Finish.STOP, usage=self.usage, duration_s=0.1)

    def stream(self, request: Request, rung: Rung) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def tasks(number: int, **fields: Any) -> tuple[Task, ...]:
    fields = {"target": "2", "scorer": "exact"} | fields
    return tuple(
        Task(
            request=Request(
                request_id=f"r{i}", messages=({"role": "user", "content": f"1+1? {i}"},), group="g"
            ),
            **fields,
        )
        for i in range(number)
    )


def bench(path: Path, number: int = 3, **fields: Any) -> Bench:
    task_fields = {k: fields.pop(k) for k in ("target", "scorer", "options") if k in fields}
    given = {
        "tasks": tasks(number, **task_fields),
        "rungs": (SMALL, BIG),
        "out": path / "trials.jsonl",
        "prices": {"p": PRICE},
        "reference": "big",
    }
    return Bench(**(given | fields))


def run(work: Bench, engine: Engine, judge: Engine | None = None, **more: Any) -> BenchResult:
    engines = {"e": engine} | ({"j": judge} if judge else {})
    return asyncio.run(run_bench(work, engines=engines, **more))


def refuse(status: int, *, retryable: bool = False) -> EngineRefused:
    return EngineRefused(f"HTTP {status}", status=status, retryable=retryable, hint="a hint")


def raising(error: Exception, *, where: Callable[[Request, Rung], bool]) -> Reply:
    def reply(request: Request, rung: Rung) -> str:
        if where(request, rung):
            raise error
        return "2"

    return reply


def test_every_pair_becomes_one_trial_with_its_cost_and_signals(tmp_path: Path) -> None:
    engine = Engine(lambda request, rung: "2" if rung.name == "big" else "3")
    result = run(bench(tmp_path), engine)
    assert [(t.request_id, t.rung) for t in result.trials] == [
        (f"r{i}", rung) for i in range(3) for rung in ("small", "big")
    ]
    small, big = result.trials[:2]
    assert (small.status, small.quality, small.scorer) == (TrialStatus.SCORED, 0.0, "exact")
    assert (big.quality, big.answer, big.text, big.group) == (1.0, "2", "1+1? 0", "g")
    assert big.finish is Finish.STOP
    assert big.duration_s == 0.1
    assert big.charge_usd == (5 * Decimal(1) + 4 * Decimal(1000)) / 10**6
    assert result.spend.usd == 6 * big.charge_usd
    assert (result.answered, result.kept) == (6, 0)

    def in_order(trials: tuple[Trial, ...]) -> list[Trial]:
        return sorted(trials, key=lambda trial: (trial.request_id, trial.rung))

    assert in_order(read_trials(tmp_path / "trials.jsonl")) == in_order(result.trials)


def test_existing_trials_are_not_run_again(tmp_path: Path) -> None:
    first = run(bench(tmp_path), Engine())
    engine = Engine()
    second = run(bench(tmp_path), engine)
    assert not engine.calls
    assert second.trials == first.trials
    assert (second.answered, second.kept) == (0, 6)
    assert second.spend == first.spend


def test_calls_are_concurrent_up_to_the_engine_s_limit(tmp_path: Path) -> None:
    engine = Engine(delay_s=0.01)
    run(bench(tmp_path, 10, parallel={"e": 3}), engine)
    assert engine.most_at_once == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rungs": (SMALL,)}, "made from other ladder"),
        ({"rungs": (replace(SMALL, max_output_tokens=11), BIG)}, "made from other ladder"),
        ({"tasks": tasks(4)}, "made from other tasks"),
        ({"tasks": tasks(3, target="3")}, "made from other tasks"),
        ({"tasks": tasks(4), "rungs": (BIG,)}, "made from other tasks and another ladder"),
    ],
)
def test_resuming_with_other_tasks_or_rungs_is_refused(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    run(bench(tmp_path), Engine())
    before = (tmp_path / "trials.jsonl").read_bytes()
    engine = Engine()
    with pytest.raises(InputError, match=says) as caught:
        run(bench(tmp_path, **change), engine)
    assert "another output file" in (caught.value.hint or "")
    assert not engine.calls
    assert (tmp_path / "trials.jsonl").read_bytes() == before


def test_a_file_of_other_trials_is_not_written_into(tmp_path: Path) -> None:
    run(bench(tmp_path), Engine())
    (tmp_path / "trials.jsonl.journal").unlink()
    with pytest.raises(InputError, match="holds 6 trials that no bench made"):
        run(bench(tmp_path), Engine())


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_an_unfinished_last_line_is_repaired(tmp_path: Path, cut: int) -> None:
    """Without its line end a whole line is kept; any shorter one is taken off and run again."""
    run(bench(tmp_path), Engine())
    path = tmp_path / "trials.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    engine = Engine()
    run(bench(tmp_path), engine)
    assert sum(engine.calls.values()) == (0 if cut == 1 else 1)
    assert len(read_trials(path)) == 6
    assert path.read_bytes().endswith(b"}\n")


def test_a_broken_line_in_the_middle_is_refused(tmp_path: Path) -> None:
    run(bench(tmp_path), Engine())
    path = tmp_path / "trials.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"{oops\n", *lines[1:]]))
    with pytest.raises(InputError, match="line 2"):
        run(bench(tmp_path), Engine())


def test_two_benches_do_not_write_one_file(tmp_path: Path) -> None:
    async def both() -> list[Any]:
        work = bench(tmp_path)
        engines = {"e": Engine(delay_s=0.05)}
        runs = (run_bench(work, engines=engines) for _ in range(2))
        return await asyncio.gather(*runs, return_exceptions=True)

    first, second = asyncio.run(both())
    assert isinstance(first, BenchResult)
    assert isinstance(second, InputError)
    assert "another process" in second.message


@pytest.mark.parametrize("name", [".", "no/such/folder.jsonl"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    engine = Engine()
    with pytest.raises(InputError, match="cannot write"):
        run(bench(tmp_path, out=tmp_path / name), engine)
    assert not engine.calls


def test_a_full_disk_stops_the_bench_and_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, size = os.write, 1500

    def write(file: int, data: bytes) -> int:
        room = size - os.fstat(file).st_size
        if Path(f"/proc/self/fd/{file}").readlink().name != "trials.jsonl":
            return real(file, data)
        if room <= 0:
            raise OSError(28, "No space left on device")
        return real(file, data[:room])

    monkeypatch.setattr("suffice.bench.trials_file.os.write", write)
    with pytest.raises(InputError, match="No space left") as caught:
        run(bench(tmp_path, 20), Engine())
    assert "run the same command" in (caught.value.hint or "")
    monkeypatch.undo()
    kept = read_trials(tmp_path / "trials.jsonl")
    assert 0 < len(kept) < 40
    engine = Engine()
    assert len(run(bench(tmp_path, 20), engine).trials) == 40
    assert sum(engine.calls.values()) == 40 - len(kept)


def test_a_failed_request_is_a_failed_trial_and_is_retried_only_if_that_may_help(
    tmp_path: Path,
) -> None:
    def reply(request: Request, rung: Rung) -> str:
        if rung.name == "small" and request.request_id == "r0":
            raise refuse(400)
        if rung.name == "small" and request.request_id == "r1":
            raise EngineProtocolError("cut off", retryable=True)
        return "2"

    result = run(bench(tmp_path), Engine(reply))
    failed = [t for t in result.trials if t.status is TrialStatus.FAILED]
    assert [(t.request_id, t.quality, t.retryable) for t in failed] == [
        ("r0", None, False),
        ("r1", None, True),
    ]
    assert failed[1].error == "cut off"
    assert result.spend.unknown_count == 1, "the stream that was cut off may have been billed"
    engine = Engine()
    again = run(bench(tmp_path), engine)
    assert engine.calls == {("r1", "small"): 1}
    assert [t.status for t in again.trials].count(TrialStatus.FAILED) == 1
    assert read_trials(tmp_path / "trials.jsonl")  # the retried trial replaces the failed one


def test_an_abstention_is_a_trial_of_its_own_that_is_paid_for_and_final(tmp_path: Path) -> None:
    priced = price_for(
        "p",
        PriceConfig(
            input_usd_per_mtok=Decimal(1),
            output_usd_per_mtok=Decimal(1000),
            usd_per_thousand_requests=Decimal(2),
        ),
    )
    engine = Engine(raising(Abstained("not sure"), where=lambda _, rung: rung.name == "small"))
    work = bench(tmp_path, prices={"p": priced})
    result = run(work, engine)
    small = [t for t in result.trials if t.rung == "small"]
    assert {(t.status, t.quality, t.scorer) for t in small} == {(TrialStatus.SCORED, 0.0, "exact")}
    assert {(t.finish, t.error, t.answer) for t in small} == {(Finish.ABSTAINED, "not sure", None)}
    assert {t.charge_usd for t in small} == {Decimal("0.002")}
    big = next(t.charge_usd for t in result.trials if t.rung == "big")
    assert result.spend.usd == 3 * (big + Decimal("0.002"))
    assert result.answered == 3
    calls = engine.calls.total()
    assert run(work, engine).trials == result.trials
    assert engine.calls.total() == calls


def test_an_abstention_without_a_scorer_is_unscored_until_it_is_compared(tmp_path: Path) -> None:
    engine = Engine(raising(Abstained("not sure"), where=lambda _, rung: rung.name == "small"))
    found = run(bench(tmp_path, 1, target=None, scorer=None), engine).trials
    assert [t.status for t in found] == [TrialStatus.UNSCORED, TrialStatus.UNSCORED]
    small, big = score_by_agreement(found, reference="big")
    assert (small.status, small.quality) == (TrialStatus.SCORED, 0.0)
    assert big.quality == 1.0


def test_output_that_costs_nothing_needs_no_bound() -> None:
    free = price_for(
        "p",
        PriceConfig(
            input_usd_per_mtok=Decimal(0),
            output_usd_per_mtok=Decimal(0),
            usd_per_thousand_requests=Decimal(3),
        ),
    )
    boundless = replace(SMALL, max_output_tokens=None)
    asked = tasks(1)[0].request
    assert most_usd(asked, boundless, price=free) == Decimal("0.003")
    assert most_usd(asked, boundless, price=PRICE) is None


def test_an_engine_that_is_down_is_given_up_on(tmp_path: Path) -> None:
    down = EngineUnreachable("connection refused", hint="is it started?", retryable=True)
    engine = Engine(raising(down, where=lambda request, rung: True))
    with pytest.raises(EngineUnreachable, match="connection refused"):
        run(bench(tmp_path, 50, parallel={"e": 1}), engine)
    assert sum(engine.calls.values()) == GIVE_UP_AFTER
    assert len(run(bench(tmp_path, 50), Engine()).trials) == 100


def test_occasional_failures_do_not_stop_a_bench(tmp_path: Path) -> None:
    shaky = EngineUnreachable("silent", retryable=True)
    engine = Engine(raising(shaky, where=lambda request, rung: rung.name == "small"))
    result = run(bench(tmp_path, 20, parallel={"e": 1}), engine)
    assert [t.status for t in result.trials].count(TrialStatus.FAILED) == 20


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_refusal_that_is_about_all_requests_stops_at_once_and_marks_none(
    tmp_path: Path, status: int
) -> None:
    engine = Engine(raising(refuse(status), where=lambda request, rung: True))
    with pytest.raises(EngineRefused):
        run(bench(tmp_path, 20, parallel={"e": 2}), engine)
    assert sum(engine.calls.values()) <= 2
    assert run(bench(tmp_path, 20), Engine()).answered == 40


def test_an_engine_that_can_answer_nothing_stops_the_bench_at_once(tmp_path: Path) -> None:
    engine = Engine(raising(EngineUnusable("damaged"), where=lambda request, rung: True))
    with pytest.raises(EngineUnusable):
        run(bench(tmp_path, 20, parallel={"e": 2}), engine)
    assert sum(engine.calls.values()) <= 2


def test_when_every_request_fails_the_bench_fails(tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match="HTTP 400"):
        run(bench(tmp_path), Engine(raising(refuse(400), where=lambda request, rung: True)))


def test_one_more_failure_does_not_undo_a_bench(tmp_path: Path) -> None:
    lost = raising(
        EngineProtocolError("cut", retryable=True),
        where=lambda request, rung: rung is BIG and request.request_id == "r0",
    )
    for _ in range(2):
        result = run(bench(tmp_path), Engine(lost))
        assert [t.status for t in result.trials].count(TrialStatus.FAILED) == 1


def test_calls_in_flight_at_a_stop_are_kept(tmp_path: Path) -> None:
    def reply(request: Request, rung: Rung) -> str:
        if request.request_id == "r0" and rung.name == "small":
            raise refuse(401)
        return "2"

    with pytest.raises(EngineRefused):
        run(bench(tmp_path, 20, parallel={"e": 4}), Engine(reply, delay_s=0.01))
    assert len(read_trials(tmp_path / "trials.jsonl")) == 3


def test_a_task_without_a_scorer_is_unscored(tmp_path: Path) -> None:
    result = run(bench(tmp_path, scorer=None, target=None), Engine())
    assert {t.status for t in result.trials} == {TrialStatus.UNSCORED}
    assert {t.quality for t in result.trials} == {None}
    engine = Engine()
    run(bench(tmp_path, scorer=None, target=None), engine)
    assert not engine.calls


# -- money ---------------------------------------------------------------------------------------


def most(rung: Rung = SMALL) -> Decimal:
    found = most_usd(tasks(1)[0].request, rung, price=PRICE)
    assert found is not None
    return found


def test_the_most_is_an_upper_bound_of_any_charge() -> None:
    request = tasks(1)[0].request
    for text in ("", "x" * 500, "\N{GRINNING FACE}" * 100):
        asked = replace(request, messages=({"role": "user", "content": text},))
        bound = most_usd(asked, SMALL, price=PRICE)
        usage = Usage(input_tokens=count(len(text.encode()) + 50), output_tokens=count(10))
        charged = charge(usage, PRICE).usd
        assert bound is not None
        assert charged is not None
        assert charged <= bound


def test_the_smaller_limit_of_request_and_rung_bounds_the_answer() -> None:
    request = tasks(1)[0].request
    for params, rung, same_as in (
        ({"max_tokens": 5}, SMALL, replace(SMALL, max_output_tokens=5)),
        ({"max_tokens": 50}, SMALL, SMALL),
        ({"max_completion_tokens": 10}, replace(SMALL, max_output_tokens=None), SMALL),
    ):
        found = most_usd(replace(request, params=params), rung, price=PRICE)
        assert found is not None
        assert found - most(same_as) < Decimal("0.0001"), "but for the bytes of the parameter"


def test_an_api_with_a_least_limit_of_tokens_is_reserved_for_with_that(tmp_path: Path) -> None:
    """The Responses API takes no limit under 16, so an answer may be longer than was asked for."""
    short = replace(SMALL, max_output_tokens=5)
    request = tasks(1)[0].request
    assert most_usd(request, short, price=PRICE, fewest_tokens=16) == most(
        replace(SMALL, max_output_tokens=16)
    )
    assert most_usd(request, SMALL, price=PRICE, fewest_tokens=5) == most()
    config = parse_config(
        """
        reference = "small"
        [engine.o]
        kind = "responses"
        url = "http://127.0.0.1:1/v1"
        [engine.chat]
        kind = "openai"
        url = "http://127.0.0.1:1/v1"
        [[ladder]]
        name = "small"
        engine = "o"
        model = "s"
        """
    )
    plan = bench_of(config, tasks=tasks(1), out=tmp_path / "trials.jsonl")
    assert plan.fewest_tokens == {"o": 16}


def test_the_cap_holds_for_answers_longer_than_was_asked_for(tmp_path: Path) -> None:
    short = replace(SMALL, max_output_tokens=5)
    cap = most_usd(tasks(1)[0].request, short, price=PRICE, fewest_tokens=15)
    for fewest, asked in ((16, False), (15, True)):
        fields = {"rungs": (short,), "fewest_tokens": {"e": fewest}, "max_usd": cap}
        engine = Engine()
        with contextlib.nullcontext() if asked else pytest.raises(BudgetExceeded):
            out = tmp_path / f"{fewest}.jsonl"
            run(bench(tmp_path, 1, reference="small", out=out, **fields), engine)
        assert bool(engine.calls) == asked


def test_the_most_counts_samples_and_the_dearest_rate() -> None:
    three = replace(SMALL, params={"n": 3})
    assert most(three) - most() == pytest.approx(Decimal("0.02"), rel=Decimal("0.01"))
    day = Rates(input_usd_per_mtok=Decimal(2), output_usd_per_mtok=Decimal(10))
    dear = replace(day, reasoning_usd_per_mtok=Decimal(30), cache_write_usd_per_mtok=Decimal(5))
    night = replace(day, output_usd_per_mtok=Decimal(1), hours_utc=(time(22), time(6)))
    for rates, usd in (((day,), 12), ((dear, night), 35), ((night, dear), 35)):
        price = Price(name="x", rates=rates, source="a test")
        assert max_usd(price, input_tokens=10**6, output_tokens=10**6) == usd


@pytest.mark.parametrize("parallel", [1, 3, 8])
@pytest.mark.parametrize("calls", [1, 4, 11])
def test_the_cap_is_never_passed_and_well_used(tmp_path: Path, parallel: int, calls: int) -> None:
    one = charge(Engine().usage, PRICE).usd
    assert one is not None
    cap = one * (calls - 1) + most() * Decimal("1.01")
    engine = Engine(delay_s=0.001)
    with pytest.raises(BudgetExceeded) as caught:
        run(bench(tmp_path, 20, max_usd=cap, parallel={"e": parallel}), engine)
    assert engine.billed_usd <= cap
    assert sum(engine.calls.values()) >= calls
    assert "raise the cap" in (caught.value.hint or "")
    kept = len(read_trials(tmp_path / "trials.jsonl"))
    assert kept == sum(engine.calls.values())
    rest = Engine()
    assert len(run(bench(tmp_path, 20, max_usd=Decimal(10)), rest).trials) == 40
    assert sum(rest.calls.values()) == 40 - kept


def test_a_cap_covers_all_runs_of_a_file(tmp_path: Path) -> None:
    cap = most() * 3
    for _ in range(3):
        engine = Engine()
        with pytest.raises(BudgetExceeded):
            run(bench(tmp_path, 20, max_usd=cap), engine)
    spent = sum(t.charge_usd or Decimal(0) for t in read_trials(tmp_path / "trials.jsonl"))
    assert spent <= cap
    assert not engine.calls, "the third run found nothing left"


def test_an_unknown_charge_counts_as_the_most(tmp_path: Path) -> None:
    engine = Engine()
    engine.usage = Usage()
    for _ in range(2):
        with pytest.raises(BudgetExceeded):
            run(bench(tmp_path, 20, max_usd=most() * Decimal("3.5")), engine)
        assert sum(engine.calls.values()) == 3


@pytest.mark.parametrize(
    ("rung", "error", "says"),
    [
        (replace(SMALL, price=None), PriceError, "has no price"),
        (replace(SMALL, max_output_tokens=None), InputError, "no bound on its cost"),
    ],
)
def test_a_cap_needs_a_price_and_a_bound_and_no_cap_needs_neither(
    tmp_path: Path, rung: Rung, error: type[Exception], says: str
) -> None:
    engine = Engine()
    with pytest.raises(error, match=says):
        run(bench(tmp_path, rungs=(rung, BIG), max_usd=Decimal(1)), engine)
    assert not engine.calls
    result = run(bench(tmp_path, rungs=(rung, BIG)), engine)
    if rung.price is None:
        assert result.trials[0].charge_usd is None
        assert result.spend.usd is None
        assert result.spend.unknown_count == 3


def test_a_cap_after_calls_of_unknown_cost_is_refused(tmp_path: Path) -> None:
    run(bench(tmp_path, 2, prices={}), Engine())
    with pytest.raises(InputError, match="4 earlier calls of this file have an unknown cost"):
        run(bench(tmp_path, 2, max_usd=Decimal(1)), Engine())


def test_images_cannot_be_capped(tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    request = Request(request_id="i", messages=({"role": "user", "content": [image]},))
    with pytest.raises(InputError, match="no bound on its cost"):
        run(bench(tmp_path, tasks=(Task(request=request),), max_usd=Decimal(1)), Engine())


# -- marking that comes later --------------------------------------------------------------------


def judging(request: Request, rung: Rung) -> str:
    """Like answers with more of the letter g, wherever they stand."""
    first, second = (request.text.split(f"<answer_{x} ")[1].split("<")[0] for x in "AB")
    liked = (first.count("g") > second.count("g")) - (first.count("g") < second.count("g"))
    return f"Verdict: {['tie', 'A', 'B'][liked]}"


def test_a_pairwise_judge_compares_with_the_reference_in_both_orders(tmp_path: Path) -> None:
    answers = {"r0": "ggg", "r1": "g", "r2": ""}
    engine = Engine(lambda request, rung: answers[request.request_id] if rung is SMALL else "g")
    judge = Engine(judging)
    work = bench(tmp_path, scorer="pairwise", target=None, judge=JUDGE)
    result = run(work, engine, judge)
    quality = {(t.request_id, t.rung): t.quality for t in result.trials}
    assert [quality[f"r{i}", "small"] for i in range(3)] == [1.0, 1.0, 0.0]
    assert [quality[f"r{i}", "big"] for i in range(3)] == [1.0, 1.0, 1.0]
    assert sum(judge.calls.values()) == 6
    one = charge(engine.usage, PRICE).usd
    assert result.spend.usd == 12 * (one or 0), "judging is paid for too"
    assert all(t.charge_usd == one for t in result.trials), "but is no cost of the rung"
    again = Engine(judging)
    assert run(work, Engine(), again).trials == result.trials
    assert not again.calls


def test_a_rubric_judge_that_says_nothing_leaves_the_answer_unscored(tmp_path: Path) -> None:
    replies = {"r0": "Score: 5", "r1": "no comment", "r2": "Score: 10"}
    judge = Engine(lambda request, rung: replies[request.request_id.removesuffix("#judge")])
    work = bench(tmp_path, scorer="rubric", rungs=(BIG,), judge=JUDGE)
    result = run(work, Engine(), judge)
    assert [t.quality for t in result.trials] == [0.5, None, 1.0]
    assert "no mark" in (result.trials[1].error or "")


def test_answers_are_kept_while_the_judge_is_down_and_judged_later(tmp_path: Path) -> None:
    work = bench(tmp_path, 9, scorer="rubric", rungs=(BIG,), judge=JUDGE)
    down = Engine(raising(EngineUnreachable("gone", retryable=True), where=lambda *_: True))
    with pytest.raises(EngineUnreachable):
        run(work, Engine(), down)
    engine = Engine()
    result = run(work, engine, Engine(lambda request, rung: "Score: 10"))
    assert not engine.calls
    assert [t.quality for t in result.trials] == [1.0] * 9
    assert len(read_trials(tmp_path / "trials.jsonl")) == 9


def test_a_pair_waits_for_the_reference_s_answer(tmp_path: Path) -> None:
    lost = raising(
        EngineProtocolError("cut", retryable=True),
        where=lambda request, rung: rung is BIG and request.request_id == "r0",
    )
    work = bench(tmp_path, scorer="pairwise", judge=JUDGE)
    first = run(work, Engine(lost), Engine(judging))
    assert first.trials[0].status is TrialStatus.UNSCORED
    second = run(work, Engine(), Engine(judging))
    assert second.trials[0].quality == 1.0


def test_the_cap_holds_for_the_judge_too(tmp_path: Path) -> None:
    engine, judge = Engine(), Engine(lambda request, rung: "Score: 10")
    one = charge(engine.usage, PRICE).usd or Decimal(0)
    work = bench(tmp_path, 9, scorer="rubric", rungs=(BIG,), judge=JUDGE)
    cap = 9 * one + most(JUDGE) * 3
    with pytest.raises(BudgetExceeded):
        run(replace_cap(work, cap), engine, judge)
    assert sum(engine.calls.values()) == 9
    assert judge.calls
    assert engine.billed_usd + judge.billed_usd <= cap
    with pytest.raises(PriceError, match="judge"):
        run(replace_cap(work, cap, judge=replace(JUDGE, price=None)), engine, judge)


def replace_cap(work: Bench, cap: Decimal, **fields: Any) -> Bench:
    return Bench(**(vars(work) | {"max_usd": cap} | fields))


def test_a_function_of_the_user_marks_answers_that_are_already_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "suffice_slow_scorer.py").write_text(
        "import json, pathlib\n"
        "out = pathlib.Path(__file__).with_name('trials.jsonl')\n"
        "def kept(text, target, options):\n"
        "    return any(json.loads(x)['answer'] == text for x in out.read_text().splitlines())\n"
    )
    result = run(bench(tmp_path, scorer="suffice_slow_scorer:kept"), Engine())
    assert {t.quality for t in result.trials} == {1.0}


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"tasks": ()}, InputError, "no task"),
        ({"rungs": (replace(SMALL, engine="x"),)}, ConfigError, "engine 'x' is not open"),
        ({"parallel": {"e": 0}}, ConfigError, "0 calls at once"),
        ({"scorer": "rubric"}, InputError, "needs a judge"),
        ({"scorer": "pairwise", "judge": replace(JUDGE, engine="e"), "reference": "bg"},
         ConfigError, "'bg' is none"),
    ],
)  # fmt: skip
def test_an_impossible_bench_is_refused_before_the_first_call(
    tmp_path: Path, fields: dict[str, Any], error: type[Exception], says: str
) -> None:
    engine = Engine()
    with pytest.raises(error, match=says):
        run(bench(tmp_path, **fields), engine)
    assert not engine.calls
    assert not (tmp_path / "trials.jsonl").exists()


def test_a_configuration_gives_rungs_prices_and_limits(tmp_path: Path) -> None:
    config = parse_config("""
        reference = "big"
        [engine.e]
        kind = "replay"
        parallel = 7
        [price.p]
        input_usd_per_mtok = 1
        output_usd_per_mtok = 1000
        [[ladder]]
        name = "big"
        engine = "e"
        model = "m"
        price = "p"
    """)
    made = bench_of(config, tasks=tasks(1), out=tmp_path / "x", max_usd=Decimal(3))
    assert (made.reference, made.parallel, made.max_usd) == ("big", {"e": 7}, Decimal(3))
    assert made.rungs == config.ladder
    assert made.prices["p"].rates[0].output_usd_per_mtok == 1000


# -- progress ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("quiet_s", "count"), [(0.0, 11), (20.0, 2)])
def test_progress_is_plain_lines_outside_a_terminal_few_where_it_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_s: float, count: int
) -> None:
    monkeypatch.setattr("suffice.bench.progress.QUIET_S", quiet_s)
    out = StringIO()
    console = Console(file=out, width=100)
    run(bench(tmp_path, 10), Engine(), show=lambda total: show_progress(total, console=console))
    lines = out.getvalue().splitlines()
    assert len(lines) == count
    assert lines[0].startswith("answers: 1 of 20, $0.00400, unknown left")
    assert lines[-1].startswith("answers: 20 of 20, $0.08, ")


def test_progress_is_a_bar_on_a_terminal(tmp_path: Path) -> None:
    out = StringIO()
    console = Console(file=out, width=100, force_terminal=True)
    free = (replace(SMALL, price=None),)
    run(
        bench(tmp_path, 3, rungs=free),
        Engine(),
        show=lambda total: show_progress(total, console=console),
    )
    assert "3/3" in out.getvalue()
    assert "cost unknown" in out.getvalue()


# -- kills ---------------------------------------------------------------------------------------

CHILD = """
import asyncio, sys, urllib.request
from pathlib import Path
from suffice.bench.run import Bench, run_bench
from suffice.bench.sources import load_tasks
from suffice.types import Completion, Finish, Rung, Usage

folder, port = Path(sys.argv[1]), sys.argv[2]

class Engine:
    async def complete(self, request, rung):
        url = f"http://127.0.0.1:{port}/{request.request_id}/{rung.name}"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
        return Completion(text=text, finish=Finish.STOP, usage=Usage(), duration_s=0.0)

rungs = tuple(Rung(name=name, engine="e", model="m") for name in ("small", "big"))
bench = Bench(tasks=load_tasks(folder / "tasks.jsonl"), rungs=rungs, out=folder / "trials.jsonl",
              parallel={"e": 4})
asyncio.run(run_bench(bench, engines={"e": Engine()}))
"""


class Counting(ThreadingHTTPServer):
    """Counts calls, and answers no more than `limit` of them: a bench cannot outrun its kill."""

    daemon_threads = True

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.limit = 0
        self.lock = Lock()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Counting

    def do_GET(self) -> None:
        _, request_id, rung = self.path.split("/")
        with self.server.lock:
            self.server.calls[request_id, rung] += 1
            turn = sum(self.server.calls.values())
        sleep(random.uniform(0, 0.03))
        while turn > self.server.limit:
            sleep(0.005)
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):  # the caller may have been killed
            self.wfile.write(b"2")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Counting]:
    with Counting() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def whole_lines(path: Path) -> list[bytes]:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1].splitlines()


def pair(line: bytes) -> tuple[str, str]:
    row = msgspec.json.decode(line)
    return row["request_id"], row["rung"]


@pytest.mark.slow
def test_a_kill_at_any_point_loses_no_trial_and_repeats_only_what_was_in_flight(
    tmp_path: Path, server: Counting
) -> None:
    dice = random.Random(11)
    rows = [{"request_id": f"r{i}", "text": "1+1?", "target": "2"} for i in range(60)]
    (tmp_path / "tasks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(server.server_port)]
    out = tmp_path / "trials.jsonl"
    kills, paid = 5, dict[tuple[str, str], int]()
    for kill in range(kills):
        until = sum(server.calls.values()) + dice.randint(3, 9)
        server.limit = until + 12
        child = subprocess.Popen(command)
        while child.poll() is None and sum(server.calls.values()) < until:
            sleep(0.001)
        sleep(dice.uniform(0, 0.03))
        assert child.poll() is None, "the bench ended before it could be killed"
        child.send_signal(signal.SIGKILL)
        child.wait()
        kept = whole_lines(out)
        assert [pair(line) for line in kept[: len(paid)]] == list(paid), f"kill {kill}"
        assert all(server.calls[p] == calls for p, calls in paid.items()), "asked again"
        paid |= {pair(line): server.calls[pair(line)] for line in kept[len(paid) :]}
    assert paid
    server.limit = 10**6
    subprocess.run(command, check=True)
    lines = [pair(line) for line in whole_lines(out)]
    assert len(lines) == len(set(lines)) == 120
    assert lines[: len(paid)] == list(paid)
    assert all(server.calls[p] == calls for p, calls in paid.items())
    assert sum(server.calls.values()) <= 120 + 4 * kills
    assert len(read_trials(out)) == 120


def test_calls_in_flight_at_a_kill_count_against_the_cap(tmp_path: Path) -> None:
    run(bench(tmp_path, 1), Engine())
    journal = tmp_path / "trials.jsonl.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if b'"end"' not in line))
    (tmp_path / "trials.jsonl").write_bytes(whole_lines(tmp_path / "trials.jsonl")[0] + b"\n")
    engine = Engine()
    with pytest.raises(BudgetExceeded):
        run(bench(tmp_path, 1, max_usd=most() * Decimal("2.5")), engine)
    assert not engine.calls
    result = run(bench(tmp_path, 1, max_usd=most() * Decimal("3.5")), engine)
    assert len(result.trials) == 2
    assert result.spend.unknown_count == 2

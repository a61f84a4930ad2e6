"""Early stop: what a rule decides, that its promise holds, and that a live answer does the same."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
import pytest_asyncio
from msgspec.structs import replace

from suffice.bench.tasks import Task
from suffice.bench.traces import Recording, mark_trace, record_traces, trace_label_source
from suffice.cli.latent import describe_stop
from suffice.config import parse_config
from suffice.deployment import build_engines
from suffice.early_stop.engine import EarlyStop, EarlyStopping, record_trace
from suffice.early_stop.learn import LearnedStop, StopTarget, choose, learn_stop, tabulate
from suffice.early_stop.rule import (
    AnswerProbe,
    ConvergenceCheck,
    ReasoningTags,
    StopRule,
    Trace,
    replay,
)
from suffice.early_stop.rules_folder import RulesFile, load_stopping, save_stopping, watch_rules
from suffice.engines.base import Engine
from suffice.engines.chunk import Chunk
from suffice.engines.embedded import EmbeddedEngine
from suffice.engines.replay import ReplayEngine
from suffice.errors import (
    CertificateError,
    ConfigError,
    EngineError,
    EngineRefused,
    EngineUnreachable,
    InputError,
)
from suffice.guarantee import LabelSource
from suffice.ladder import example_text
from suffice.meter import Price, Rates, charge_without_answer
from suffice.trials.table import split_rows
from suffice.types import (
    Completion,
    Count,
    CountSource,
    Effort,
    Finish,
    Request,
    Rung,
    Usage,
)

SUM = "State the final answer to the following arithmetic problem: 8 + 5 - 3 ="
ASKED = Request(request_id="r", messages=({"role": "user", "content": SUM},))
TAGS = ReasoningTags()
HIGH = parse_config(example_text("embedded")).ladder[2]
SOON = StopRule(every_tokens=8, agree=1)
RULE_16 = StopRule(every_tokens=16, agree=2)
NEVER = StopRule(every_tokens=8, agree=99)


def at(tokens: int, answer: str, **changes: object) -> AnswerProbe:
    given = {"input_tokens": 10 + tokens, "output_tokens": 2, "whole": True, "mean_logprob": -0.01}
    return AnswerProbe(at_tokens=tokens, answer=answer, **(given | changes))  # type: ignore[arg-type]


def trace(
    *probes: AnswerProbe, number: int = 0, group: str | None = None, right: str = "7"
) -> Trace:
    """Make a trace of 60 tokens, 58 of them reasoning; its answer is that of the last probe."""
    marked = tuple(replace(each, quality=float(each.answer == right)) for each in probes)
    return Trace(
        request_id=str(number),
        prompt_tokens=10,
        reasoning_tokens=58,
        output_tokens=60,
        answer=probes[-1].answer,
        probes=marked,
        group=group,
        quality=marked[-1].quality,
    )


def converges(rule: StopRule, *probes: AnswerProbe) -> list[bool]:
    follow = ConvergenceCheck(rule)
    return [follow.push(each) for each in probes]


def test_answers_agree_by_what_they_state_in_a_row() -> None:
    rule = StopRule(every_tokens=8, agree=2)
    assert converges(rule, at(8, "7"), at(16, "The answer is: 7"), at(24, "7")) == [0, 1, 1]
    assert converges(rule, at(8, "7"), at(16, "8"), at(24, "7")) == [0, 0, 0]


def test_empty_and_unfinished_answers_never_converge() -> None:
    assert converges(SOON, at(8, ""), at(16, "7", whole=False), at(24, "7")) == [0, 0, 1]
    rule = StopRule(every_tokens=8, agree=2)
    assert converges(rule, at(8, "7"), at(16, "7", whole=False), at(24, "7")) == [0, 0, 0]


def test_an_unsure_or_unmeasured_answer_waits() -> None:
    rule = StopRule(every_tokens=8, agree=1, min_logprob=-0.1)
    probes = (at(8, "7", mean_logprob=None), at(16, "7", mean_logprob=-0.5), at(24, "7"))
    assert converges(rule, *probes) == [0, 0, 1]


def test_a_replay_charges_all_probes_and_what_was_written_past_the_line() -> None:
    found = replay(trace(at(6, "3"), at(20, "7"), at(30, "7"), at(57, "7")), RULE_16)
    # pieces end at 16, 32, 48: probes at 6 ("3") and 30 ("7"); the one at 20 is passed over
    assert found.stopped is None
    assert (found.probe_tokens, found.output_tokens) == (4, 64)
    assert replay(trace(at(6, "7"), at(20, "7"), at(57, "7")), RULE_16).output_tokens == 32 + 4
    assert replay(trace(at(6, "7"), at(20, "7"), at(57, "7")), RULE_16).input_tokens == (
        10 + 16 + (10 + 16) + 30
    )


def population(size: int, *, seed: int) -> list[Trace]:
    """Make traces in two groups: one settles early, the other may settle on a wrong answer."""
    draw = np.random.default_rng(seed)
    made = []
    for number in range(size):
        group = ("easy", "hard")[number % 2]
        lucky = draw.random()
        first = "7" if lucky > (0.01 if group == "easy" else 0.3) else "5"
        sure = -0.01 if first == "7" or draw.random() < 0.3 else -0.3
        early = [at(p, first, mean_logprob=sure) for p in (8, 16, 24)]
        made.append(trace(*early, at(40, "7"), at(57, "7"), number=number, group=group))
    return made


@pytest.mark.slow
def test_the_promise_is_broken_in_at_most_delta_of_draws() -> None:
    whole = tabulate(population(1200, seed=0))
    draw = np.random.default_rng(1)
    broken = certified = 0
    for _ in range(200):
        rows = draw.integers(0, 1200, size=700)
        found = choose(whole.subset(rows[:350]), whole.subset(rows[350:]), alpha=0.04, delta=0.1)
        if found.calibration is None or not found.calibration.certified:
            continue
        certified += 1
        assert found.point is not None
        broken += whole.losses_of(found.point).mean() > 0.04
    assert certified > 100  # or the promise is kept by making none
    assert broken <= 200 * 0.1 + 12  # two standard deviations and a half


def wanted(**changes: object) -> StopTarget:
    given = {"alpha": 0.05, "delta": 0.1, "lapses_after_s": 3600.0, "tags": TAGS, "rung": HIGH}
    return StopTarget(label_source=LabelSource.TARGET, **(given | changes))  # type: ignore[arg-type]


@cache
def certified() -> LearnedStop:
    return learn_stop(population(1000, seed=2), wanted())


def test_rules_are_certified_by_group_and_reported_on_other_traces() -> None:
    found = certified()
    assert found.certified
    assert found.certificate is not None
    assert found.certificate.terms.scope.groups == ("easy", "hard")
    assert "easy" in found.rules
    assert found.figures is not None
    assert found.figures.saving_tokens > 0.1
    assert found.figures.risk <= 0.05
    assert found.rows == {"fit": 500, "certify": 400, "report": 100}


def test_partial_quality_that_first_shows_in_the_certifying_rows_counts_as_a_whole_loss() -> None:
    traces = population(1000, seed=2)
    certifying = split_rows(len(traces), seed=0)[1].tolist()
    for row in certifying[:300]:
        probes = [replace(each, quality=0.4 * (each.quality or 0.0)) for each in traces[row].probes]
        traces[row] = replace(traces[row], probes=tuple(probes))
    learned = learn_stop(traces, wanted())
    assert learned.rows == {"fit": 500, "certify": 400, "report": 100}
    assert not learned.certified
    assert learned.losses == int(learned.losses)


def test_traces_of_equal_requests_go_into_one_split_and_count_once() -> None:
    copies = [replace(t, text_hash=t.request_id) for t in population(200, seed=2)] * 5
    learned = learn_stop(copies, wanted())
    assert sum(learned.rows.values()) == 1000
    assert all(rows % 5 == 0 for rows in learned.rows.values())
    assert learned.n == learned.rows["certify"] // 5


def test_nothing_is_certified_where_early_answers_are_wrong_or_probes_cost_too_much() -> None:
    late = [trace(at(8, "5"), at(30, "6"), at(57, "7"), number=i) for i in range(400)]
    found = learn_stop(late, wanted())
    assert (found.certified, found.rules, found.figures) == (False, {}, None)
    dear = [trace(*(at(p, "7", output_tokens=40) for p in (30, 57)), number=i) for i in range(400)]
    assert learn_stop(dear, wanted()).figures is None


def priced(**rates: str) -> Price:
    mtok = {f"{name}_usd_per_mtok": Decimal(rate) for name, rate in rates.items()}
    return Price(name="p", rates=(Rates(**mtok),), source="test")


def test_repeated_input_is_paid_for_and_a_loss_in_dollars_is_printed() -> None:
    made = [trace(at(8, "7"), at(57, "7"), number=i) for i in range(400)]

    def learned(price: Price | None) -> tuple[float | None, str]:
        found = learn_stop(made, wanted(price=price))
        assert found.figures is not None
        assert found.rules == {"": StopRule(every_tokens=8, agree=1)}
        return found.figures.usd_ratio, describe_stop(found)

    # 10 read and 60 written uncut; else 10 + 18 read, 8 + 2 written
    ratio, said = learned(priced(input="1", output="1"))
    assert ratio == pytest.approx(38 / 70)
    assert "45.7 % saved at the price" in said
    ratio, said = learned(priced(input="10", output="1"))
    assert ratio == pytest.approx(290 / 160)
    assert "WARNING: in dollars it costs 1.81 times" in said
    ratio, said = learned(priced(input="10", output="1", cache_read="0"))
    assert ratio == pytest.approx(110 / 160)
    assert learned(priced(input="0", output="0"))[0] == 1.0
    ratio, said = learned(None)
    assert ratio is None
    assert "not checked, because the rung has no price" in said


def test_unscored_traces_are_left_out_and_counted() -> None:
    made = population(600, seed=3)
    made[0] = replace(made[0], quality=None)
    found = learn_stop(made, wanted())
    assert found.left_out == 1
    assert found.certificate is not None
    assert found.certificate.terms.scope.unscored == 1
    with pytest.raises(InputError, match="too few"):
        learn_stop(made[:3], wanted())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = certified()
    assert found.certificate is not None
    file = RulesFile(rules=found.rules, tags=TAGS)
    save_stopping(tmp_path / "stop", file, found.certificate)
    return tmp_path / "stop"


def test_audits_end_rules_that_began_to_lose(folder: Path) -> None:
    good = watch_rules(folder, population(300, seed=9))
    assert (good.alarm, good.monitor.audits) == (False, 300)
    assert watch_rules(folder, population(300, seed=9)) == good
    load_stopping(folder, HIGH)
    wrong = [
        replace(
            trace(at(8, "5"), at(16, "5"), at(24, "5"), at(57, "7"), number=i, group="easy"),
            request_id=f"new-{i}",
        )
        for i in range(200)
    ]
    assert watch_rules(folder, wrong).alarm
    with pytest.raises(CertificateError, match="alarm"):
        load_stopping(folder, HIGH)
    with pytest.raises(InputError, match="no trace"):
        watch_rules(folder, [replace(each, quality=None) for each in wrong])


def test_rules_load_only_for_the_rung_that_they_were_certified_for(folder: Path) -> None:
    assert load_stopping(folder, HIGH).rules
    assert load_stopping(folder, replace(HIGH, name="brief", early_stop=str(folder))).rules
    with pytest.raises(CertificateError, match="another policy"):
        load_stopping(folder, replace(HIGH, effort=Effort.LOW))
    with pytest.raises(CertificateError, match="another policy"):
        load_stopping(folder, replace(HIGH, params={"temperature": 1}))
    with pytest.raises(InputError, match="holds no stopping rules"):
        load_stopping(folder / "nothing", HIGH)
    text = (folder / "rules.json").read_text()
    (folder / "rules.json").write_text(text.replace('"agree":', '"agree":1'))
    with pytest.raises(CertificateError, match="another policy"):
        load_stopping(folder, HIGH)
    (folder / "rules.json").write_text("[")
    with pytest.raises(InputError, match="damaged"):
        load_stopping(folder, HIGH)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"max_output_tokens": None}, "max_output_tokens"),
        ({"thinking_budget_tokens": 8}, "same reasoning"),
        ({"effort": Effort.NONE}, "nothing to stop"),
    ],
)
def test_rungs_that_it_does_not_fit_are_refused(
    folder: Path, changes: dict[str, object], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        load_stopping(folder, replace(HIGH, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("dialect", ["openai", "mistral", "sglang"])
def test_a_server_that_cannot_continue_a_prefix_is_refused_with_what_can(dialect: str) -> None:
    config = parse_config(
        f"""
        reference = "high"
        [engine.there]
        kind = "openai"
        url = "http://127.0.0.1:1/v1"
        dialect = "{dialect}"
        [[ladder]]
        name = "high"
        engine = "there"
        model = "m"
        max_output_tokens = 99
        early_stop = "stop"
        """
    )
    with pytest.raises(ConfigError, match="start of an answer") as caught:
        build_engines(config)
    assert "llamacpp or vllm" in (caught.value.hint or "")


async def test_an_engine_that_cannot_continue_a_prefix_says_so() -> None:
    with pytest.raises(EngineError, match="ReplayEngine cannot go on") as caught:
        await ReplayEngine([]).extend(ASKED, HIGH, written="")
    assert "llamacpp or vllm" in (caught.value.hint or "")
    assert not caught.value.retryable


def test_tasks_for_a_judge_cannot_be_probed() -> None:
    exact = Task(request=ASKED, target="10", scorer="exact")
    assert trace_label_source([exact]) is LabelSource.TARGET
    assert trace_label_source([exact, Task(request=ASKED)]) is LabelSource.AGREEMENT
    with pytest.raises(InputError, match="needs a judge"):
        trace_label_source([replace(exact, scorer="pairwise")])
    agreed = mark_trace(trace(at(8, "5"), at(57, "The answer is: 7")), Task(request=ASKED))
    assert [each.quality for each in (agreed, *agreed.probes)] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f():\n    return 1\n```", "def f():\n    return 2\n```"),
        ("- 1\n- 2", "- 7\n- 2"),
        ("x" * 101 + "1", "x" * 101 + "2"),
    ],
)
def test_longer_answers_agree_only_as_a_whole(one: str, other: str) -> None:
    rule = StopRule(every_tokens=8, agree=2)
    assert converges(rule, at(8, one), at(16, other), at(24, f"{other} \n")) == [0, 0, 1]
    agreed = mark_trace(trace(at(8, one), at(57, other)), Task(request=ASKED))
    assert [each.quality for each in (agreed, *agreed.probes)] == [1.0, 0.0, 1.0]


def test_an_answer_in_tags_agrees_with_itself() -> None:
    agreed = mark_trace(trace(at(8, "7"), at(57, "<answer>7</answer>")), Task(request=ASKED))
    assert [each.quality for each in (agreed, *agreed.probes)] == [1.0, 1.0, 1.0]


def stopping(rule: StopRule, *, tags: ReasoningTags = TAGS, **terms: object) -> EarlyStopping:
    certificate = certified().certificate
    assert certificate is not None
    scope = replace(certificate.terms.scope, groups=())
    changed = replace(certificate.terms, **({"scope": scope} | terms))  # type: ignore[arg-type]
    return EarlyStopping(
        rules={"": rule}, tags=tags, certificate=replace(certificate, terms=changed)
    )


# -- on an engine that follows a script ---------------------------------------------------------


class Script(Engine):
    """Writes a script, one token a character; probed answers are drawn from what was written."""

    def __init__(
        self,
        script: str,
        *,
        context: int = 10_000,
        failing: Callable[[int], EngineError | None] = lambda _call: None,
    ) -> None:
        self.script, self.context, self.failing = script, context, failing
        self.calls = 0

    async def extend(self, request: Request, rung: Rung, *, written: str) -> Completion:
        self.calls += 1
        if error := self.failing(self.calls):
            raise error
        whole = self.script
        if not whole.startswith(written):  # closed before its time
            whole = f"{written}{len(written) // 40}"
        rest = whole.removeprefix(written)
        limit = min(rung.max_output_tokens or 0, self.context - len(written))
        ends = len(rest) < limit
        return Completion(
            text=rest[:limit],
            finish=Finish.STOP if ends else Finish.LENGTH,
            usage=reported(10 + len(written), len(rest) + 1 if ends else limit),
            duration_s=0.0,
            logprobs=(-0.01,),
        )


def reported(read: int, wrote: int) -> Usage:
    return Usage(
        input_tokens=Count(read, CountSource.REPORTED),
        output_tokens=Count(wrote, CountSource.REPORTED),
    )


PARAGRAPHS = ReasoningTags(boundary="\n\n")
THOUGHTS = "<think>\n\nLet me see.\n\n\nFirst the one\nand\n\n\n\nthe other.\n\nSo it is "
LONG = replace(HIGH, max_output_tokens=500)
SCRIPTS = (
    THOUGHTS + "</think>7",
    THOUGHTS + "seven\n\n</think>\n\n7\n\nor so",
    THOUGHTS,
    "The answer\n\nis\n\nseven",
    "no line at all</think>7",
    "\n\n",
)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("tags", [TAGS, PARAGRAPHS])
@pytest.mark.parametrize("agree", [1, 2, 99])
async def test_a_live_answer_probes_where_the_replay_does_whatever_ends_a_line(
    script: str, tags: ReasoningTags, agree: int
) -> None:
    recorded = await record_trace(Script(script), ASKED, LONG, tags=tags)
    for every in (1, 2, 3, 7, 16, 64):
        rule = StopRule(every_tokens=every, agree=agree)
        said = replay(recorded, rule)
        early = EarlyStop(Script(script), {"high": stopping(rule, tags=tags)})
        found = await early.complete(ASKED, LONG)
        assert found.text == (recorded.answer if said.stopped is None else said.stopped.answer)
        thought = found.usage.reasoning_tokens
        usage = replace(found.usage, reasoning_tokens=None)
        assert usage == reported(said.input_tokens, said.output_tokens)
        assert thought is not None
        assert 0 <= thought.tokens <= said.output_tokens
        assert (thought.tokens > 0) == bool(found.reasoning)


async def streamed(script: str, *, rung: Rung = LONG, **given: int) -> tuple[Completion, str, str]:
    early = EarlyStop(Script(script, **given), {"high": stopping(NEVER)})  # type: ignore[arg-type]
    items = [item async for item in early.stream(ASKED, rung)]
    chunks = [item for item in items if isinstance(item, Chunk)]
    done = items[-1]
    assert isinstance(done, Completion)
    return done, "".join(c.reasoning for c in chunks), "".join(c.text for c in chunks)


@pytest.mark.parametrize(
    ("script", "reasoning", "text"),
    [
        ("The sum\nis 7.", None, "The sum\nis 7."),
        ("<think>The sum\nis 7.", "The sum\nis 7.", ""),
        ("The sum\nis 7.</think>7", "The sum\nis 7.", "7"),  # the template has opened it
    ],
)
async def test_a_finished_text_without_tags_is_the_answer(
    script: str, reasoning: str | None, text: str
) -> None:
    done, thought, said = await streamed(script)
    assert (done.reasoning, done.text, done.finish) == (reasoning, text, Finish.STOP)
    assert (thought, said) == (reasoning or "", text)
    assert (await record_trace(Script(script), ASKED, LONG, tags=TAGS)).answer == text


async def test_an_unfinished_text_without_tags_may_be_reasoning() -> None:
    done, _, _ = await streamed("The sum\nis 7.", rung=replace(LONG, max_output_tokens=10))
    assert (done.reasoning, done.text, done.finish) == ("The sum\nis", "", Finish.LENGTH)


async def test_a_full_context_ends_an_answer_as_its_limit_does() -> None:
    done, thought, _ = await streamed("<think>" + "on and on\n" * 40, context=101)
    assert (done.finish, done.text, len(thought)) == (Finish.LENGTH, "", 101 - len("<think>"))


@pytest.mark.parametrize(
    ("error", "usd"),
    [
        (EngineRefused("full", status=429), "15"),
        (EngineUnreachable("gone", unsent=True), "15"),
        (EngineRefused("broken", status=503), None),
        (EngineUnreachable("silent"), None),
    ],
)
async def test_the_usage_before_a_failed_piece_is_charged(
    error: EngineError, usd: str | None
) -> None:
    price = priced(input="500000", output="250000")
    for first in (2, 1):
        error.used = None
        engine = Script(
            THOUGHTS, failing=lambda call, first=first: error if call >= first else None
        )
        early = EarlyStop(engine, {"high": stopping(replace(NEVER, every_tokens=40))})
        with pytest.raises(type(error)) as caught:
            await early.complete(ASKED, LONG)
        assert caught.value is error
        expected = usd if first == 2 or usd is None else "0"
        charged = charge_without_answer(error, price).usd
        assert charged == (None if expected is None else Decimal(expected))


# -- on the model that ships --------------------------------------------------------------------

live = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[EmbeddedEngine]:
    async with EmbeddedEngine(parse_config(example_text("embedded")).engine["here"]) as engine:
        yield engine


async def through(engine: EmbeddedEngine, rule: StopRule, **terms: object) -> Completion:
    return await EarlyStop(engine, {"high": stopping(rule, **terms)}).complete(ASKED, HIGH)


def spent(completion: Completion) -> int:
    assert completion.usage.output_tokens is not None
    return completion.usage.output_tokens.tokens


@live
async def test_continuing_an_empty_answer_equals_a_chat_answer(engine: EmbeddedEngine) -> None:
    chat = await engine.complete(ASKED, HIGH)
    raw = await engine.extend(ASKED, HIGH, written="")
    assert raw.text == f"<think>{chat.reasoning}</think>{chat.text}"
    assert spent(raw) == spent(chat)
    rest = await engine.extend(ASKED, HIGH, written=f"<think>{chat.reasoning}</think>")
    assert rest.text == chat.text
    assert rest.logprobs is not None
    short = await engine.extend(ASKED, replace(HIGH, max_output_tokens=3), written="")
    assert (short.finish, spent(short)) == (Finish.LENGTH, 3)


@live
@pytest.mark.parametrize("rule", [SOON, RULE_16, NEVER])
async def test_a_live_answer_equals_the_replay_of_its_trace(
    engine: EmbeddedEngine, rule: StopRule
) -> None:
    recorded = await record_trace(engine, ASKED, HIGH, tags=TAGS)
    said = replay(recorded, rule)
    found = await through(engine, rule)
    assert found.text == (recorded.answer if said.stopped is None else said.stopped.answer)
    assert spent(found) == said.output_tokens
    assert found.usage.input_tokens is not None
    assert found.usage.input_tokens.tokens == said.input_tokens
    assert found.effort_seen is True
    assert (found.logprobs is None) == (said.stopped is None)
    assert "<think>" not in (found.reasoning or "")


@live
async def test_a_stream_shows_the_reasoning_and_the_answer_of_its_completion(
    engine: EmbeddedEngine,
) -> None:
    early = EarlyStop(engine, {"high": stopping(NEVER)})
    items = [item async for item in early.stream(ASKED, HIGH)]
    chunks = [item for item in items if isinstance(item, Chunk)]
    done = items[-1]
    assert isinstance(done, Completion)
    assert len(chunks) > 1
    assert "".join(chunk.reasoning for chunk in chunks) == done.reasoning
    assert "".join(chunk.text for chunk in chunks) == done.text


@live
async def test_the_limit_of_the_rung_holds_in_pieces(engine: EmbeddedEngine) -> None:
    early = EarlyStop(engine, {"high": stopping(NEVER)})
    found = await early.complete(ASKED, replace(HIGH, max_output_tokens=12))
    assert (found.finish, found.text) == (Finish.LENGTH, "")


@live
@pytest.mark.parametrize(
    "request_",
    [
        replace(ASKED, params={"response_format": {"type": "json_object"}}),
        replace(ASKED, params={"n": 2}),
        replace(ASKED, params={"stop": ["x"]}),
    ],
)
async def test_more_than_a_plain_answer_is_not_stopped(request_: Request) -> None:
    assert stopping(SOON).rule_for(request_) is None
    assert stopping(SOON).rule_for(ASKED) == SOON


@live
async def test_a_lapsed_or_narrower_certificate_stops_nothing(engine: EmbeddedEngine) -> None:
    uncut = spent(await engine.complete(ASKED, HIGH))
    past = datetime.now(UTC) - timedelta(seconds=1)
    assert spent(await through(engine, SOON, lapses_at=past)) == uncut
    scope = replace(stopping(SOON).certificate.terms.scope, groups=("easy",))
    assert spent(await through(engine, SOON, scope=scope)) == uncut


@live
async def test_traces_are_kept_and_taken_up_again(engine: EmbeddedEngine, tmp_path: Path) -> None:
    tasks = tuple(
        Task(
            request=Request(
                request_id=str(n), messages=({"role": "user", "content": SUM.replace("8", str(n))},)
            ),
            target=str(n + 2),
            scorer="exact",
        )
        for n in (1, 2)
    )
    path = tmp_path / "traces.jsonl"
    recording = Recording(tasks=tasks, rung=HIGH, tags=TAGS, parallel=2, path=path)
    made = await record_traces(recording, engine, say=lambda _: None)
    assert [each.request_id for each in made] == ["1", "2"]
    assert all(each.scored for each in made)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join(lines[:2]) + b'\n{"request_id": "2", "hal')
    again = await record_traces(recording, engine, say=lambda _: None)
    assert again == made
    unasked = await record_traces(recording, ReplayEngine([]), say=lambda _: None)
    assert unasked == made
    other = msgspec.structs.replace(recording, tags=ReasoningTags(boundary="|"))
    with pytest.raises(InputError, match="other tasks, other tags or another rung"):
        await record_traces(other, engine, say=lambda _: None)


@live
async def test_a_failing_engine_is_one_error(tmp_path: Path) -> None:
    recording = Recording(
        tasks=(Task(request=ASKED),), rung=HIGH, tags=TAGS, parallel=1, path=tmp_path / "t"
    )
    with pytest.raises(EngineError, match="cannot go on"):
        await record_traces(recording, ReplayEngine([]), say=lambda _: None)

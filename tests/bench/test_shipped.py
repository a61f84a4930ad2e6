"""The compound workload that ships, and the trials of the rungs that decode nothing."""

import asyncio
from collections import Counter
from pathlib import Path
from random import Random

import msgspec
import pytest
from compound_support import NOW, WORKLOAD, write_workload
from latent_toys import rows, stream
from msgspec.structs import replace
from tools.reference_model.examples import Examples, encode
from tools.reference_model.intents import OUT_OF_SCOPE
from tools.reference_model.questions import OWN, ReasoningQuestion, Spec, held_out, read_spec
from tools.reference_model.tokenizer import build_tokenizer, prompt

from suffice.bench.predicted import (
    BenchedWorkload,
    PredictedRung,
    fit_gate_for_alpha,
    gate_trials,
    latent_trials,
)
from suffice.bench.run import BenchResult
from suffice.bench.shipped import GATE, LATENT, CompoundMeasurement, shipped_tasks, shipped_workload
from suffice.bench.tasks import Task
from suffice.cli import demo
from suffice.cli.main import main
from suffice.compound import CompoundWorkload, compound_trials, read_workload, replay
from suffice.compound.cells import cluster_of
from suffice.encoders.base import default_encoder
from suffice.errors import InputError
from suffice.selective.gate import THRESHOLDS
from suffice.types import (
    Count,
    CountSource,
    Effort,
    Finish,
    Request,
    Spend,
    Trial,
    TrialStatus,
    Usage,
    Vector,
)

pytestmark = pytest.mark.slow

SPEC_FILE = Path(__file__).parents[2] / "benchmarks" / "effort" / "effort.toml"
RUNGS = ("none", "high")
CLOSED, STREAM = (
    PredictedRung(rung="guess", group="intents"),
    PredictedRung(rung="gate", group="camera"),
)


# -- what ships ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec() -> Spec:
    return read_spec(SPEC_FILE)


@pytest.fixture(scope="module")
def tasks() -> tuple[Task, ...]:
    return shipped_tasks()


def test_every_request_belongs_to_a_part_and_every_family_has_as_many(
    tasks: tuple[Task, ...],
) -> None:
    workload = shipped_workload()
    counts = Counter(task.request.group for task in tasks)
    assert set(counts) == {group for part in workload.part.values() for group in part.groups}
    assert len({counts[group] for group in workload.part["reasoning"].groups}) == 1
    assert {LATENT.rung, GATE.rung} == set(workload.rungs_of(Vector.PARADIGM))
    assert {LATENT.group, GATE.group} <= set(counts)


def test_a_stream_is_a_cluster_of_twelve_turns_in_their_order(tasks: tuple[Task, ...]) -> None:
    streams: dict[str, list[str]] = {}
    for task in tasks:
        if task.request.group == GATE.group:
            streams.setdefault(cluster_of(task.request.request_id), []).append(task.request.text)
    for turns in streams.values():
        assert len(turns) == 12
        for now, text in enumerate(turns):
            assert text.count("\n") == min(now + 1, 6)


def test_the_parts_are_thirds_of_what_the_baseline_costs(tasks: tuple[Task, ...]) -> None:
    """With the tokens of worked solutions: what the model is trained to write."""
    workload, tokenizer = shipped_workload(), build_tokenizer()
    price = workload.prices()["dense", "zen4"].rates[0]
    groups = {group: name for name, part in workload.part.items() for group in part.groups}
    usd = Counter[str]()
    for task in tasks[::17]:
        text, group = task.request.text, task.request.group
        answer, label = task.target if isinstance(task.target, list) else [task.target] * 2
        clue = " ".join(text.splitlines()[-1].split()[-6:-2])
        question = ReasoningQuestion(family=group, text=text, answer=answer, label=label, clue=clue)
        whole = encode(tokenizer, question, effort=Effort.HIGH, rng=Random(0)).tokens
        read = len(tokenizer.encode(prompt(text, Effort.HIGH)).ids)
        usd[groups[group]] += float(
            read * price.input_usd_per_mtok + (len(whole) - read) * price.output_usd_per_mtok
        )
    for name, part in workload.part.items():
        assert usd[name] / usd.total() == pytest.approx(part.share, abs=0.05)


def test_about_one_closed_request_in_five_is_out_of_scope(tasks: tuple[Task, ...]) -> None:
    closed = [task for task in tasks if task.request.group == LATENT.group]
    outside = sum(OUT_OF_SCOPE in task.target for task in closed)
    assert 0.1 < outside / len(closed) < 0.3
    assert not any(OUT_OF_SCOPE in task.request.text for task in closed)


def test_the_model_was_trained_on_no_shipped_request(spec: Spec, tasks: tuple[Task, ...]) -> None:
    hashes = {
        ReasoningQuestion(family="", text=task.request.text, answer="").hash for task in tasks
    }
    examples = Examples(spec, None)
    learned = {
        examples.question(number, family=family).hash for number in range(1500) for family in OWN
    }
    assert len(learned) > 1000
    assert not hashes & learned


def test_reasoning_questions_are_held_out_by_their_hash(
    spec: Spec, tasks: tuple[Task, ...]
) -> None:
    known = {task.request.text for task in tasks if task.request.group not in OWN}
    for family in ("gcd", "syllogism"):
        sizes = type(spec.sizes)(held_out=200)
        only = Spec(spec.seeds, sizes, {family: spec.families[family]})
        kept = {question.text for question in held_out(only)[family]}
        asked = {task.request.text for task in tasks if task.request.group == family}
        assert asked <= kept & known


# -- what the rungs that decode nothing do ---------------------------------------------------------


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> CompoundWorkload:
    text = WORKLOAD.replace('rungs = ["guess"]', 'rungs = ["guess", "gate"]')
    text = text.replace('groups = ["intents", "elsewhere"]', 'groups = ["intents"]')
    text = text.replace('out_of_scope = ["elsewhere"]', 'out_of_scope_answers = ["strange"]')
    text = text.replace("alpha = 0.05", "alpha = 0.15")
    return read_workload(write_workload(tmp_path_factory.mktemp("workload"), text=text))


def closed_tasks(count: int = 800) -> list[Task]:
    made = rows(count, seed=4, strange=0.15)
    pairs = enumerate(zip(made.texts, made.answers, strict=True))
    return [_task(f"c{i}", "intents", text, answer or "strange") for i, (text, answer) in pairs]


def stream_tasks(count: int = 60) -> list[Task]:
    return [
        _task(f"s{i}/{at}", "camera", f"What now?\n{turn.context}\n{turn.text}", turn.answer)
        for i in range(count)
        for at, turn in enumerate(stream(i, segments=4))
    ]


def _task(request_id: str, group: str, text: str, target: str | None) -> Task:
    messages = ({"role": "user", "content": text},)
    request = Request(request_id=request_id, messages=messages, group=group)
    return Task(request=request, target=target, scorer="exact")


def trial(task: Task, rung: str, *, answer: str | None = None) -> Trial:
    said = str(task.target) if answer is None else answer
    tokens = Count({"none": 4, "high": 40}[rung], CountSource.REPORTED)
    return Trial(
        request_id=task.request.request_id,
        rung=rung,
        status=TrialStatus.SCORED,
        text=task.request.text,
        group=task.request.group,
        quality=float(said == task.target),
        scorer="exact",
        answer=said,
        finish=Finish.STOP,
        usage=Usage(input_tokens=tokens, output_tokens=tokens),
    )


@pytest.fixture(scope="module")
def benched(workload: CompoundWorkload) -> BenchedWorkload:
    made = (
        *closed_tasks(),
        *(_task(f"sum{i}", "sums", f"{i} + {i} =", str(2 * i)) for i in range(200)),
        *stream_tasks(),
    )
    trials = tuple(trial(task, rung) for task in made for rung in RUNGS)
    return BenchedWorkload(workload=workload, tasks=made, trials=trials, seed=2)


@pytest.fixture(scope="module")
def latent(benched: BenchedWorkload) -> tuple[Trial, ...]:
    return latent_trials(benched, CLOSED, encoder=default_encoder(), say=lambda _: None)


@pytest.fixture(scope="module")
def gated(benched: BenchedWorkload) -> tuple[Trial, ...]:
    return asyncio.run(gate_trials(benched, STREAM, say=lambda _: None))


def test_every_request_of_the_group_is_asked_and_abstentions_say_why(
    benched: BenchedWorkload, latent: tuple[Trial, ...]
) -> None:
    assert [each.request_id for each in latent] == [
        task.request.request_id for task in benched.tasks_of("intents")
    ]
    given = [each for each in latent if each.finish is Finish.STOP]
    assert 0.4 < len(given) / len(latent) < 0.9
    assert sum(each.quality for each in given) / len(given) > 0.95
    assert not any(each.answer == "strange" for each in given), "it must abstain there"
    left = [each for each in latent if each.finish is Finish.ABSTAINED]
    assert len(given) + len(left) == len(latent)
    assert all(each.error for each in left)


def test_the_rungs_learn_from_the_fitting_requests_alone(
    benched: BenchedWorkload, latent: tuple[Trial, ...], gated: tuple[Trial, ...]
) -> None:
    """With everything else answered wrongly they say the same, and it counts as wrong."""
    spoilt = tuple(
        each if each.request_id in benched.fitting else replace(each, answer="nonsense")
        for each in benched.trials
    )
    unknown = tuple(
        task
        if task.request.request_id in benched.fitting or task.request.group != "intents"
        else replace(task, target="nonsense")
        for task in benched.tasks
    )
    other = BenchedWorkload(
        workload=benched.workload, tasks=unknown, trials=spoilt, seed=benched.seed
    )
    again = latent_trials(other, CLOSED, encoder=default_encoder(), say=lambda _: None)
    assert [each.answer for each in again] == [each.answer for each in latent]
    steps = asyncio.run(gate_trials(other, STREAM, say=lambda _: None))
    fits = [at for at, each in enumerate(gated) if each.request_id in benched.fitting]
    assert [steps[at].answer for at in fits] == [gated[at].answer for at in fits]
    held = [s for s in steps if s.answer == "nonsense"]
    assert all(each.quality == 0 for each in held)


def test_a_latent_rung_learns_what_is_right_where_all_tasks_say_it(
    benched: BenchedWorkload, latent: tuple[Trial, ...]
) -> None:
    """Else it learns what the reference says, and the slips of that cost it its certificate."""
    slips = tuple(
        replace(each, answer="nonsense") if at % 10 == 1 else each  # of rung high
        for at, each in enumerate(benched.trials)
    )
    silent = tuple(replace(task, target=None, scorer=None) for task in benched.tasks)

    def asked(tasks: tuple[Task, ...], trials: tuple[Trial, ...]) -> list[str | None]:
        other = BenchedWorkload(
            workload=benched.workload, tasks=tasks, trials=trials, seed=benched.seed
        )
        made = latent_trials(other, CLOSED, encoder=default_encoder(), say=lambda _: None)
        return [each.answer for each in made]

    answers = [each.answer for each in latent]
    assert asked(benched.tasks, slips) == answers
    assert asked(silent, benched.trials) == answers
    assert asked(silent, slips) != answers


def test_a_gate_decodes_the_first_event_and_holds_most_others(gated: tuple[Trial, ...]) -> None:
    first = [each for each in gated if each.request_id.endswith("/0")]
    assert all(each.finish is Finish.ABSTAINED for each in first)
    held = [each for each in gated if each.finish is Finish.STOP]
    assert 0.3 < len(held) / len(gated) < 0.85
    assert sum(each.quality for each in held) / len(held) > 0.75


def test_a_held_answer_is_right_only_if_every_rung_s_answer_is_right(
    benched: BenchedWorkload, gated: tuple[Trial, ...]
) -> None:
    wrong = tuple(
        replace(each, answer="nonsense") if each.rung == "none" else each for each in benched.trials
    )
    other = BenchedWorkload(
        workload=benched.workload, tasks=benched.tasks, trials=wrong, seed=benched.seed
    )
    found = asyncio.run(gate_trials(other, STREAM, say=lambda _: None))
    assert [each.finish for each in found] == [each.finish for each in gated], "the same decodes"
    assert all(each.quality == 0 for each in found if each.finish is Finish.STOP)


def test_a_rung_that_cannot_be_certified_is_never_asked(benched: BenchedWorkload) -> None:
    strict = msgspec.structs.replace(benched.workload, alpha=0.001)
    other = BenchedWorkload(
        workload=strict, tasks=benched.tasks, trials=benched.trials, seed=benched.seed
    )
    assert latent_trials(other, CLOSED, encoder=default_encoder(), say=lambda _: None) == ()


def test_the_threshold_is_the_highest_that_loses_little_on_the_streams_kept_aside() -> None:
    """Turns whose answer nothing told are wrong whatever the gate does, until it always decodes."""
    surprising = [
        [replace(turn, answer="else") if at % 9 == 8 else turn for at, turn in enumerate(turns)]
        for turns in (stream(seed, segments=6) for seed in range(60))
    ]
    _, strict = fit_gate_for_alpha(surprising, alpha=0.001, seed=0)
    _, lax = fit_gate_for_alpha(surprising, alpha=0.9, seed=0)
    assert (strict.threshold, lax.threshold) == (THRESHOLDS[0], THRESHOLDS[-1])
    with pytest.raises(InputError, match="too few"):
        fit_gate_for_alpha(surprising[:1], alpha=0.1, seed=0)


def test_the_ledger_takes_abstentions_as_they_are_benched(
    benched: BenchedWorkload, latent: tuple[Trial, ...], gated: tuple[Trial, ...]
) -> None:
    trials = (*benched.trials, *latent, *gated)
    found = replay(benched.workload, trials, now=NOW, encoder=default_encoder())
    by_id = {each.request_id: each for each in (*latent, *gated)}
    cell = found.factorial.cell("latent")
    assert cell.certificate is not None
    assert cell.certificate.terms.scope.out_of_scope_share == pytest.approx(0.15 * 0.4, abs=0.06)
    for request_id, decodes, other_usd in zip(
        cell.requests.ids, cell.decodes, cell.other_usd, strict=True
    ):
        guessed = by_id.get(request_id)
        assert decodes == (guessed is None or guessed.finish is Finish.ABSTAINED)
        assert (other_usd > 0) == (guessed is not None)


def test_the_demo_prints_the_figures_and_writes_their_page(
    benched: BenchedWorkload,
    latent: tuple[Trial, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = compound_trials(benched.workload, (*benched.trials, *latent), made=NOW)
    asked = BenchResult(trials=benched.trials, answered=len(benched.trials), kept=0, spend=Spend())
    measured = CompoundMeasurement(benched=asked, compound=found, decision_s={"guess": 0.0004})
    monkeypatch.setattr(demo, "measure_compound", lambda _config, out, say: measured)
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--compound", "--folder", str(tmp_path / "demo")])
    assert not ended.value.code
    shown = capsys.readouterr().out
    page = tmp_path / "demo" / "compound.html"
    assert str(page) in shown
    assert "all levers together" in shown
    assert found.fingerprint in page.read_text("utf-8")
    assert read_workload(page.with_name("compound.toml")) == shipped_workload()

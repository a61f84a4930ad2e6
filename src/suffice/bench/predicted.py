"""Trials of rungs that decode nothing, fitted on the fitting requests of a workload.

The rungs learn only from the fitting split of `split_rows` for the same seed, never from requests
that certify or report. Their own certificates do not count in the compound replay: it certifies
each combination of levers, these rungs included.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter

from msgspec import Struct
from msgspec.structs import replace

from suffice.bench.outcome import abstention_trial, answer_trial
from suffice.bench.tasks import Task
from suffice.compound.answering import FRACTIONS
from suffice.compound.cells import cluster_of
from suffice.compound.workload import CompoundWorkload
from suffice.encoders.base import Encoder
from suffice.errors import Abstained
from suffice.guarantee import LabelSource
from suffice.latent.closed import plain_answer
from suffice.latent.learn import LatentTarget, learn_rung
from suffice.latent.rung import LatentRung
from suffice.selective.change import ChangeModel, TextChange, Turn, fit_change_model, score_stream
from suffice.selective.decoder import DecodeStep, GateSettings, SelectiveDecoder
from suffice.selective.gate import THRESHOLDS
from suffice.trials.table import split_rows
from suffice.types import NO_TOKENS, Charge, Completion, Finish, Rung, Say, Trial, Vector
from suffice.units import seconds

GATE_FRACTIONS = (0.67, 0.33)  # of the fitting streams: for the change model, for the threshold
DRIFT = 0.4  # the default of `suffice latent gate`


class PredictedRung(Struct, frozen=True, kw_only=True):
    """A rung that decodes nothing: its name in the workload, and the group that it answers."""

    rung: str
    group: str


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchedWorkload:
    """The tasks of a workload with the trials of every rung that decodes."""

    workload: CompoundWorkload
    tasks: tuple[Task, ...]
    trials: tuple[Trial, ...]
    seed: int = 0

    @cached_property
    def fitting(self) -> frozenset[str]:
        """The ids of the requests of the fitting split."""
        ids = [task.request.request_id for task in self.tasks]
        clusters = [cluster_of(request_id) for request_id in ids]
        rows, *_ = split_rows(clusters, seed=self.seed, fractions=FRACTIONS)
        return frozenset(ids[row] for row in rows.tolist())

    @cached_property
    def answers(self) -> Mapping[str, Mapping[str, str]]:
        """The answers by request and rung; an empty text for a trial without an answer."""
        answers: dict[str, dict[str, str]] = {}
        for trial in self.trials:
            answers.setdefault(trial.request_id, {})[trial.rung] = trial.answer or ""
        return answers

    def tasks_of(self, group: str) -> tuple[Task, ...]:
        """Return the tasks of a group."""
        return tuple(task for task in self.tasks if task.request.group == group)

    def reference_answer(self, task: Task) -> str:
        """Return the reference's answer to a task."""
        return self.answers[task.request.request_id][self.workload.reference]


def latent_trials(
    benched: BenchedWorkload, part: PredictedRung, *, encoder: Encoder, say: Say
) -> tuple[Trial, ...]:
    """Fit and certify a latent rung on a group's fitting requests; return its trials of them all.

    Its labels are the targets if every task has one, else the answers of the reference. Returns no
    trials if nothing could be certified. Raises InputError for too few requests.
    """
    workload, group = benched.workload, part.group
    fitting = [trial for trial in benched.trials if trial.request_id in benched.fitting]
    truths = {task.request.request_id: _truth(task) for task in benched.tasks_of(group)}
    label_source = LabelSource.AGREEMENT if None in truths.values() else LabelSource.TARGET
    if label_source is LabelSource.TARGET:
        fitting = [replace(t, answer=truths.get(t.request_id, t.answer)) for t in fitting]
    outside = {
        answer
        for part_config in workload.part.values()
        for answer in part_config.out_of_scope_answers
    }
    answers = {plain_answer(trial.answer or "") for trial in fitting if trial.group == group}
    target = LatentTarget(
        reference=workload.reference,
        group=group,
        answers=tuple(sorted(answers - outside)),
        alpha=workload.alpha,
        delta=workload.delta,
        lapses_after_s=seconds(workload.lapses_after),
        label_source=label_source,
        seed=benched.seed,
    )
    outcome = learn_rung(fitting, target, encoder=encoder, say=say)
    if outcome.policy is None or outcome.learned.certificate is None:
        say(f"the latent rung is left off: nothing could be certified at {workload.alpha:g}")
        return ()
    rung = LatentRung(outcome.policy, outcome.learned.certificate)
    say("asking the latent rung")
    return tuple(_latent_trial(task, part.rung, rung=rung) for task in benched.tasks_of(group))


def _truth(task: Task) -> str | None:
    """Return the right answer of a task, the first of several; None if it is unknown."""
    target = task.target[0] if isinstance(task.target, list) and task.target else task.target
    return target if isinstance(target, str) else None


async def gate_trials(
    benched: BenchedWorkload, part: PredictedRung, *, say: Say
) -> tuple[Trial, ...]:
    """Fit a gate on a group's fitting streams, and return its trials of all streams.

    The last line of a request is the event, and the line before it the context. A decode is an
    abstention. Any rung may have decoded the held answer. So a held answer has the lowest quality
    that the rungs' answers to the request decoded last would have for the present request.
    """

    async def own_answer(turn: Turn) -> str:
        return turn.answer or ""

    say("fitting the gate")
    streams: dict[str, list[Task]] = {}
    for task in benched.tasks_of(part.group):
        streams.setdefault(cluster_of(task.request.request_id), []).append(task)
    turns = {name: [_turn(benched, task) for task in tasks] for name, tasks in streams.items()}
    fitting = [
        stream
        for name, stream in turns.items()
        if all(task.request.request_id in benched.fitting for task in streams[name])
    ]
    model, settings = fit_gate_for_alpha(fitting, alpha=benched.workload.alpha, seed=benched.seed)
    trials: list[Trial] = []
    for name, stream in streams.items():
        decoder = SelectiveDecoder(TextChange(model), own_answer, settings=settings)
        steps = []
        for turn in turns[name]:
            start_s = perf_counter()
            step = await decoder.push(turn)
            steps.append((step, perf_counter() - start_s))
        trials += _gate_trials(benched, stream, steps, rung=part.rung)
    return tuple(trials)


def fit_gate_for_alpha(
    streams: Sequence[Sequence[Turn]], *, alpha: float, seed: int
) -> tuple[ChangeModel, GateSettings]:
    """Fit a change model on two thirds of some streams, and choose its threshold on the others.

    The threshold is the highest at which at most `alpha` of their events hold a wrong answer. This
    is an observation, not a promise. Raises InputError for too few streams, and for streams without
    a change.
    """
    fit, test = split_rows(len(streams), seed=seed, fractions=GATE_FRACTIONS)
    model = fit_change_model([streams[i] for i in fit])
    streams_scored = [score_stream(model, streams[i]) for i in test]
    gate = GateSettings(threshold=float(THRESHOLDS[0]), drift=DRIFT)
    for threshold in THRESHOLDS.tolist():
        candidate = GateSettings(threshold=threshold, drift=DRIFT)
        rolls = [stream.roll(candidate) for stream in streams_scored]
        if sum(roll.wrong for roll in rolls) > alpha * sum(roll.events for roll in rolls):
            break
        gate = candidate
    return model, gate


def _latent_trial(task: Task, name: str, *, rung: LatentRung) -> Trial:
    start_s = perf_counter()
    try:
        text = rung.answer(task.request)
    except Abstained as error:
        return _abstained(task, name, error)
    return _answered(task, name, text, duration_s=perf_counter() - start_s)


def _gate_trials(
    benched: BenchedWorkload,
    stream: Sequence[Task],
    steps: Sequence[tuple[DecodeStep, float]],
    *,
    rung: str,
) -> Iterator[Trial]:
    """Yield the trials of a gate: an abstention for each decode, and the held answers."""
    decoded = stream[0]
    for task, (step, took_s) in zip(stream, steps, strict=True):
        if step.reason is not None:
            decoded = task
            yield _abstained(task, rung, Abstained(f"decoded: {step.reason.value}"))
            continue
        answers = benched.answers[decoded.request.request_id].values()
        held = [_answered(task, rung, answer, duration_s=took_s) for answer in answers]
        yield min(held, key=lambda trial: trial.quality or 0.0)


def _turn(benched: BenchedWorkload, task: Task) -> Turn:
    before, _, text = task.request.text.rpartition("\n")
    context = before.rpartition("\n")[2]
    return Turn(text=text, context=context, answer=benched.reference_answer(task))


def _abstained(task: Task, name: str, error: Abstained) -> Trial:
    return abstention_trial(task, _rung(name), error=error, charged=Charge(usd=None))


def _answered(task: Task, name: str, text: str, *, duration_s: float) -> Trial:
    completion = Completion(text=text, finish=Finish.STOP, usage=NO_TOKENS, duration_s=duration_s)
    return answer_trial(task, _rung(name), completion=completion, charged=Charge(usd=None))


def _rung(name: str) -> Rung:
    return Rung(name=name, engine=name, model=name, vector=Vector.PARADIGM)

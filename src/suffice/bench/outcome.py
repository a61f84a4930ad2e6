"""The trial of one call: an answer, an abstention or a failure; marked now or later."""

from msgspec.structs import replace

from suffice.bench.tasks import Task
from suffice.errors import Abstained, EngineError
from suffice.scoring.checks import CheckedAnswer
from suffice.scoring.scorers import SCORERS, ScorerVerdict, mark
from suffice.types import NO_TOKENS, Charge, Completion, Finish, Rung, Trial, TrialStatus

AWAITING = "awaiting its marking"


def is_marked_later(task: Task) -> bool:
    """Whether marking may take long or cost money, so that the answer is kept on disk first."""
    return task.scorer is not None and task.scorer not in SCORERS


def mark_by_program(task: Task, answer: str) -> ScorerVerdict:
    """Mark an answer by the task's own scorer; a task without one leaves it unscored."""
    if task.scorer is None:
        return ScorerVerdict(quality=None, reason="the task has no target and no scorer")
    return mark(answer, scorer=task.scorer, target=task.target, options=task.options)


def answer_trial(task: Task, rung: Rung, *, completion: Completion, charged: Charge) -> Trial:
    """Return the trial of an answer, marked unless that is left for later."""
    trial = Trial(
        request_id=task.request.request_id,
        rung=rung.name,
        status=TrialStatus.UNSCORED,
        text=task.request.text,
        group=task.request.group,
        cluster=task.cluster,
        scorer=task.scorer,
        charge_usd=charged.usd,
        charge_estimated=charged.estimated,
        retryable=True,
        **replace(completion.generation, error=AWAITING).generation_fields,
    )
    return (
        trial
        if is_marked_later(task)
        else with_verdict(trial, mark_by_program(task, completion.text))
    )


def with_verdict(trial: Trial, verdict: ScorerVerdict) -> Trial:
    """Return the trial with its verdict."""
    scored = verdict.quality is not None
    return replace(
        trial,
        status=TrialStatus.SCORED if scored else TrialStatus.UNSCORED,
        quality=verdict.quality,
        error=verdict.reason,
        retryable=False,
    )


def with_checks(trial: Trial, result: CheckedAnswer) -> Trial:
    """Return the trial with the verdict of its checks, and what they cost."""
    charges = [verdict.charge for verdict in result.verdicts]
    usd = sum(charges[1:], charges[0]).usd
    known = trial.charge_usd is not None and usd is not None
    return replace(
        trial,
        check=result.passed,
        check_usd=usd,
        check_s=max(verdict.duration_s for verdict in result.verdicts),
        charge_usd=trial.charge_usd + usd if known else None,  # type: ignore[operator]
    )


def abstention_trial(task: Task, rung: Rung, *, error: Abstained, charged: Charge) -> Trial:
    """Return the trial of an abstention: its quality is 0, and no policy keeps it."""
    scored = task.scorer is not None
    return replace(
        failure_trial(task, rung, error=error),
        status=TrialStatus.SCORED if scored else TrialStatus.UNSCORED,
        quality=0.0 if scored else None,
        scorer=task.scorer,
        finish=Finish.ABSTAINED,
        usage=NO_TOKENS,
        charge_usd=charged.usd,
        charge_estimated=charged.estimated,
    )


def failure_trial(task: Task, rung: Rung, *, error: EngineError) -> Trial:
    """Return the trial of a call that gave no answer."""
    return Trial(
        request_id=task.request.request_id,
        rung=rung.name,
        status=TrialStatus.FAILED,
        text=task.request.text,
        group=task.request.group,
        cluster=task.cluster,
        error=error.message,
        retryable=error.retryable,
    )

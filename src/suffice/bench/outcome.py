"""What became of one call, as a trial: answered, abstained or failed; marked now or later."""

from msgspec.structs import replace

from suffice.bench.tasks import Task
from suffice.errors import Abstained, EngineError
from suffice.scoring.scorers import SCORERS, ScorerVerdict, mark
from suffice.types import NO_TOKENS, Charge, Completion, Finish, Rung, Trial, TrialStatus

AWAITING = "awaiting its marking"


def is_marked_later(task: Task) -> bool:
    """Say whether marking may take long or cost money, so that the answer is kept before it."""
    return task.scorer is not None and task.scorer not in SCORERS


def mark_by_program(task: Task, answer: str) -> ScorerVerdict:
    """Mark an answer by the task's own scorer; unscored where it has none."""
    if task.scorer is None:
        return ScorerVerdict(quality=None, reason="the task has no target and no scorer")
    return mark(answer, scorer=task.scorer, target=task.target, options=task.options)


def answered(task: Task, rung: Rung, *, completion: Completion, charged: Charge) -> Trial:
    """Keep an answer, marked unless that takes another call."""
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
    return trial if is_marked_later(task) else marked(trial, mark_by_program(task, completion.text))


def marked(trial: Trial, verdict: ScorerVerdict) -> Trial:
    """Return the trial with its verdict."""
    scored = verdict.quality is not None
    return replace(
        trial,
        status=TrialStatus.SCORED if scored else TrialStatus.UNSCORED,
        quality=verdict.quality,
        error=verdict.reason,
        retryable=False,
    )


def abstained(task: Task, rung: Rung, *, error: Abstained, charged: Charge) -> Trial:
    """Keep an abstention: no answer is worth 0, and no policy keeps it."""
    scored = task.scorer is not None
    return replace(
        failed(task, rung, error=error),
        status=TrialStatus.SCORED if scored else TrialStatus.UNSCORED,
        quality=0.0 if scored else None,
        scorer=task.scorer,
        finish=Finish.ABSTAINED,
        usage=NO_TOKENS,
        charge_usd=charged.usd,
        charge_estimated=charged.estimated,
    )


def failed(task: Task, rung: Rung, *, error: EngineError) -> Trial:
    """Keep a call that gave no answer."""
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

"""Trials from the logs of Inspect (`inspect_ai`), which only this module imports.

A log is one task on one model at one reasoning effort: its rung is `model` or `model@effort`. Each
epoch of a sample is a run of it, and so is the same sample in another log. What a sample's metadata
calls `cluster` is its cluster.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suffice.errors import InputError, MissingExtra
from suffice.types import Count, CountSource, Finish, Trial, TrialStatus, Usage

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

_WORDS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}  # Inspect's correct, partial, incorrect, none
_WORDS |= {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_FINISH = {
    "stop": Finish.STOP,
    "max_tokens": Finish.LENGTH,
    "model_length": Finish.LENGTH,
    "tool_calls": Finish.TOOL_CALLS,
    "content_filter": Finish.CONTENT_FILTER,
}


def read_inspect(path: Path) -> tuple[Trial, ...]:
    """Read one `.eval` or `.json` log; the first scorer with one value a sample gives the quality.

    Usage is that of the evaluated model over the whole sample, less what its scorers used. Raises
    InputError for a file that is no log and for scores outside [0, 1], and MissingExtra.
    """
    log = _read(path)
    if not log.samples:
        raise InputError(f"{path} holds no sample: the run ended as {log.status!r}")
    rung, scorer = _rung(log), _scorer(log.samples)
    return tuple(
        _trial(sample, log, rung=rung, scorer=scorer, at=str(path)) for sample in log.samples
    )


def _read(path: Path) -> "EvalLog":
    try:
        from inspect_ai.log import read_eval_log
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "Inspect logs need inspect-ai", hint="pip install 'suffice[inspect]'"
        ) from error
    try:
        return read_eval_log(str(path), resolve_attachments=True)
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror or error}", hint="check the path"
        ) from error
    except Exception as error:  # it raises whatever its zip, JSON and pydantic readers do
        raise InputError(
            f"{path} is not an Inspect log: {type(error).__name__}: {str(error)[:200]}",
            hint="trials in other forms are JSONL files",
        ) from error


def _rung(log: "EvalLog") -> str:
    configs = (log.plan.config, log.eval.model_generate_config)
    names = ("reasoning_effort", "effort", "reasoning_tokens")
    stated = (getattr(config, name, None) for name in names for config in configs)
    effort = next((value for value in stated if value is not None), None)
    return log.eval.model if effort is None else f"{log.eval.model}@{effort}"


def _scorer(samples: Sequence["EvalSample"]) -> str | None:
    """Choose the first scorer with one value a sample, else the first; None where none scored."""
    scored = [sample.scores for sample in samples if sample.scores]
    names = list(dict.fromkeys(name for scores in scored for name in scores))
    for name in names:
        values = [scores[name].value for scores in scored if name in scores]
        if not any(isinstance(value, Mapping | list | tuple) for value in values):
            return name
    return next(iter(names), None)


def _trial(
    sample: "EvalSample", log: "EvalLog", *, rung: str, scorer: str | None, at: str
) -> Trial:
    quality = _quality(sample, scorer, at=f"{at}, sample {sample.id!r}")
    usage, duration_s = _own_calls(sample, log.eval.model)
    choice = sample.output.choices[0] if sample.output.choices else None
    failed = sample.error is not None or (choice is None and quality is None)
    scored = quality is not None and not failed
    cluster = (sample.metadata or {}).get("cluster")
    return Trial(
        request_id=f"{log.eval.task}/{sample.id}",
        rung=rung,
        run=sample.uuid or f"{log.eval.run_id}/{sample.epoch}",
        status=_status(failed=failed, scored=scored),
        text=_text(sample),
        group=log.eval.task,
        cluster=None if cluster is None else str(cluster),
        quality=quality if scored else None,
        scorer=scorer,
        answer=None if choice is None else sample.output.completion,
        reasoning=_reasoning(choice),
        finish=None if choice is None else _FINISH.get(choice.stop_reason),
        mean_logprob=_mean_logprob(choice),
        usage=_usage(usage),
        charge_usd=_charge_usd(usage),
        duration_s=duration_s,
        error=None if sample.error is None else sample.error.message,
    )


def _status(*, failed: bool, scored: bool) -> TrialStatus:
    if failed:
        return TrialStatus.FAILED
    return TrialStatus.SCORED if scored else TrialStatus.UNSCORED


def _quality(sample: "EvalSample", scorer: str | None, *, at: str) -> float | None:
    """Return a sample's score; None where there is none, for NaN, and for a sample taken back."""
    score = (sample.scores or {}).get(scorer or "")
    if score is None or getattr(sample, "invalidation", None) is not None:
        return None
    value: Any = score.value
    if isinstance(value, str):
        value = _WORDS.get(value, _WORDS.get(value.lower(), _number(value)))
    if not isinstance(value, bool | int | float) or math.isnan(value):
        return None
    if not 0 <= value <= 1:
        raise InputError(
            f"{at}: scorer {scorer!r} gave {value}, outside [0, 1]",
            hint="scale the score to [0, 1] in the scorer",
        )
    return float(value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(sample: "EvalSample") -> str:
    if isinstance(sample.input, str):
        return sample.input
    return "\n\n".join(message.text for message in sample.input if message.role != "assistant")


def _reasoning(choice: Any) -> str | None:
    """Join what was shown of the reasoning; encrypted parts show nothing."""
    parts = choice.message.content if choice is not None else ""
    visible = [
        part.reasoning
        for part in (parts if isinstance(parts, list) else ())
        if part.type == "reasoning" and not part.redacted
    ]
    return "\n".join(visible) or None


def _mean_logprob(choice: Any) -> float | None:
    content = choice.logprobs.content if choice is not None and choice.logprobs else []
    return math.fsum(t.logprob for t in content) / len(content) if content else None


def _usage(usage: Any) -> Usage:
    """Inspect counts cached input apart; `input_tokens` here includes it.

    Before 0.3.184 it counted OpenAI's cached input within the input: there the total is input and
    output alone.
    """
    if usage is None:
        return Usage()
    read, write = usage.input_tokens_cache_read, usage.input_tokens_cache_write
    within = usage.total_tokens == usage.input_tokens + usage.output_tokens
    beside = 0 if within else (read or 0) + (write or 0)
    return Usage(
        input_tokens=_count(usage.input_tokens + beside),
        cache_read_tokens=_count(read),
        cache_write_tokens=_count(write),
        output_tokens=_count(usage.output_tokens),
        reasoning_tokens=_count(usage.reasoning_tokens),
    )


def _own_calls(sample: "EvalSample", model: str) -> tuple[Any, float | None]:
    """Return what a model used to answer, and the seconds of those calls.

    Where the model graded too, the calls of scorers are left out.

    Scorers show as spans in the logs of today, and as steps in older ones.
    """
    answering: list[Any] = []
    times: list[float | None] = []
    grading: list[Any] = []
    scorers, in_step = set[str](), False
    for event in sample.events:
        if event.event == "span_begin" and (event.type == "scorer" or event.parent_id in scorers):
            scorers.add(event.id)
        elif event.event == "step" and event.type == "scorer":
            in_step = event.action == "begin"
        elif event.event == "model" and event.model == model and event.output.usage is not None:
            calls = grading if in_step or event.span_id in scorers else answering
            calls.append(event.output.usage)
            times += [event.output.time] if calls is answering else []
    known = [seconds for seconds in times if seconds is not None]
    several = len(known) > 1 and len(known) == len(times)
    duration_s = math.fsum(known) if several else sample.output.time
    if not grading or not answering:
        return sample.model_usage.get(model, sample.output.usage), duration_s
    return sum(answering[1:], answering[0]), duration_s


def _count(tokens: int | None) -> Count | None:
    return None if tokens is None else Count(tokens, CountSource.REPORTED)


def _charge_usd(usage: Any) -> Decimal | None:
    cost = None if usage is None else usage.total_cost
    return None if cost is None else Decimal(str(cost))

"""Trials from benchmarks of agents.

MCPMark, SWE-bench, OpenHands, tau-bench, Terminal-Bench and Harbor, each told by its keys.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from suffice.errors import InputError
from suffice.trials.output_trial import (
    Knows,
    Reader,
    all_have,
    list_of,
    output_trial,
    stated_usage,
    stated_usd,
    stem_of,
    text_of,
)
from suffice.types import JSON, Trial

_REPORT_LISTS = ("unresolved_ids", "empty_patch_ids", "error_ids", "incomplete_ids")


def _rung(model: Any, effort: Any, *, path: Path, field: str) -> str:
    """Name a rung by its model and its effort; raises InputError where no model is named."""
    if not model:
        raise InputError(f"{path} names no model", hint=f"keep {field}, as the tool writes it")
    return f"{model}@{effort}" if effort and effort != "default" else str(model)


def _resolved(path: Path, whole: JSON) -> Iterator[Trial]:
    """Read `{instance: {resolved, cost}}`; the rung is the name of the file.

    A file `report.json` is one instance's; it lies in a folder of its own, below the model's.
    """
    own = stem_of(path) == "report" and path.parent.name in whole
    for name, row in whole.items():
        yield output_trial(
            row["resolved"],
            at=f"{path}, {name}",
            request_id=name,
            rung=path.parent.parent.name if own else stem_of(path),
            group=name.partition("__")[0] if "__" in name else None,
            charge_usd=stated_usd(row.get("cost", row.get("instance_cost"))),
            scorer="resolved",
        )


def _swe_report(path: Path, whole: JSON) -> Iterator[Trial]:
    """Read the report of SWE-bench's harness; what was not submitted is not resolved.

    Its file is called `MODEL.RUN.json`. Before 2024-07 a report was a list for each outcome.
    """
    right = set(whole.get("resolved_ids") or whole.get("resolved") or ())
    keys = _REPORT_LISTS if "resolved_ids" in whole else whole
    names = right | {name for key in keys for name in whole.get(key) or ()}
    stem = stem_of(path)
    for name in sorted(names):
        yield output_trial(
            name in right,
            at=f"{path}, {name}",
            request_id=name,
            rung=stem.rpartition(".")[0] or stem,
            group=name.partition("__")[0],
            scorer="resolved",
        )


def _mcpmark(path: Path, whole: JSON) -> Iterator[Trial]:
    """Read one task's `meta.json`; the run is the `run-N` of its path."""
    used, config = whole.get("token_usage") or {}, whole.get("model_config") or {}
    model = whole.get("model_name") or whole.get("model") or config.get("model_name")
    effort = whole.get("reasoning_effort")
    run = next((part for part in path.parts if re.fullmatch(r"run-\d+", part)), None)
    yield output_trial(
        whole["execution_result"]["success"],
        at=str(path),
        request_id=str(whole["task_name"]),
        rung=_rung(model, effort, path=path, field="`model_name` in meta.json"),
        group=whole.get("mcp"),
        run=run,
        scorer="verify",
        usage=_mcpmark_usage(used),
        charge_usd=stated_usd(whole.get("cost")),
        duration_s=whole.get("agent_execution_time"),
    )


def _mcpmark_task(path: Path, whole: JSON) -> Iterator[Trial]:
    """Read the published results of one task on one model, with all its runs."""
    for run, row in whole["runs"].items():
        yield output_trial(
            row["success"],
            at=f"{path}, {run}",
            request_id=str(whole["task"]),
            rung=_rung(whole["model"], None, path=path, field="`model`"),
            group=whole.get("service"),
            run=run,
            scorer="verify",
            usage=_mcpmark_usage(row.get("token_usage") or {}),
            duration_s=row.get("execution_time"),
        )


def _mcpmark_usage(used: JSON) -> Any:
    names = ("input", "output", "reasoning")
    return stated_usage(**{name: used.get(f"{name}_tokens") for name in names})


def read_openhands(path: Path, rows: list[JSON]) -> Iterator[Trial]:
    """Read the outputs of OpenHands; where they do not say which are resolved, the report does."""
    reports = [path.with_name(f"{stem_of(path)}.report.json"), path.with_name("report.json")]
    report = next((report for report in reports if report.is_file()), None)
    decided = msgspec.json.decode(report.read_bytes()) if report else {}
    resolved = decided.get("resolved_ids") if isinstance(decided, dict) else None
    for row in rows:
        name, quality = str(row["instance_id"]), _openhands_quality(row)
        if quality is None and resolved is None and not row.get("error"):
            raise InputError(
                f"{path}: {name} does not say whether it is resolved",
                hint="give the file that the evaluation wrote, or keep its report beside it",
            )
        quality = name in (resolved or ()) if quality is None else quality
        metadata, metrics = row.get("metadata") or {}, row.get("metrics") or {}
        llm = metadata.get("llm_config") or metadata.get("llm") or {}
        used = metrics.get("accumulated_token_usage") or {}
        yield output_trial(
            quality,
            at=f"{path}, {name}",
            request_id=name,
            rung=_rung(llm.get("model"), llm.get("reasoning_effort"), path=path, field="metadata"),
            group=name.partition("__")[0] if "__" in name else None,
            text=str(row.get("instruction") or ""),
            usage=stated_usage(
                input=used.get("prompt_tokens"),
                output=used.get("completion_tokens"),
                reasoning=used.get("reasoning_tokens"),
                cache_read=used.get("cache_read_tokens"),
                cache_write=used.get("cache_write_tokens"),
            ),
            charge_usd=stated_usd(metrics.get("accumulated_cost")),
            error=text_of(row.get("error") or None),
            scorer="resolved",
        )


def _openhands_quality(row: JSON) -> Any:
    result = row["test_result"] if isinstance(row["test_result"], dict) else {}
    for place in (row.get("report"), result.get("report"), result, result.get("result")):
        for key in ("resolved", "score", "success"):
            if isinstance(place, dict) and place.get(key) is not None:
                return place[key]
    return None


def _tau_bench(path: Path, rows: list[JSON]) -> Iterator[Trial]:
    """Read the results of tau-bench, a list of trials; the rung is the name of the file."""
    for row in rows:
        error = (row.get("info") or {}).get("error")
        yield output_trial(
            row["reward"],
            at=f"{path}, task {row['task_id']}",
            request_id=str(row["task_id"]),
            rung=stem_of(path),
            run=text_of(row.get("trial")),
            scorer="reward",
            error=text_of(error),
        )


def _tau2_bench(path: Path, whole: JSON) -> Iterator[Trial]:
    """Read the simulations of tau2-bench; dollars are the agent's, not the user's model's."""
    info = whole.get("info") or {}
    agent = info.get("agent_info") or {}
    effort = (agent.get("llm_args") or {}).get("reasoning_effort")
    for row in whole["simulations"]:
        yield output_trial(
            (row.get("reward_info") or {}).get("reward"),
            at=f"{path}, task {row['task_id']}",
            request_id=str(row["task_id"]),
            rung=_rung(agent.get("llm"), effort, path=path, field="info.agent_info.llm"),
            run=text_of(row.get("trial")),
            group=(info.get("environment_info") or {}).get("domain_name"),
            charge_usd=stated_usd(row.get("agent_cost")),
            duration_s=row.get("duration"),
            scorer="reward",
        )


def _terminal_bench(path: Path, whole: JSON) -> Iterator[Trial]:
    """Read `results.json` of Terminal-Bench; the model stands in `run_metadata.json` beside it."""
    beside = path.with_name("run_metadata.json")
    metadata = msgspec.json.decode(beside.read_bytes()) if beside.is_file() else {}
    for row in whole["results"]:
        yield output_trial(
            row["is_resolved"],
            at=f"{path}, {row['task_id']}",
            request_id=str(row["task_id"]),
            rung=str(metadata.get("model_name") or path.parent.name or stem_of(path)),
            run=text_of(row.get("trial_name")),
            usage=stated_usage(
                input=row.get("total_input_tokens"), output=row.get("total_output_tokens")
            ),
            scorer="tests",
        )


def _harbor(path: Path, whole: JSON) -> Iterator[Trial]:
    """Read one trial's `result.json` of Harbor (Terminal-Bench 2); its input counts the cache."""
    agent, used = (whole.get(key) or {} for key in ("agent_info", "agent_result"))
    config = (whole.get("config") or {}).get("agent") or {}
    model = (agent.get("model_info") or {}).get("name") or config.get("model_name")
    rewards = (whole.get("verifier_result") or {}).get("rewards") or {}
    failure = whole.get("exception_info") or {}
    starts = [whole.get(key) for key in ("started_at", "finished_at")]
    times = [datetime.fromisoformat(time) for time in starts if isinstance(time, str)]
    quality = rewards.get("reward")
    yield output_trial(
        quality,
        at=str(path),
        request_id=str(whole["task_name"]),
        rung=_rung(model, None, path=path, field="agent_info.model_info"),
        run=text_of(whole.get("trial_name")),
        group=text_of(whole.get("source")),
        usage=stated_usage(
            input=used.get("n_input_tokens"),
            output=used.get("n_output_tokens"),
            cache_read=used.get("n_cache_tokens"),
        ),
        charge_usd=stated_usd(used.get("cost_usd")),
        duration_s=(times[1] - times[0]).total_seconds() if len(times) > 1 else None,
        error=text_of(failure.get("exception_type")) if quality is None else None,
        scorer="reward",
    )


def _is_resolved(whole: Any) -> bool:
    return (
        isinstance(whole, dict)
        and bool(whole)
        and all(isinstance(row, dict) and "resolved" in row for row in whole.values())
    )


def _is_old_report(whole: Any) -> bool:
    return (
        all_have("resolved", "no_generation")(whole)
        and isinstance(whole["resolved"], list)
        and all(isinstance(names, list) for names in whole.values())
    )


def _is_terminal_bench(whole: Any) -> bool:
    return isinstance(whole, dict) and list_of("task_id", "is_resolved")(whole.get("results"))


def _is_tau2(whole: Any) -> bool:
    return isinstance(whole, dict) and list_of("task_id", "reward_info")(whole.get("simulations"))


AGENT_DOCUMENTS: tuple[tuple[Knows, Reader], ...] = (
    (all_have("task_name", "execution_result"), _mcpmark),
    (all_have("task", "model", "runs"), _mcpmark_task),
    (all_have("task_name", "agent_result", "verifier_result"), _harbor),
    (all_have("resolved_ids", "total_instances"), _swe_report),
    (_is_old_report, _swe_report),
    (_is_terminal_bench, _terminal_bench),
    (_is_tau2, _tau2_bench),
    (list_of("task_id", "reward", "traj"), _tau_bench),
    (_is_resolved, _resolved),
)

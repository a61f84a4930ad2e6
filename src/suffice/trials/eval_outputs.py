"""Trials from what other evaluation tools write: told by content, one reader for each tool.

lm-eval (samples), HELM (per_instance_stats.json), OpenAI evals, promptfoo, SWE-bench, MCPMark,
LiveCodeBench and AA-LCR. A file that names no model is one rung, called after its folder or itself.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from suffice.errors import InputError
from suffice.trials.benchmark_results import (
    AA_LCR_COLUMNS,
    read_aa_lcr,
    read_live_code_bench,
)
from suffice.trials.jsonl import Lines, read_bytes
from suffice.trials.output_trial import output_trial, stated_usage, stated_usd, text_of
from suffice.types import JSON, Trial

FOLDER_FILES = (
    "samples_*.jsonl",
    "per_instance_stats.json",
    "meta.json",
    "*_eval_all.json",
)
_HELM_METRICS = (
    "quasi_exact_match",
    "exact_match",
    "final_number_exact_match",
    "math_equiv_chain_of_thought",
    "math_equiv",
    "ifeval_strict_accuracy",
    "f1_score",
)
_LM_METRICS = ("acc_norm", "acc", "exact_match", "pass@1", "prompt_level_strict_acc")


def files_of(folder: Path) -> list[Path]:
    """Return the outputs of evaluation tools in a folder and below it."""
    return sorted({path for name in FOLDER_FILES for path in folder.rglob(name)})


def read_outputs(path: Path) -> Iterator[Trial] | None:
    """Return the trials of a document or table that a known tool wrote; None for any other file.

    Raises InputError where such a file misses what it needs.
    """
    if path.suffix not in (".json", ".csv"):
        return None
    data = read_bytes(path)
    if path.suffix == ".csv":
        with _naming(path):
            rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
        known = rows and AA_LCR_COLUMNS.issubset(rows[0])
        return _named(path, read_aa_lcr(path, rows)) if known else None
    whole = _decoded(data)
    for knows, read in _DOCUMENTS:
        if whole is not None and knows(whole):
            return _named(path, read(path, whole))
    return None


def read_output_lines(path: Path, lines: Lines) -> Iterator[Trial] | None:
    """Return the trials in the lines of a file that a known tool wrote; None for any other file.

    Raises InputError where such a file misses what it needs.
    """
    first = _decoded(lines[0][1].lstrip())
    for knows, read_rows in _LINES:
        if isinstance(first, dict) and knows(first):
            return _named(path, read_rows(path, _rows(path, lines)))
    return None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise InputError, with the file's name, where a field is not as its tool writes it."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} is not as its tool writes it: {type(error).__name__}: {error}",
            hint="a field is missing or of another type: write the file anew, or leave it out",
        ) from error


def _named(path: Path, trials: Iterator[Trial]) -> Iterator[Trial]:
    with _naming(path):
        yield from trials


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None


def _rows(path: Path, lines: Lines) -> list[JSON]:
    rows = []
    for number, line in lines:
        row = _decoded(line)
        if not isinstance(row, dict):
            raise InputError(
                f"{path}, line {number}: no JSON object", hint="run the evaluation to its end"
            )
        rows.append(row)
    return rows


def _lm_eval(path: Path, rows: list[JSON]) -> Iterator[Trial]:
    """Read `samples_TASK_TIME.jsonl`: the first filter and the first metric; rung is the folder."""
    task = re.sub(r"(^samples_|_\d{4}-\d\d-\d\dT.*$)", "", path.stem)
    first = rows[0].get("filter")
    for row in rows:
        if row.get("filter") != first:
            continue
        metric = next((name for name in row.get("metrics") or _LM_METRICS if name in row), None)
        if metric is None:
            raise InputError(
                f"{path}: doc {row.get('doc_id')} has no value of its metrics",
                hint="run lm_eval with --log_samples",
            )
        arguments = row.get("arguments")
        if isinstance(arguments, dict):
            text = arguments.get("gen_args_0", {}).get("arg_0", "")
        else:
            text = arguments[0][0] if arguments else ""
        answers = row.get("filtered_resps") or [None]
        yield output_trial(
            row[metric],
            at=f"{path}, doc {row['doc_id']}",
            request_id=f"{task}/{row['doc_id']}",
            rung=path.parent.name or "model",
            group=task,
            text=str(text),
            scorer=metric,
            answer=answers[0] if isinstance(answers[0], str) else None,
        )


def _helm(path: Path, rows: list[JSON]) -> Iterator[Trial]:
    """Read `per_instance_stats.json`; the model stands in `run_spec.json` beside it."""
    beside = path.with_name("run_spec.json")
    spec = _decoded(beside.read_bytes()) if beside.is_file() else None
    if not isinstance(spec, dict):
        raise InputError(
            f"{path} does not say which model it is of",
            hint="keep run_spec.json in the same folder",
        )
    model, task = spec["adapter_spec"]["model"], str(spec["name"]).partition(":")[0]
    for row in rows:
        if row.get("perturbation"):
            continue
        stats = {s["name"]["name"]: s.get("mean", s.get("sum")) for s in row["stats"]}
        metric = next((name for name in _HELM_METRICS if name in stats), None)
        yield output_trial(
            None if metric is None else stats[metric],
            at=f"{path}, {row['instance_id']}",
            request_id=f"{spec['name'].replace(model, '')}/{row['instance_id']}",
            rung=model,
            group=task,
            run=text_of(row.get("train_trial_index")),
            scorer=metric,
            usage=stated_usage(
                input=stats.get("num_prompt_tokens"),
                output=stats.get("num_output_tokens", stats.get("num_completion_tokens")),
            ),
            duration_s=stats.get("inference_runtime"),
        )


def _openai_evals(path: Path, rows: list[JSON]) -> Iterator[Trial]:
    """Read the record of a run: its spec, then events; `match` or `metrics` gives the quality."""
    spec = rows[0]["spec"]
    model = (spec.get("completion_fns") or [spec.get("model_name")])[0] or path.stem
    questions = {
        row["sample_id"]: row["data"]
        for row in rows
        if row.get("type") == "sampling" and row.get("sample_id")
    }
    for row in rows:
        data = row.get("data") or {}
        quality = {"match": data.get("correct"), "metrics": data.get("accuracy", data.get("score"))}
        if row.get("type") in quality and row.get("sample_id"):
            sampled = questions.get(row["sample_id"], {})
            answer = sampled.get("sampled", data.get("sampled"))
            yield output_trial(
                quality[row["type"]],
                at=f"{path}, {row['sample_id']}",
                request_id=str(row["sample_id"]),
                rung=str(model),
                group=spec.get("base_eval") or spec.get("eval_name"),
                text=_chat(sampled.get("prompt")),
                answer=answer[0] if isinstance(answer, list) and answer else text_of(answer),
            )


def _promptfoo(path: Path, whole: JSON) -> Iterator[Trial]:
    """Read `promptfoo eval -o out.json`: a rung is a provider, and the prompt of several."""
    results = whole["results"]["results"]
    prompts = {row.get("promptIdx", 0) for row in results}
    several = len(prompts) > len({_provider(row) for row in results})
    for row in results:
        rung = _provider(row)
        if several:
            rung += f"#{row.get('promptIdx', 0)}"
        response = row.get("response") or {}
        used = response.get("tokenUsage") or row.get("tokenUsage") or {}
        latency = row.get("latencyMs")
        test = row.get("testIdx")
        named = test if test is not None else msgspec.json.encode(row.get("vars")).decode()
        yield output_trial(
            row.get("score", row.get("success")),
            at=f"{path}, test {named}",
            request_id=f"test/{named}",
            rung=rung,
            run=text_of(row.get("repeatIndex")),
            text=str((row.get("prompt") or {}).get("raw", "")),
            answer=text_of(response.get("output")),
            usage=stated_usage(
                input=used.get("prompt"),
                output=used.get("completion"),
                cache_read=used.get("cached"),
            ),
            charge_usd=stated_usd(row.get("cost", response.get("cost"))),
            duration_s=None if latency is None else latency / 1000,
            error=response.get("error"),
        )


def _provider(row: JSON) -> str:
    provider = row.get("provider") or {}
    return provider if isinstance(provider, str) else provider.get("label") or provider["id"]


def _resolved(path: Path, whole: JSON) -> Iterator[Trial]:
    """Read `{instance: {resolved, cost}}`; the rung is the name of the file."""
    for name, row in whole.items():
        yield output_trial(
            row["resolved"],
            at=f"{path}, {name}",
            request_id=name,
            rung=path.stem,
            group=name.partition("__")[0] if "__" in name else None,
            charge_usd=stated_usd(row.get("cost", row.get("instance_cost"))),
            scorer="resolved",
        )


def _swe_report(path: Path, whole: JSON) -> Iterator[Trial]:
    """Read the report of SWE-bench's harness; what was not submitted is not resolved."""
    right = set(whole["resolved_ids"])
    others = ("unresolved_ids", "empty_patch_ids", "error_ids", "incomplete_ids")
    names = right | {name for key in others for name in whole.get(key) or ()}
    for name in sorted(names):
        yield output_trial(
            name in right,
            at=f"{path}, {name}",
            request_id=name,
            rung=path.stem.partition(".")[0],
            group=name.partition("__")[0],
            scorer="resolved",
        )


def _mcpmark(path: Path, whole: JSON) -> Iterator[Trial]:
    """Read one task's `meta.json`; the run is the `run-N` of its path."""
    used, config = whole.get("token_usage") or {}, whole.get("model_config") or {}
    model = whole.get("model_name") or whole.get("model") or config.get("model_name")
    if not model:
        raise InputError(
            f"{path} names no model", hint="keep `model_name` in meta.json, as MCPMark writes it"
        )
    effort = whole.get("reasoning_effort")
    run = next((part for part in path.parts if re.fullmatch(r"run-\d+", part)), None)
    outcome = whole["execution_result"]
    yield output_trial(
        outcome["success"],
        at=str(path),
        request_id=str(whole["task_name"]),
        rung=f"{model}@{effort}" if effort and effort != "default" else str(model),
        group=whole.get("mcp"),
        run=run,
        scorer="verify",
        usage=stated_usage(
            input=used.get("input_tokens"),
            output=used.get("output_tokens"),
            reasoning=used.get("reasoning_tokens"),
        ),
        charge_usd=stated_usd(whole.get("cost")),
        duration_s=whole.get("agent_execution_time"),
    )


def _chat(prompt: Any) -> str:
    if isinstance(prompt, list):
        return "\n\n".join(str(turn.get("content", "")) for turn in prompt)
    return "" if prompt is None else str(prompt)


def _all_have(*keys: str) -> Callable[[Any], bool]:
    return lambda row: isinstance(row, dict) and all(key in row for key in keys)


def _list_of(*keys: str) -> Callable[[Any], bool]:
    return lambda whole: isinstance(whole, list) and bool(whole) and _all_have(*keys)(whole[0])


def _is_promptfoo(whole: Any) -> bool:
    results = whole.get("results") if isinstance(whole, dict) else None
    return isinstance(results, dict) and isinstance(results.get("results"), list)


def _is_resolved(whole: Any) -> bool:
    return (
        isinstance(whole, dict)
        and bool(whole)
        and all(isinstance(row, dict) and "resolved" in row for row in whole.values())
    )


Reader = Callable[[Path, Any], Iterator[Trial]]
_DOCUMENTS: tuple[tuple[Callable[[Any], bool], Reader], ...] = (
    (_is_promptfoo, _promptfoo),
    (_all_have("task_name", "execution_result"), _mcpmark),
    (_all_have("resolved_ids", "total_instances"), _swe_report),
    (_is_resolved, _resolved),
    (_list_of("question_id", "graded_list"), read_live_code_bench),
    (_list_of("instance_id", "stats"), _helm),
    (_list_of(*AA_LCR_COLUMNS), read_aa_lcr),
)
_LINES: tuple[tuple[Callable[[Any], bool], Reader], ...] = (
    (_all_have("doc_id", "metrics", "filter"), _lm_eval),
    (_all_have("doc_id", "filtered_resps"), _lm_eval),
    (_all_have("spec"), _openai_evals),
    (_all_have(*AA_LCR_COLUMNS), read_aa_lcr),
)

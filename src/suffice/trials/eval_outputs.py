"""Trials from what other evaluation tools write: told by content, one reader for each tool.

lm-eval (samples), HELM (per_instance_stats.json), OpenAI evals, promptfoo, LiveCodeBench and AA-LCR
here and in `benchmark_results`, agents in `agent_results`. A file that names no model is one rung,
called after its folder or itself.
"""

import csv
import functools
import io
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from suffice.errors import InputError
from suffice.trials.agent_results import AGENT_DOCUMENTS, read_openhands
from suffice.trials.benchmark_results import (
    AA_LCR_COLUMNS,
    read_aa_lcr,
    read_live_code_bench,
)
from suffice.trials.jsonl import Lines, read_bytes
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

FOLDER_FILES = (
    "samples_*.jsonl",
    "samples_*.jsonl.gz",
    "per_instance_stats.json",
    "meta.json",
    "result.json",
    "*_eval_all.json",
    "output.swebench_eval.jsonl",
    "output.jsonl",
)
_HELM_METRICS = (
    "chain_of_thought_correctness",
    "omni_math_accuracy",
    "wildbench_score_rescaled",
    "quasi_exact_match",
    "exact_match",
    "final_number_exact_match",
    "math_equiv_chain_of_thought",
    "math_equiv",
    "ifeval_strict_accuracy",
    "f1_score",
)
_HELM_COUNTS = re.compile(r"num_|inference_|training_|max_|finish_|logprob|batch_size|prompt_")
_HELM_MODEL = re.compile(r"(?<=:)model=[^,]*,?|,model=[^,]*")
_LM_METRICS = ("acc_norm", "acc", "exact_match", "pass@1", "prompt_level_strict_acc")
_LESS_IS_BETTER = re.compile(
    r"perplexity|bits_per_byte|brier|loss|error|^(wer|cer|ter|mse|mae|rmse|ece|nll|ppl|bypass)$"
)
_PROMPTFOO_ERROR = 2  # its `failureReason` of a call that failed; 1 is a failed assertion
_OPENAI_QUALITIES = ("accuracy", "score", "correct", "f1_score", "f1")


def files_of(folder: Path) -> list[Path]:
    """Return the outputs of evaluation tools in a folder and below it.

    Of OpenHands the evaluated file is taken, where there is one.
    """
    paths = {path for name in FOLDER_FILES for path in folder.rglob(name)}
    evaluated = {p.with_name("output.jsonl") for p in paths if "swebench_eval" in p.name}
    return sorted(paths - evaluated)


def read_outputs(path: Path) -> Iterator[Trial] | None:
    """Return the trials of a document or table that a known tool wrote; None for any other file.

    Raises InputError where such a file misses what it needs.
    """
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix not in (".json", ".csv"):
        return None
    data = read_bytes(path)
    if suffix == ".csv":
        with _naming(path):
            rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
        known = rows and AA_LCR_COLUMNS.issubset(rows[0])
        return _named(path, read_aa_lcr(path, rows)) if known else None
    whole = _decoded(data)
    for knows, read in _DOCUMENTS:
        if whole is not None and knows(whole):
            return _named(path, read(path, whole))
    if isinstance(whole, list) or (isinstance(whole, dict) and "eval" not in whole):
        raise InputError(
            f"{path} is not an Inspect log, and in no other format that is read",
            hint="docs/logs.md lists the outputs of evaluations; or write one JSON object a line, "
            "with request_id, rung and quality",
        )
    return None


def read_output_lines(path: Path, lines: Lines) -> Iterator[Trial] | None:
    """Return the trials in the lines of a file that a known tool wrote; None for any other file.

    Raises InputError where such a file misses what it needs.
    """
    first = _decoded(lines[0][1].lstrip())
    rows = None
    if not isinstance(first, dict) and lines[0][1].lstrip().startswith(b"["):
        rows = _decoded(b"\n".join(line for _, line in lines))  # one array, as lm-eval once wrote
        first = rows[0] if isinstance(rows, list) and rows else None
    for knows, read_rows in _LINES:
        if isinstance(first, dict) and knows(first):
            return _named(path, read_rows(path, _rows(path, lines) if rows is None else rows))
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
    """Read `samples_TASK_TIME.jsonl`: the first filter, and its first metric that is a quality.

    The rung is the model of `results_TIME.json` beside it, else the folder. Where the folder holds
    several times of the task, each is a run.
    """
    stem = stem_of(path)
    task = re.sub(r"(^samples_|_\d{4}-\d\d-\d\dT.*$)", "", stem)
    time = stem.removeprefix(f"samples_{task}").removeprefix("_")
    times = [
        p for p in path.parent.glob(f"samples_{task}_*") if re.match(r"\d", p.name[9 + len(task) :])
    ]
    first = rows[0].get("filter")
    rows = [row for row in rows if row.get("filter") == first]
    metric = _lm_metric(path, rows)
    for row in rows:
        if metric not in row:
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
            rung=_lm_model(path, time) or path.parent.name or "model",
            run=time if len(times) > 1 else None,
            group=task,
            text=str(text),
            scorer=metric,
            answer=answers[0] if isinstance(answers[0], str) else None,
        )


def _lm_metric(path: Path, rows: list[JSON]) -> str:
    """Choose the first metric that is one number a sample, and of which more is better."""
    names = rows[0].get("metrics") or _LM_METRICS
    known = [name for name in names if any(name in row for row in rows)]
    if not known:
        raise InputError(
            f"{path}: doc {rows[0].get('doc_id')} has no value of its metrics",
            hint="run lm_eval with --log_samples",
        )
    for name in known:
        number = any(isinstance(row.get(name), bool | int | float) for row in rows)
        if number and not _LESS_IS_BETTER.search(name):
            return str(name)
    raise InputError(
        f"{path}: none of its metrics is a quality: {', '.join(known)}",
        hint="a quality is one number a sample in [0, 1], and more of it is better",
    )


@functools.cache
def _lm_model(path: Path, time: str) -> str | None:
    """Name the model of a run by the results that lie beside its samples."""
    beside = path.parent / f"results_{time}.json"
    results = _decoded(beside.read_bytes()) if time and beside.is_file() else None
    name = results.get("model_name") if isinstance(results, dict) else None
    return name if isinstance(name, str) and name else None


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
    rows = [row for row in rows if not row.get("perturbation")]
    values = [
        {s["name"]["name"]: s.get("mean", s.get("sum")) for s in row["stats"]} for row in rows
    ]
    names = {name for stats in values for name in stats}
    metric = next((name for name in _HELM_METRICS if name in names), None)
    if metric is None:
        others = sorted(name for name in names if not _HELM_COUNTS.match(name))
        raise InputError(
            f"{path} has none of the metrics that are read, but {', '.join(others) or 'no metric'}",
            hint=f"these are read: {', '.join(_HELM_METRICS)}",
        )
    for row, stats in zip(rows, values, strict=True):
        yield output_trial(
            stats.get(metric),
            at=f"{path}, {row['instance_id']}",
            request_id=f"{_HELM_MODEL.sub('', spec['name'])}/{row['instance_id']}",
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
    """Read the record of a run: its spec, then events; `match` or `metrics` gives the quality.

    Of several calls of a sample the first is the model's; a grader may have made the others.
    """
    spec = rows[0]["spec"]
    model = (spec.get("completion_fns") or [spec.get("model_name")])[0] or path.stem
    samples: dict[str, list[JSON]] = defaultdict(list)
    for row in rows:
        if row.get("sample_id"):
            samples[str(row["sample_id"])].append(row | {"data": row.get("data") or {}})
    for name, events in samples.items():
        calls = [row["data"] for row in events if row.get("type") == "sampling"]
        scores = [row for row in events if row.get("type") in ("match", "metrics")]
        failures = [row for row in events if row.get("type") == "error"]
        question = calls[0] if calls else {}
        used = (question.get("usage") if len(calls) == 1 else None) or {}
        for run, event in enumerate(scores or failures[:1]):
            data = event["data"]
            answer = question.get("sampled", data.get("sampled"))
            yield output_trial(
                _openai_quality(event),
                at=f"{path}, {name}",
                request_id=name,
                rung=str(model),
                run=str(run) if len(scores) > 1 else None,
                group=spec.get("base_eval") or spec.get("eval_name"),
                text=_chat(question.get("prompt")),
                answer=answer[0] if isinstance(answer, list) and answer else text_of(answer),
                usage=stated_usage(
                    input=used.get("prompt_tokens"), output=used.get("completion_tokens")
                ),
                error=None if scores else str(data.get("message") or data.get("error") or "error"),
            )


def _openai_quality(event: JSON) -> Any:
    """Return what an event says of the quality: `correct` of a match, else the first known name."""
    names = ("correct",) if event["type"] == "match" else _OPENAI_QUALITIES
    values = (event["data"].get(name) for name in names)
    return next((value for value in values if value is not None), None)


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
        replayed = response.get("cached") or (used.get("cached") and not used.get("prompt"))
        used = {} if replayed else used  # promptfoo's own cache answered: nothing was generated
        latency = None if replayed else row.get("latencyMs")
        error = response.get("error")
        if row.get("failureReason") == _PROMPTFOO_ERROR or not response:
            error = error or row.get("error")
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
                reasoning=(used.get("completionDetails") or {}).get("reasoning"),
            ),
            charge_usd=None if replayed else stated_usd(row.get("cost", response.get("cost"))),
            duration_s=None if latency is None else latency / 1000,
            error=error,
        )


def _is_promptfoo(whole: Any) -> bool:
    results = whole.get("results") if isinstance(whole, dict) else None
    return isinstance(results, dict) and isinstance(results.get("results"), list)


def _provider(row: JSON) -> str:
    provider = row.get("provider") or {}
    return provider if isinstance(provider, str) else provider.get("label") or provider["id"]


def _chat(prompt: Any) -> str:
    if not isinstance(prompt, list):
        return "" if prompt is None else str(prompt)
    texts = []
    for turn in prompt:
        content = turn.get("content", "")
        parts = content if isinstance(content, list) else [{"text": content}]
        texts += [str(part.get("text") or "") for part in parts]
    return "\n\n".join(texts)


_DOCUMENTS: tuple[tuple[Knows, Reader], ...] = (
    (_is_promptfoo, _promptfoo),
    *AGENT_DOCUMENTS,
    (list_of("question_id", "graded_list"), read_live_code_bench),
    (list_of("instance_id", "stats"), _helm),
    (list_of(*AA_LCR_COLUMNS), read_aa_lcr),
)
_LINES: tuple[tuple[Knows, Reader], ...] = (
    (all_have("doc_id", "metrics", "filter"), _lm_eval),
    (all_have("doc_id", "filtered_resps"), _lm_eval),
    (all_have("spec"), _openai_evals),
    (all_have("instance_id", "test_result"), read_openhands),
    (all_have(*AA_LCR_COLUMNS), read_aa_lcr),
)

"""What other evaluation tools write is read as trials, each by what is in the file."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from suffice.certify.compare import compare
from suffice.errors import InputError
from suffice.trials.importers import read_trials
from suffice.types import TrialStatus


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_samples_of_lm_eval(tmp_path: Path) -> None:
    rows = [
        {
            "doc_id": n,
            "doc": {},
            "target": "4",
            "filter": name,
            "metrics": ["exact_match"],
            "arguments": {"gen_args_0": {"arg_0": f"2+{n}?", "arg_1": {}}},
            "resps": [["so 4"]],
            "filtered_resps": ["4"],
            "exact_match": float(n % 2),
        }
        for n in range(4)
        for name in ("strict-match", "flexible-extract")
    ]
    path = write(tmp_path / "org__model-7b" / "samples_gsm8k_2026-03-01T10-00-00.1.jsonl", rows)
    trials = read_trials(path)
    assert [t.quality for t in trials] == [0, 1, 0, 1]
    assert (trials[0].rung, trials[0].request_id, trials[0].text, trials[0].answer) == (
        "org__model-7b",
        "gsm8k/0",
        "2+0?",
        "4",
    )
    assert read_trials(tmp_path / "org__model-7b") == trials
    write(path, [{"doc_id": 0, "filter": "none", "metrics": ["acc"]}])
    with pytest.raises(InputError, match="has no value") as caught:
        read_trials(path)
    assert caught.value.hint


SAMPLES = "samples_t_2026-03-01T10-00-00.1.jsonl"


def test_samples_are_of_the_model_that_their_results_name(tmp_path: Path) -> None:
    path = write(tmp_path / SAMPLES, [SAMPLE])
    write(tmp_path / "results_2026-03-01T10-00-00.1.json", {"model_name": "org/model-7b"})
    assert read_trials(path)[0].rung == "org/model-7b"
    packed = tmp_path / f"{SAMPLES}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_trials(packed) == read_trials(path)


def test_samples_of_two_times_are_runs(tmp_path: Path) -> None:
    write(tmp_path / "m" / SAMPLES, [SAMPLE])
    write(tmp_path / "m" / SAMPLES.replace("03-01", "03-02"), [SAMPLE | {"acc": 0.0}])
    write(tmp_path / "m" / SAMPLES.replace("_t_", "_t_more_"), [SAMPLE])
    runs = [(t.request_id, t.run, t.quality) for t in read_trials(tmp_path / "m")]
    assert runs == [
        ("t/0", "2026-03-01T10-00-00.1", 1.0),
        ("t/0", "2026-03-02T10-00-00.1", 0.0),
        ("t_more/0", None, 1.0),
    ]


def test_samples_that_are_one_array_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m" / "samples_t.jsonl"
    path.parent.mkdir()
    rows = [SAMPLE | {"arguments": [["2+2?", {}]]}, SAMPLE | {"doc_id": 1}]
    path.write_text(json.dumps(rows, indent=4))
    assert [(t.request_id, t.text) for t in read_trials(path)] == [("t/0", "2+2?"), ("t/1", "2+2?")]


@pytest.mark.parametrize(
    ("values", "scorer"),
    [
        ({"brier_score": 0.9}, None),
        ({"word_perplexity": [-120.5, 50]}, None),
        ({"wer": 0.1}, None),
        ({"bypass": None}, None),
        ({"inst_level_strict_acc": [True, False], "prompt_level_strict_acc": True}, "prompt_level"),
        ({"brier_score": 0.9, "acc": 1.0}, "acc"),
    ],
)
def test_only_what_is_better_the_more_of_it_is_a_quality(
    tmp_path: Path, values: dict[str, Any], scorer: str | None
) -> None:
    path = write(tmp_path / SAMPLES, [SAMPLE | {"metrics": list(values), **values}])
    if scorer is None:
        with pytest.raises(InputError, match="none of its metrics is a quality"):
            read_trials(path)
    else:
        (trial,) = read_trials(path)
        assert str(trial.scorer).startswith(scorer)
        assert trial.quality == 1.0


def test_instances_of_two_models_in_helm_are_the_same_requests(tmp_path: Path) -> None:
    for model in ("openai/gpt-5", "org/m"):
        stats = [{"name": {"name": "chain_of_thought_correctness"}, "mean": 1.0}]
        folder = tmp_path / model.replace("/", "_")
        write(folder / "per_instance_stats.json", [{"instance_id": "id1", "stats": stats}])
        name = f"gpqa:subset=main,model={model.replace('/', '_')},use_cot=true"
        write(folder / "run_spec.json", {"name": name, "adapter_spec": {"model": model}})
    trials = read_trials(tmp_path)
    assert {t.request_id for t in trials} == {"gpqa:subset=main,use_cot=true/id1"}
    assert {t.rung for t in trials} == {"openai/gpt-5", "org/m"}


def test_a_metric_of_helm_that_nobody_knows_is_named(tmp_path: Path) -> None:
    stats = [
        {"name": {"name": "num_prompt_tokens"}, "mean": 9},
        {"name": {"name": "charm"}, "mean": 1},
    ]
    write(tmp_path / "run_spec.json", {"name": "x:model=m", "adapter_spec": {"model": "m"}})
    path = write(tmp_path / "per_instance_stats.json", [{"instance_id": "id1", "stats": stats}])
    with pytest.raises(InputError, match="but charm"):
        read_trials(path)


def event(kind: str, sample: int, **data: Any) -> dict[str, Any]:
    return {"run_id": "r", "sample_id": f"t.{sample}", "type": kind, "data": data}


def test_calls_of_a_grader_in_openai_evals_are_not_the_answer(tmp_path: Path) -> None:
    picture = [{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {}}]
    rows = [
        {"spec": {"completion_fns": ["gpt-5"], "base_eval": "t"}},
        event(
            "sampling",
            0,
            prompt=[{"role": "user", "content": picture}],
            sampled=["fine"],
            usage={"prompt_tokens": 9, "completion_tokens": 2},
        ),
        event("sampling", 0, prompt="Is that right?", sampled=["A"]),
        event("metrics", 0, choice="A", score=1.0),
        event("sampling", 1, prompt="1+1?", sampled=["2"], usage={"prompt_tokens": 4}),
        event("match", 1, correct=True),
        event("match", 1, correct=False),
        event("error", 2, type="RateLimitError", message="slow down"),
    ]
    trials = read_trials(write(tmp_path / "log.jsonl", rows))
    assert [(t.request_id, t.run, t.quality) for t in trials] == [
        ("t.0", None, 1.0),
        ("t.1", "0", 1.0),
        ("t.1", "1", 0.0),
        ("t.2", None, None),
    ]
    assert (trials[0].answer, trials[0].usage.input_tokens) == ("fine", None)
    assert trials[0].text.startswith("Look.")
    assert trials[1].usage.input_tokens is not None
    assert (trials[3].status, trials[3].error) == (TrialStatus.FAILED, "slow down")


def test_what_promptfoo_replays_from_its_cache_has_no_cost(tmp_path: Path) -> None:
    row = {"provider": "p", "prompt": {"raw": "Q"}, "score": 1, "success": True, "cost": 0}
    cached = {"output": "a", "cached": True, "tokenUsage": {"total": 12, "cached": 12}}
    failed = {"failureReason": 2, "error": "overloaded", "success": False, "score": 0}
    wrong = {"failureReason": 1, "error": "expected b", "success": False, "score": 0}
    results = [
        row | {"testIdx": 0, "response": cached, "latencyMs": 1},
        row | {"testIdx": 1, "response": {"output": ""}, **failed},
        row | {"testIdx": 2, "response": {"output": "a"}, **wrong},
    ]
    first, second, third = read_trials(
        write(tmp_path / "o.json", {"results": {"results": results}})
    )
    assert (first.charge_usd, first.duration_s, first.usage.cache_read_tokens) == (None, None, None)
    assert second.status is TrialStatus.FAILED
    assert (third.status, third.quality) == (TrialStatus.SCORED, 0.0)


def test_instances_of_helm(tmp_path: Path) -> None:
    stats = [
        {
            "instance_id": f"id{n}",
            "train_trial_index": 0,
            "stats": [
                {"name": {"name": "exact_match", "split": "test"}, "mean": float(n)},
                {"name": {"name": "num_prompt_tokens"}, "mean": 120.0},
                {"name": {"name": "num_output_tokens"}, "mean": 7.0},
            ],
        }
        for n in range(2)
    ]
    stats.append(stats[0] | {"perturbation": {"name": "robustness"}})
    path = write(tmp_path / "run" / "per_instance_stats.json", stats)
    with pytest.raises(InputError, match="which model") as caught:
        read_trials(path)
    assert "run_spec.json" in str(caught.value.hint)
    spec = {"name": "mmlu:subject=law,model=org_m", "adapter_spec": {"model": "org/m"}}
    write(tmp_path / "run" / "run_spec.json", spec)
    trials = read_trials(tmp_path)
    assert [(t.rung, t.quality, t.group) for t in trials] == [
        ("org/m", 0.0, "mmlu"),
        ("org/m", 1.0, "mmlu"),
    ]
    assert trials[0].usage.output_tokens is not None
    assert trials[0].usage.output_tokens.tokens == 7


def test_records_of_openai_evals(tmp_path: Path) -> None:
    rows = [
        {"spec": {"completion_fns": ["gpt-5"], "eval_name": "sums.dev.v0", "base_eval": "sums"}},
        {
            "run_id": "r",
            "event_id": 0,
            "sample_id": "sums.0",
            "type": "sampling",
            "data": {"prompt": [{"role": "user", "content": "1+1?"}], "sampled": ["2"]},
        },
        {
            "run_id": "r",
            "event_id": 1,
            "sample_id": "sums.0",
            "type": "match",
            "data": {"correct": True, "expected": "2", "picked": "2"},
        },
        {
            "run_id": "r",
            "event_id": 2,
            "sample_id": "sums.1",
            "type": "match",
            "data": {"correct": False},
        },
        {"final_report": {"accuracy": 0.5}},
    ]
    trials = read_trials(write(tmp_path / "log.jsonl", rows))
    assert [(t.request_id, t.quality, t.answer) for t in trials] == [
        ("sums.0", 1.0, "2"),
        ("sums.1", 0.0, None),
    ]
    assert (trials[0].rung, trials[0].text) == ("gpt-5", "1+1?")


def test_results_of_promptfoo(tmp_path: Path) -> None:
    results = [
        {
            "promptIdx": 0,
            "testIdx": test,
            "provider": {"id": provider, "label": ""},
            "prompt": {"raw": f"Q{test}", "label": "p"},
            "vars": {"q": test},
            "score": test / 2,
            "success": True,
            "latencyMs": 1500,
            "cost": 0.002,
            "response": {"output": "yes", "tokenUsage": {"prompt": 9, "completion": 3}},
        }
        for test in range(2)
        for provider in ("openai:gpt-5", "anthropic:claude")
    ]
    results.append({**results[0], "testIdx": 2, "response": {"error": "overloaded"}, "score": 0})
    trials = read_trials(
        write(tmp_path / "o.json", {"results": {"version": 3, "results": results}})
    )
    assert len(trials) == 5
    assert {t.rung for t in trials} == {"openai:gpt-5", "anthropic:claude"}
    assert trials[2].quality == 0.5
    assert (float(trials[0].charge_usd or 0), trials[0].duration_s) == (0.002, 1.5)
    assert trials[-1].status is TrialStatus.FAILED


def test_resolved_instances_and_reports_of_swe_bench(tmp_path: Path) -> None:
    easy = {f"django__django-{n}": {"resolved": n % 4 > 0, "cost": 0.5} for n in range(80)}
    one = write(tmp_path / "opus.json", easy)
    other = write(tmp_path / "haiku.json", {k: v | {"cost": 0.1} for k, v in easy.items()})
    trials = read_trials(one, other)
    assert len(trials) == 160
    assert {t.group for t in trials} == {"django"}
    result = compare(trials, reference="opus", alpha=0.1)
    assert result.settings[0].setting == "haiku"
    report = {
        "total_instances": 3,
        "resolved_ids": ["a__b-1"],
        "unresolved_ids": ["a__b-2"],
        "empty_patch_ids": ["a__b-3"],
        "completed_ids": ["a__b-1", "a__b-2"],
    }
    qualities = [t.quality for t in read_trials(write(tmp_path / "m.run.json", report))]
    assert qualities == [1.0, 0.0, 0.0]


def test_tasks_of_mcpmark(tmp_path: Path) -> None:
    for run in (1, 2):
        meta = {
            "task_name": "notion/sort",
            "model_name": "gpt-5",
            "mcp": "notion",
            "reasoning_effort": "high",
            "execution_result": {"success": run == 2},
            "agent_execution_time": 12.5,
            "token_usage": {"input_tokens": 900, "output_tokens": 80, "total_tokens": 980},
        }
        write(tmp_path / "notion__gpt-5" / f"run-{run}" / "sort" / "meta.json", meta)
    trials = read_trials(tmp_path)
    assert [(t.rung, t.run, t.quality) for t in trials] == [
        ("gpt-5@high", "run-1", 0.0),
        ("gpt-5@high", "run-2", 1.0),
    ]
    lost = write(tmp_path / "meta.json", {"task_name": "t", "execution_result": {"success": True}})
    with pytest.raises(InputError, match="names no model"):
        read_trials(lost)


def test_generations_of_live_code_bench(tmp_path: Path) -> None:
    rows = [
        {
            "question_id": "abc",
            "question_content": "Sort.",
            "difficulty": "easy",
            "code_list": ["x", "y"],
            "graded_list": [True, False],
            "pass@1": 0.5,
        }
    ]
    path = tmp_path / "Model-A" / "Scenario.codegeneration_2_0.2_eval_all.json"
    trials = read_trials(write(path, rows))
    assert [(t.rung, t.run, t.quality, t.answer) for t in trials] == [
        ("Model-A", "0", 1.0, "x"),
        ("Model-A", "1", 0.0, "y"),
    ]


def test_graded_answers_to_aa_lcr(tmp_path: Path) -> None:
    rows = [
        {"question_id": n, "document_set_id": "set-1", "model": "m", "grade": grade}
        for n, grade in enumerate(("CORRECT", "incorrect"))
    ]
    trials = read_trials(write(tmp_path / "a.jsonl", rows))
    assert [(t.quality, t.cluster) for t in trials] == [(1.0, "set-1"), (0.0, "set-1")]
    table = write(
        tmp_path / "a.csv", "question_id,document_set_id,model,grade\n0,set-1,m,CORRECT\n"
    )
    assert read_trials(table)[0].quality == 1.0
    write(tmp_path / "b.jsonl", [rows[0] | {"grade": "maybe"}])
    with pytest.raises(InputError, match="maybe"):
        read_trials(tmp_path / "b.jsonl")


def test_scores_outside_the_unit_interval_are_refused_with_a_hint(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", {"a": {"resolved": 3}})
    with pytest.raises(InputError, match="outside") as caught:
        read_trials(path)
    assert caught.value.hint


SAMPLE = {
    "doc_id": 0,
    "filter": "none",
    "metrics": ["acc"],
    "arguments": {"gen_args_0": {"arg_0": "2+2?"}},
    "filtered_resps": ["4"],
    "acc": 1.0,
}


@pytest.mark.parametrize(
    "field",
    [
        {"metrics": 5},
        {"arguments": 5},
        {"arguments": {"gen_args_0": 5}},
        {"filtered_resps": 5},
        {"filtered_resps": {"a": 1}},
    ],
)
def test_a_field_of_another_type_is_named_with_its_file(tmp_path: Path, field: Any) -> None:
    path = write(tmp_path / "m" / "samples_t_2026-03-01T10-00-00.1.jsonl", [SAMPLE | field])
    with pytest.raises(InputError, match=r"samples_t_") as caught:
        read_trials(path)
    assert caught.value.hint


def test_a_table_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_bytes("question;Größe\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"answers\.csv"):
        read_trials(path)

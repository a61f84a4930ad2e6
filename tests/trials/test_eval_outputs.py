"""What other evaluation tools write is read as trials, each by what is in the file."""

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

"""What other evaluation tools write is read as trials, each by what is in the file."""

import json
from decimal import Decimal
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


GRADED = {"question_id": "1", "document_set_id": "s", "model": "m", "grade": "CORRECT"}
PROBLEM = {"question_id": "abc", "question_content": "Sort.", "graded_list": [True]}
SAMPLE = {"doc_id": 0, "filter": "none", "metrics": ["acc"], "acc": 1.0, "arguments": [["q", {}]]}
NAMELESS = {key: value for key, value in SAMPLE.items() if key != "doc_id"}


@pytest.mark.parametrize(
    ("name", "rows", "says"),
    [
        ("a.jsonl", [GRADED, {"question_id": "2", "document_set_id": "s"}], "no field 'grade'"),
        ("a_eval_all.json", [PROBLEM, {"question_id": "b"}], "no field 'graded_list'"),
        ("a_eval_all.json", [PROBLEM | {"graded_list": "True"}], "graded_list is 'True'"),
        ("a_eval_all.json", [], "holds no row"),
        ("samples_t_2026-01-01T00.jsonl", [SAMPLE, {**SAMPLE, "doc_id": None} | {"acc": {}}], None),
        ("samples_t_2026-01-01T00.jsonl", [SAMPLE, NAMELESS], "no field 'doc_id'"),
        ("a.json", {"a": {"resolved": True}, "b": {"resolved": 1, "cost": "much"}}, None),
        ("a.csv", ",".join(GRADED) + ",output_tokens\n1,s,m,CORRECT,many\n", "no number"),
    ],
)
def test_a_row_of_another_shape_is_named(
    name: str, rows: Any, says: str | None, tmp_path: Path
) -> None:
    path = write(tmp_path / "Model-A" / name, rows)
    if says is None:
        assert len(read_trials(path)) == 2
        return
    with pytest.raises(InputError, match=says) as caught:
        read_trials(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_what_was_not_marked_is_unscored_and_what_broke_has_failed(tmp_path: Path) -> None:
    """Lm-eval 1152 writes 999 for what it only predicts; AA-LCR rows may have no grade yet."""
    sample = SAMPLE | {"metrics": ["bypass"], "bypass": 999}
    assert read_trials(write(tmp_path / "m" / "samples_t_2026-01-01T00.jsonl", [sample]))[
        0
    ].status is (TrialStatus.UNSCORED)
    rows = [
        GRADED | {"run": 0, "grade": None},
        GRADED | {"run": 1, "grade": "", "error": "timeout"},
        GRADED | {"run": 2, "cost": 0.5, "output_tokens": -4},
    ]
    trials = read_trials(write(tmp_path / "a.jsonl", rows))
    assert [(t.run, t.status) for t in trials] == [
        ("0", TrialStatus.UNSCORED),
        ("1", TrialStatus.FAILED),
        ("2", TrialStatus.SCORED),
    ]
    assert trials[2].usage.output_tokens is None


def test_tables_of_spreadsheets_are_read(tmp_path: Path) -> None:
    """With a byte order mark, and with a prompt of 400 kB in a cell; costs are text there."""
    header = "\ufeffquestion_id,document_set_id,model,grade,question,cost,output_tokens\n"
    row = f"1,s,m,CORRECT,{'x' * 400_000},0.25,1200\n"
    (trial,) = read_trials(write(tmp_path / "a.csv", header + row))
    assert trial.charge_usd == Decimal("0.25")
    assert trial.usage.output_tokens is not None
    assert trial.usage.output_tokens.tokens == 1200


def test_other_scenarios_of_live_code_bench_have_several_tests_a_problem(tmp_path: Path) -> None:
    """`testoutputprediction` and `codeexecution` write predictions; a problem is a cluster."""
    rows = [
        {"question_id": "p", "test_id": n, "pred_list": ["assert"], "graded_list": [n == 0]}
        for n in range(2)
    ] + [{"question_id": "p", "id": "sample_3", "code": "f(1)", "graded_list": [True]}]
    trials = read_trials(write(tmp_path / "Model-A" / "x_eval_all.json", rows))
    assert [(t.request_id, t.quality, t.cluster) for t in trials] == [
        ("p/0", 1.0, "p"),
        ("p/1", 0.0, "p"),
        ("p/sample_3", 1.0, "p"),
    ]


def test_scores_outside_the_unit_interval_are_refused_with_a_hint(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", {"a": {"resolved": 3}})
    with pytest.raises(InputError, match="outside") as caught:
        read_trials(path)
    assert caught.value.hint

"""Results of agents on benchmarks are read as trials, each by its keys."""

import json
from pathlib import Path
from typing import Any

import pytest

from suffice.errors import InputError
from suffice.trials.importers import read_trials
from suffice.types import TrialStatus


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = content if path.suffix == ".jsonl" else [content]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_all_runs_of_a_task_of_mcpmark(tmp_path: Path) -> None:
    run = {"execution_time": 12.5, "token_usage": {"input_tokens": 900, "output_tokens": 80}}
    task = {
        "model": "gpt-5-low",
        "service": "github",
        "task": "find_commit",
        "runs": {
            "run-1": run | {"success": False, "error_message": "too many tokens"},
            "run-2": run | {"success": True, "error_message": None},
        },
    }
    trials = read_trials(write(tmp_path / "find_commit.json", task))
    assert [(t.rung, t.run, t.quality, t.group) for t in trials] == [
        ("gpt-5-low", "run-1", 0.0, "github"),
        ("gpt-5-low", "run-2", 1.0, "github"),
    ]
    assert trials[0].usage.input_tokens is not None
    assert trials[0].usage.input_tokens.tokens == 900


@pytest.mark.parametrize(
    ("name", "rung"), [("openai__gpt-4.1.run1.json", "openai__gpt-4.1"), ("opus.json", "opus")]
)
def test_a_report_of_swe_bench_is_of_the_model_that_its_name_says(
    tmp_path: Path, name: str, rung: str
) -> None:
    report = {"total_instances": 1, "resolved_ids": ["a__b-1"]}
    assert read_trials(write(tmp_path / name, report))[0].rung == rung


def test_older_and_single_reports_of_swe_bench(tmp_path: Path) -> None:
    old = {"no_generation": ["a__b-1"], "applied": ["a__b-2", "a__b-3"], "resolved": ["a__b-2"]}
    trials = read_trials(write(tmp_path / "20240620_agent.json", old))
    assert [t.quality for t in trials] == [0.0, 1.0, 0.0]
    one = {"a__b-1": {"patch_exists": True, "resolved": True}}
    path = write(tmp_path / "run" / "gpt-5" / "a__b-1" / "report.json", one)
    assert read_trials(path)[0].rung == "gpt-5"


INSTANCE = {
    "instance_id": "django__django-1",
    "instruction": "Mend it.",
    "metadata": {"llm_config": {"model": "openai/gpt-5", "reasoning_effort": "high"}},
    "metrics": {
        "accumulated_cost": 0.5,
        "accumulated_token_usage": {
            "prompt_tokens": 1000,
            "completion_tokens": 50,
            "cache_read_tokens": 900,
        },
    },
    "error": None,
}


@pytest.mark.parametrize(
    ("row", "quality"),
    [
        ({"test_result": {"report": {"resolved": True}}}, 1.0),
        ({"test_result": {}, "report": {"resolved": False}}, 0.0),
        ({"test_result": {"score": True}}, 1.0),
    ],
)
def test_outputs_of_openhands(tmp_path: Path, row: dict[str, Any], quality: float) -> None:
    (trial,) = read_trials(write(tmp_path / "output.jsonl", [INSTANCE | row]))
    assert (trial.rung, trial.quality, str(trial.charge_usd)) == (
        "openai/gpt-5@high",
        quality,
        "0.5",
    )
    assert trial.usage.cache_read_tokens is not None
    assert trial.usage.cache_read_tokens.tokens == 900


@pytest.mark.parametrize("value", [True, -1, 1e308, "many", [1], None])
def test_amounts_that_cannot_be_are_unknown(tmp_path: Path, value: Any) -> None:
    metrics = {"accumulated_cost": value, "accumulated_token_usage": {"prompt_tokens": value}}
    row = INSTANCE | {"metrics": metrics, "test_result": {"score": True}}
    (trial,) = read_trials(write(tmp_path / "output.jsonl", [row]))
    assert (trial.charge_usd, trial.usage.input_tokens) == (None, None)


def test_outputs_of_openhands_need_a_decision(tmp_path: Path) -> None:
    rows = [
        INSTANCE | {"test_result": {"git_patch": "x"}},
        INSTANCE | {"instance_id": "a__b-2", "test_result": {}, "metrics": None},
        INSTANCE | {"instance_id": "a__b-3", "test_result": {}, "error": "out of disk"},
    ]
    path = write(tmp_path / "output.jsonl", rows)
    with pytest.raises(InputError, match="whether it is resolved"):
        read_trials(path)
    write(tmp_path / "output.report.json", {"resolved_ids": ["django__django-1"]})
    trials = read_trials(path)
    assert [t.quality for t in trials] == [1.0, 0.0, None]
    assert trials[1].charge_usd is None
    assert trials[2].status is TrialStatus.FAILED


def test_of_a_folder_of_openhands_the_evaluated_outputs_are_read(tmp_path: Path) -> None:
    write(tmp_path / "run" / "output.jsonl", [INSTANCE | {"test_result": {}}])
    decided = INSTANCE | {"test_result": {}, "report": {"resolved": True}}
    write(tmp_path / "run" / "output.swebench_eval.jsonl", [decided])
    assert [t.quality for t in read_trials(tmp_path)] == [1.0]


def test_trials_of_tau_bench(tmp_path: Path) -> None:
    rows = [
        {"task_id": 0, "trial": trial, "reward": float(trial), "traj": [], "info": {}}
        for trial in (0, 1)
    ]
    rows.append(rows[0] | {"task_id": 1, "info": {"error": "timeout"}})
    trials = read_trials(write(tmp_path / "gpt-4o-airline.json", rows))
    assert [(t.request_id, t.run, t.quality) for t in trials] == [
        ("0", "0", 0.0),
        ("0", "1", 1.0),
        ("1", "0", None),
    ]
    assert {t.rung for t in trials} == {"gpt-4o-airline"}


def test_simulations_of_tau2_bench(tmp_path: Path) -> None:
    results = {
        "info": {
            "agent_info": {"llm": "gpt-5", "llm_args": {"reasoning_effort": "low"}},
            "environment_info": {"domain_name": "retail"},
        },
        "simulations": [
            {
                "task_id": "7",
                "trial": 1,
                "reward_info": {"reward": 1.0},
                "agent_cost": 0.25,
                "user_cost": 0.1,
                "duration": 30.5,
            }
        ],
    }
    (trial,) = read_trials(write(tmp_path / "r.json", results))
    assert (trial.rung, trial.group, str(trial.charge_usd)) == ("gpt-5@low", "retail", "0.25")
    assert (trial.quality, trial.duration_s) == (1.0, 30.5)


def test_results_of_terminal_bench_and_harbor(tmp_path: Path) -> None:
    results = {
        "results": [
            {
                "task_id": "hello",
                "trial_name": "hello.1-of-1",
                "is_resolved": True,
                "total_input_tokens": 100,
                "total_output_tokens": 10,
            }
        ]
    }
    write(tmp_path / "tb" / "run_metadata.json", {"model_name": "openai/gpt-5"})
    (trial,) = read_trials(write(tmp_path / "tb" / "results.json", results))
    assert (trial.rung, trial.run, trial.quality) == ("openai/gpt-5", "hello.1-of-1", 1.0)
    result = {
        "task_name": "hello",
        "trial_name": "hello__x",
        "agent_info": {"name": "a", "model_info": {"name": "gpt-5", "provider": "openai"}},
        "agent_result": {"n_input_tokens": 10, "n_output_tokens": 5, "n_cache_tokens": 3},
        "verifier_result": {"rewards": {"reward": 1.0}},
        "started_at": "2026-08-09T00:00:00+00:00",
        "finished_at": "2026-08-09T00:00:10+00:00",
    }
    write(tmp_path / "jobs" / "hello__x" / "result.json", result)
    lost = result | {"trial_name": "hello__y", "verifier_result": None}
    lost["exception_info"] = {"exception_type": "AgentTimeoutError"}
    write(tmp_path / "jobs" / "hello__y" / "result.json", lost)
    first, second = read_trials(tmp_path / "jobs")
    assert (first.rung, first.quality, first.duration_s) == ("gpt-5", 1.0, 10.0)
    assert (second.status, second.error) == (TrialStatus.FAILED, "AgentTimeoutError")


@pytest.mark.parametrize(
    "content",
    [{"a": 1}, [{"score": 1}], {"django__django-1": {"model_patch": "x"}}, {"score": 0.8}],
)
def test_other_documents_are_refused_with_a_way_out(tmp_path: Path, content: Any) -> None:
    with pytest.raises(InputError, match="in no other format that is read") as caught:
        read_trials(write(tmp_path / "x.json", content))
    assert "docs/logs.md" in str(caught.value.hint)

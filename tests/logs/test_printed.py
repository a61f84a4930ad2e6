"""What coding agents print of a run is read, and nothing of it is added twice."""

import json
from pathlib import Path
from typing import Any

import pytest
from log_samples import CLAUDE, WRITERS, Call, calls, write_log

from suffice.bill.make import BillOptions, billed
from suffice.bill.screen import show_bill
from suffice.logs.clean import Cleaned
from suffice.logs.read import read_logs
from suffice.logs.totals import Runs

ROWS = (
    "model, requests, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, "
    "stated_usd::DOUBLE"
)
SUMS = (
    "count(*), sum(input_tokens)::BIGINT, sum(cache_read_tokens)::BIGINT, "
    "sum(output_tokens)::BIGINT"
)


def read(*paths: Path, what: str = ROWS, group: str = "") -> tuple[list[tuple[Any, ...]], Cleaned]:
    with read_logs([str(path) for path in paths]) as logs:
        rows = logs.store.execute(f"SELECT {what} FROM records {group} ORDER BY ALL").fetchall()
        return rows, logs.cleaned


def model_sum(call: tuple[int, int, int, int], usd: float) -> dict[str, Any]:
    """Write input beside the caches, reads, writes and output of a model as results name them."""
    names = ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens", "outputTokens")
    return dict(zip(names, call, strict=True)) | {
        "webSearchRequests": 0,
        "costUSD": usd,
        "contextWindow": 200000,
    }


def usage(call: tuple[int, int, int, int]) -> dict[str, Any]:
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return dict(zip((*names, "output_tokens"), call, strict=True)) | {
        "cache_creation": {"ephemeral_1h_input_tokens": call[2], "ephemeral_5m_input_tokens": 0},
        "service_tier": "standard",
        "speed": "standard",
        "iterations": [{"type": "message", "input_tokens": 1, "output_tokens": 2419}],
    }


def result(session: str = "s", *, turns: int = 24, **more: Any) -> dict[str, Any]:
    return {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "duration_ms": 9000,
        "duration_api_ms": 8000,
        "num_turns": turns,
        "result": "words",
        "session_id": session,
    } | more


MAIN, ASIDE = (25, 1_613_187, 89_859, 32_129), (8_921, 0, 0, 21)
CLAUDE_RESULT = result(
    total_cost_usd=2.5175595,
    usage=usage(MAIN),
    modelUsage={
        "claude-haiku-4-5-20251001": model_sum(ASIDE, 0.009026),
        "claude-opus-4-6[1m]": model_sum(MAIN, 2.5085335),
    },
    uuid="u1",
)
CLAUDE_ROWS = [
    ("claude-haiku-4-5-20251001", 0, 8_921, 0, 0, 21, 0.009026),
    ("claude-opus-4-6", 24, 1_703_071, 1_613_187, 89_859, 32_129, 2.5085335),
]


def test_a_result_of_claude_is_one_row_a_model(tmp_path: Path) -> None:
    """Prompts count as long as they are in the mean: the opus run has 71 thousand tokens a turn."""
    path = tmp_path / "result.json"
    for text in (json.dumps(CLAUDE_RESULT), json.dumps(CLAUDE_RESULT, indent=2)):
        path.write_text(text)
        rows, cleaned = read(path)
        assert rows == CLAUDE_ROWS
        assert cleaned.runs == Runs(turned=1, uncounted=1)
    again = tmp_path / "again.json"
    again.write_text(json.dumps(CLAUDE_RESULT))
    assert read(path, again)[0] == CLAUDE_ROWS
    with billed([str(path)], BillOptions(host=None)) as (bill, _):
        assert float(bill.whole.usd) == pytest.approx(2.5175595, abs=1e-9)
        assert [one.reason for one in bill.stated] == ["the same", "the same"]
        assert any("turns count as requests" in note for note in bill.notes)
        assert next(show_bill(bill)).startswith("$2.52 for 24 requests of agent-run")


def test_results_of_one_process_repeat_the_sums_before(tmp_path: Path) -> None:
    """The sums by model grow over the turns of a process; the usage is of the turn alone."""
    first, second = (10, 100, 40, 7), (20, 900, 60, 30)
    whole = tuple(a + b for a, b in zip(first, second, strict=True))
    turns = [
        result(usage=usage(first), modelUsage={"m": model_sum(first, 0.5)}, uuid="1", turns=1),
        result(usage=usage(second), modelUsage={"m": model_sum(whole, 1.25)}, uuid="2", turns=2),
    ]
    rows, _ = read(write_log(tmp_path / "a.jsonl", turns))
    assert rows == [("m", 1, 150, 100, 40, 7, 0.5), ("m", 2, 980, 900, 60, 30, 0.75)]
    other = [  # a process each, as `--resume` starts it
        result(usage=usage(first), modelUsage={"m": model_sum(first, 0.5)}, uuid="1", turns=1),
        result(usage=usage(second), modelUsage={"m": model_sum(second, 0.75)}, uuid="2", turns=2),
    ]
    rows, _ = read(write_log(tmp_path / "a.jsonl", other))
    assert rows == [("m", 1, 150, 100, 40, 7, 0.5), ("m", 2, 980, 900, 60, 30, 0.75)]


def test_a_result_of_an_early_version_states_tokens_and_dollars(tmp_path: Path) -> None:
    row = result(usage=usage(MAIN), total_cost_usd=2.5)
    rows, _ = read(write_log(tmp_path / "a.jsonl", [row]))
    assert rows == [(None, 24, 1_703_071, 1_613_187, 89_859, 32_129, 2.5)]


def stream(made: list[Call], *, written: float) -> list[dict[str, Any]]:
    """Write the events of a run whose assistant lines have a part of the output."""
    rows: list[dict[str, Any]] = [
        {
            "type": "system",
            "subtype": "init",
            "cwd": "/home/a/shop",
            "session_id": made[0].session,
            "tools": [],
            "model": made[0].model,
            "uuid": "i",
        }
    ]
    whole = [0, 0, 0, 0]
    for call in made:
        one = (call.input - call.read - call.write, call.read, call.write, call.output)
        whole = [a + b for a, b in zip(whole, one, strict=True)]
        rows += [
            {
                "type": "assistant",
                "message": {
                    "id": call.id,
                    "type": "message",
                    "role": "assistant",
                    "model": call.model,
                    "content": [{"type": kind}],
                    "stop_reason": None,
                    "usage": usage((*one[:3], max(1, int(call.output * written)))),
                },
                "parent_tool_use_id": None,
                "session_id": call.session,
                "uuid": f"{call.id}-{kind}",
            }
            for kind in ("thinking", "text", "tool_use")
        ]
    sums = tuple(whole)
    usd = sum(call.usd for call in made)
    rows.append(
        result(
            made[0].session,
            total_cost_usd=usd,
            usage=usage(sums),
            modelUsage={made[0].model: model_sum(sums, usd)},
            uuid="r",
            turns=len(made),
        )
    )
    return rows


def truth(made: list[Call]) -> tuple[int, ...]:
    return (
        sum(call.input for call in made),
        sum(call.read for call in made),
        sum(call.output for call in made),
    )


@pytest.mark.parametrize("written", [1, 0.1])
def test_a_stream_is_its_calls_and_what_only_the_result_counts(
    written: float, tmp_path: Path
) -> None:
    """Lines of a message repeat its usage, and are printed before its last tokens are counted."""
    made = calls(CLAUDE, sessions=1)
    path = write_log(tmp_path / "run.jsonl", stream(made, written=written))
    [(rows, *sums)], cleaned = read(path, what=SUMS)
    assert tuple(sums) == truth(made)
    assert rows == len(made) + (written < 1)
    assert (cleaned.runs, cleaned.unended) == (Runs(held=1), 0)
    [(usd, requests)], _ = read(path, what="sum(stated_usd)::DOUBLE, sum(requests)")
    assert usd == pytest.approx(sum(call.usd for call in made))
    assert requests == len(made)
    array = tmp_path / "run.json"  # of `--output-format json --verbose`
    array.write_text(json.dumps(stream(made, written=written)))
    assert tuple(read(array, what=SUMS)[0][0][1:]) == truth(made)


def test_a_run_beside_its_session_file_adds_nothing(tmp_path: Path) -> None:
    made = calls(CLAUDE, sessions=1)
    events = stream(made, written=0.1)
    files = write_log(tmp_path / "session.jsonl", WRITERS["claude-code"][0](made))
    for rows in (events, events[-1:]):
        [(count, *sums)], _ = read(files, write_log(tmp_path / "run.jsonl", rows), what=SUMS)
        assert (count, *sums) == (len(made), *truth(made))


def test_a_relay_that_answers_under_another_name_adds_nothing(tmp_path: Path) -> None:
    made = calls(CLAUDE, sessions=1)
    rows = stream(made, written=1)
    for row in rows:
        if row["type"] == "assistant":
            row["message"]["model"] = "glm-4.7"
    sums, _ = read(
        write_log(tmp_path / "run.jsonl", rows), what=f"model, {SUMS}", group="GROUP BY 1"
    )
    assert sums == [("glm-4.7", len(made), *truth(made))]


def test_a_stream_that_was_cut_off_has_no_logged_end(tmp_path: Path) -> None:
    made = calls(CLAUDE, sessions=1)
    _, cleaned = read(write_log(tmp_path / "a.jsonl", stream(made, written=0.1)[:-1]))
    assert cleaned.unended == len(made)


def test_qwen_counts_cached_tokens_inside_the_prompt(tmp_path: Path) -> None:
    counts = {"input_tokens": 1000, "output_tokens": 50, "cache_read_input_tokens": 800}
    counts["total_tokens"] = 1050
    rows = [
        {"type": "system", "subtype": "init", "session_id": "s", "cwd": "/x", "model": "qwen3"},
        {
            "type": "assistant",
            "uuid": "a",
            "session_id": "s",
            "parent_tool_use_id": None,
            "message": {"id": "a", "role": "assistant", "model": "qwen3", "usage": counts},
        },
        result(usage=counts, uuid="r", turns=1),
    ]
    path = tmp_path / "qwen.json"
    path.write_text(json.dumps(rows))
    assert read(path)[0] == [("qwen3", 1, 1000, 800, None, 50, None)]


def test_a_result_of_cursor_has_its_own_names(tmp_path: Path) -> None:
    counts = {"inputTokens": 10, "outputTokens": 7, "cacheReadTokens": 900, "cacheWriteTokens": 40}
    named = {"type": "system", "subtype": "init", "session_id": "s", "cwd": "/x", "model": "gpt-5"}
    row = result(usage=counts, request_id="q")
    del row["num_turns"]
    path = write_log(tmp_path / "a.jsonl", [row])
    assert read(path)[0] == [(None, 0, 950, 900, 40, 7, None)]
    with billed([str(path)], BillOptions(host=None)) as (bill, _):
        assert next(show_bill(bill)) == "$0.00 for uncounted requests of agent-run"
        assert any("neither model nor dollars" in note for note in bill.notes)
    assert read(write_log(tmp_path / "a.jsonl", [named, row]))[0][0][0] == "gpt-5"
    del row["usage"]
    with read_logs([str(write_log(tmp_path / "a.jsonl", [row]))]) as logs:
        [skipped] = logs.skipped
    assert "prints no usage" in skipped.reason


def codex_run(thread: str, *totals: int) -> list[dict[str, Any]]:
    turns = [
        {
            "type": "turn.completed",
            "usage": {
                "input_tokens": 10 * total,
                "cached_input_tokens": 8 * total,
                "output_tokens": total,
                "reasoning_output_tokens": 0,
            },
        }
        for total in totals
    ]
    return [{"type": "thread.started", "thread_id": thread}, {"type": "turn.started"}, *turns]


def test_the_last_turn_of_a_thread_of_codex_states_its_sum(tmp_path: Path) -> None:
    """Codex 17539: the usage of a turn is that of its whole thread."""
    rows = [*codex_run("t1", 5, 9), *codex_run("t2", 3)]
    path = write_log(tmp_path / "a.jsonl", rows)
    assert read(path)[0] == [(None, 0, 30, 24, None, 3, None), (None, 0, 90, 72, None, 9, None)]
    later = write_log(tmp_path / "b.jsonl", codex_run("t1", 20))
    found, _ = read(path, later)
    assert [row[2] for row in found] == [30, 200]


def test_a_run_of_codex_beside_its_rollout_adds_nothing(tmp_path: Path) -> None:
    made = calls(("gpt-5",), sessions=1)
    run = codex_run(made[0].session, 0)
    run[-1]["usage"] = {
        "input_tokens": sum(call.input for call in made),
        "cached_input_tokens": sum(call.read for call in made),
        "output_tokens": sum(call.output for call in made),
    }
    files = write_log(tmp_path / "rollout.jsonl", WRITERS["codex"][0](made))
    [(count, *sums)], cleaned = read(files, write_log(tmp_path / "run.jsonl", run), what=SUMS)
    assert (count, *sums) == (len(made), *truth(made))
    assert cleaned.runs == Runs(held=1)


def step(message: str, at: int, *counts: int, **more: Any) -> dict[str, Any]:
    names = ("input", "output", "reasoning")
    tokens = dict(zip(names, counts, strict=False)) | {"cache": {"read": 50, "write": 5}}
    return {
        "type": "step_finish",
        "timestamp": 1767225600000 + at,
        "sessionID": "ses_1",
        "part": {
            "id": f"prt_{at}",
            "messageID": message,
            "type": "step-finish",
            "tokens": tokens,
            "cost": 0.25,
        }
        | more,
    }


def test_steps_of_opencode_are_calls(tmp_path: Path) -> None:
    start = step("msg_1", 0) | {"type": "step_start"}
    rows = [
        start,
        step("msg_1", 1, 10, 3, 2),
        step("msg_1", 2, 20, 4, 0),
        step("msg_2", 3, 1, 1, 0),
    ]
    path = write_log(tmp_path / "run.jsonl", rows)
    assert read(path)[0] == [
        (None, 1, 56, 50, 5, 1, 0.25),
        (None, 1, 65, 50, 5, 5, 0.25),
        (None, 1, 75, 50, 5, 4, 0.25),
    ]
    stored = {
        "id": "msg_2",
        "sessionID": "ses_1",
        "role": "assistant",
        "modelID": "claude-opus-4-5",
        "providerID": "anthropic",
        "time": {"created": 1767225600000},
        "cost": 0.25,
        "tokens": {"input": 1, "output": 1, "reasoning": 0, "cache": {"read": 50, "write": 5}},
    }
    both, cleaned = read(path, write_log(tmp_path / "messages.jsonl", [stored]))
    assert [row[0] for row in both if row[2] == 56] == ["claude-opus-4-5"]
    assert (len(both), cleaned.matched) == (3, 1)


def test_steps_that_print_zeros_have_no_counts(tmp_path: Path) -> None:
    """Opencode 15779."""
    row = step("msg_1", 1, 0, 0, 0)
    row["part"]["tokens"]["cache"] = {"read": 0, "write": 0}
    with read_logs([str(write_log(tmp_path / "a.jsonl", [row]))]) as logs:
        [skipped] = logs.skipped
    assert "prints no counts" in skipped.reason


GEMINI_TOKENS = {
    "input": 1000,
    "prompt": 5000,
    "candidates": 120,
    "total": 5150,
    "cached": 4000,
    "thoughts": 30,
    "tool": 0,
}


def test_a_run_of_gemini_is_one_row_a_model(tmp_path: Path) -> None:
    stats = {
        "models": {
            "gemini-2.5-pro": {
                "api": {"totalRequests": 3, "totalErrors": 0, "totalLatencyMs": 900},
                "tokens": GEMINI_TOKENS,
            }
        },
        "tools": {"totalCalls": 0},
        "files": {},
    }
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"session_id": "s", "response": "x", "stats": stats}, indent=2))
    assert read(path)[0] == [("gemini-2.5-pro", 3, 5000, 4000, None, 150, None)]
    flat = {"total_tokens": 5150, "input_tokens": 5000, "output_tokens": 120, "cached": 4000}
    more = {"input": 1000, "duration_ms": 900, "tool_calls": 0}
    for models in ({}, {"models": {"gemini-2.5-pro": flat}}):
        rows = [
            {
                "type": "init",
                "session_id": "s",
                "model": "gemini-2.5-pro",
                "timestamp": "2026-01-01T00:00:00Z",
            },
            {"type": "message", "role": "assistant", "content": "x"},
            {"type": "result", "status": "success", "stats": flat | more | models},
        ]
        stream_path = write_log(tmp_path / "run.jsonl", rows)
        assert read(stream_path)[0] == [("gemini-2.5-pro", 0, 5000, 4000, None, 150, None)]

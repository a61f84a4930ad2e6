"""Faults that other tools of this kind were reported for; docs/experiments/bill.md has the list."""

from pathlib import Path
from typing import Any

import pytest
from log_samples import write_log

from suffice.logs.clean import Cleaned
from suffice.logs.read import LogOptions, read_logs

AT = "2026-11-03T08:00:{:02d}.000Z"
COUNTS = "count(*), sum(input_tokens), sum(cache_read_tokens), sum(output_tokens)"


def read(
    path: Path, what: str = COUNTS, *, timezone: str = "UTC"
) -> tuple[tuple[Any, ...], Cleaned]:
    with read_logs([str(path)], LogOptions(timezone=timezone)) as logs:
        row = logs.store.execute(f"SELECT {what} FROM records").fetchone()
        return row, logs.cleaned


def message(name: str, second: int, *, session: str = "s1", **usage: Any) -> dict[str, Any]:
    """Write a line of Claude Code; `usage` may hold `stop_reason`."""
    stop = usage.pop("stop_reason", "end_turn")
    return {
        "type": "assistant",
        "timestamp": AT.format(second),
        "sessionId": session,
        "uuid": f"{session}-{second}",
        "parentUuid": None,
        "message": {
            "id": name,
            "model": "claude-opus-5",
            "stop_reason": stop,
            "usage": {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0} | usage,
        },
    }


def test_a_relay_that_answers_all_requests_under_one_id_loses_none(tmp_path: Path) -> None:
    """Ccusage 1635; each request is logged twice, the second time with its last count."""
    rows = [
        message(
            "relay", 10 * n + part, session=f"s{n % 2}", input_tokens=100 + n, output_tokens=out
        )
        for n in range(5)
        for part, out in enumerate((1, 50))
    ]
    (requests, prompt, _, output), _ = read(write_log(tmp_path / "a.jsonl", rows))
    assert (requests, prompt, output) == (5, 510, 250)


def test_copies_of_a_message_in_resumed_sessions_count_once(tmp_path: Path) -> None:
    """Ccusage 1762: the same message lies under several sessions, whose files copy each other."""
    rows = [
        message(f"m{n}", n, session=session, input_tokens=10 + n, output_tokens=5)
        for session in ("first", "second", "third", "fourth")
        for n in range(3)
    ]
    (requests, prompt, _, output), cleaned = read(write_log(tmp_path / "a.jsonl", rows))
    assert (requests, prompt, output, cleaned.repeated) == (3, 33, 15, 9)


def test_streams_without_a_logged_end_are_counted(tmp_path: Path) -> None:
    """Claude-code 22686 and 27361: some versions log what was written so far, and no more."""
    rows = [
        message("whole", 1, input_tokens=9, output_tokens=1, stop_reason=None),
        message("whole", 2, input_tokens=9, output_tokens=80, stop_reason="tool_use"),
        message("cut", 3, input_tokens=9, output_tokens=1, stop_reason=None),
    ]
    (requests, *_), cleaned = read(write_log(tmp_path / "a.jsonl", rows))
    assert (requests, cleaned.unended) == (2, 1)


def test_writes_for_an_hour_are_told_from_others_in_spend_logs(tmp_path: Path) -> None:
    """LiteLLM 42663: the whole write is counted, though its split covers a part of it."""
    usage = {
        "cache_read_input_tokens": 426_653,
        "cache_creation_input_tokens": 184_457,
        "prompt_tokens_details": {
            "cache_creation_token_details": {
                "ephemeral_5m_input_tokens": 31_490,
                "ephemeral_1h_input_tokens": 1_000,
            }
        },
    }
    row = {
        "request_id": "1",
        "startTime": "2026-09-23 10:00:00",
        "model": "claude-opus-5",
        "spend": 1.0,
        "prompt_tokens": 734_311,
        "completion_tokens": 5,
        "metadata": {"usage_object": usage},
    }
    path = write_log(tmp_path / "spend.jsonl", [row])
    counts, _ = read(path, "sum(input_tokens), sum(cache_write_tokens), sum(cache_write_1h_tokens)")
    assert counts == (734_311, 184_457, 1_000)


def span(name: str, above: str = "", **attributes: Any) -> dict[str, Any]:
    """Write a line with one span of a model's call; keys have `__` for a full stop."""
    values = {"gen_ai.request.model": "gpt-5"} | {
        f"gen_ai.{key.replace('__', '.')}": value for key, value in attributes.items()
    }
    one = {
        "traceId": "t" * 32,
        "spanId": name,
        "parentSpanId": above,
        "startTimeUnixNano": "1780000000000000000",
        "endTimeUnixNano": "1780000002000000000",
        "attributes": [
            {"key": k, "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}}
            for k, v in values.items()
        ],
    }
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [one]}]}]}


@pytest.mark.parametrize(
    ("read_key", "write_key"),
    [
        ("usage__cache_read__input_tokens", "usage__cache_creation__input_tokens"),
        ("usage__details__cache_read_tokens", "usage__details__cache_write_tokens"),
        ("usage__cache_read_input_tokens", "usage__cache_write_input_tokens"),
        ("usage__input_tokens__cached", "usage__input_tokens__cache_write"),
    ],
)
def test_cached_tokens_have_many_names_in_spans(
    read_key: str, write_key: str, tmp_path: Path
) -> None:
    """Langfuse 12306, openinference 2616, strands 776: the whole prompt, and parts of it."""
    counts: dict[str, Any] = {read_key: 128_955, write_key: 1_253}
    row = span("a", usage__input_tokens=130_213, usage__output_tokens=7, **counts)
    what = "sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens)"
    assert read(write_log(tmp_path / "a.jsonl", [row]), what)[0] == (130_213, 128_955, 1_253)


def test_a_traced_call_that_sums_up_those_below_it_is_not_added(tmp_path: Path) -> None:
    """Langfuse 16409 and 14808, dd-trace-py 18868: two tracers wrote down the same requests."""
    usage = {"usage__input_tokens": 14, "usage__output_tokens": 3}
    rows = [
        span("batch-1", "batch", operation__name="embeddings", **usage),
        span("batch-2", "batch", operation__name="embeddings", **usage),
        span("batch", operation__name="embeddings", usage__input_tokens=28, usage__output_tokens=6),
        span("client", "library", operation__name="chat", **usage),
        span("library", "step", operation__name="chat", **usage),
        span("step", "run", operation__name="agent_step", **usage),
        span("run", operation__name="invoke_agent", **usage),
        span("alone", operation__name="chat", **usage),
        span("judge", "alone", operation__name="chat", usage__input_tokens=900),
    ]
    (requests, prompt, _, _), cleaned = read(write_log(tmp_path / "a.jsonl", rows))
    assert (requests, prompt, cleaned.nested) == (5, 14 * 4 + 900, 2)


@pytest.mark.parametrize("form", ["langfuse", "phoenix"])
def test_nested_calls_of_observers_are_not_added(form: str, tmp_path: Path) -> None:
    """A library and its client are both traced, so one request has two observations."""
    rows = []
    for name, above in (("inner", "outer"), ("outer", None)):
        if form == "langfuse":
            rows.append(
                {
                    "id": name,
                    "traceId": "t",
                    "parentObservationId": above,
                    "type": "GENERATION",
                    "model": "gpt-5",
                    "startTime": AT.format(1),
                    "usageDetails": {"input": 40, "output": 2, "total": 42},
                }
            )
        else:
            rows.append(
                {
                    "context.span_id": name,
                    "parent_id": above,
                    "span_kind": "LLM",
                    "start_time": AT.format(1),
                    "attributes.llm.model_name": "gpt-5",
                    "attributes.llm.token_count.prompt": 40,
                    "attributes.llm.token_count.completion": 2,
                }
            )
    (requests, prompt, _, output), cleaned = read(write_log(tmp_path / "a.jsonl", rows))
    assert (requests, prompt, output, cleaned.nested) == (1, 40, 2, 1)


@pytest.mark.parametrize("timezone", ["UTC", "America/Los_Angeles", "Asia/Shanghai"])
def test_a_report_of_utc_days_is_held_against_requests_of_any_zone(
    timezone: str, tmp_path: Path
) -> None:
    """Codex 43650: a provider's day begins at midnight UTC, the user's at another hour."""
    usage = {"prompt_tokens": 100, "completion_tokens": 9}
    response = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_793_700_000,  # 3 November, 10:00 UTC
        "model": "gpt-5",
        "usage": usage,
    }
    result = {
        "object": "organization.usage.completions.result",
        "input_tokens": 100,
        "output_tokens": 9,
        "num_model_requests": 1,
        "model": "gpt-5",
    }
    bucket = {"object": "bucket", "start_time": 1_793_664_000, "results": [result]}
    write_log(tmp_path / "responses.jsonl", [response])
    write_log(tmp_path / "usage.jsonl", [{"object": "page", "data": [bucket]}])
    (requests, prompt, _, _), cleaned = read(tmp_path, timezone=timezone)
    assert (requests, prompt, cleaned.overlapping) == (1, 100, 1)


CODEX = {"input_tokens": 30, "cached_input_tokens": 20, "output_tokens": 4, "total_tokens": 34}


def codex(kind: str, second: int, **payload: Any) -> dict[str, Any]:
    return {"timestamp": AT.format(second), "type": kind, "payload": payload}


def counted(second: int, total: int) -> dict[str, Any]:
    info = {"total_token_usage": {"total_tokens": total}, "last_token_usage": CODEX}
    return codex("event_msg", second, type="token_count", info=info)


@pytest.mark.parametrize("events", [True, False])
def test_codex_writes_down_a_response_in_one_or_two_ways(events: bool, tmp_path: Path) -> None:
    """Codeburn 1380: records of usage beside the events, or in their place; never added up."""
    rows = [codex("session_meta", 0, id="s", cwd="/a"), codex("turn_context", 1, model="gpt-5")]
    for n in (1, 2):
        rows.append(codex("token_usage_record", 2 * n, response_id=f"r{n}", usage=CODEX))
        if events:
            rows.append(counted(2 * n + 1, 34 * n))
    counts, _ = read(write_log(tmp_path / "a.jsonl", rows))
    assert counts == (2, 60, 40, 8)


@pytest.mark.parametrize("ancestry", ["forked_from_id", "parent_thread_id"])
def test_a_sub_agent_that_replays_its_parent_adds_its_own_alone(
    ancestry: str, tmp_path: Path
) -> None:
    """Ccusage 950, Tokdash 23: the parent's counts come again under new times, before a model."""
    parent = [
        codex("session_meta", 0, id="parent", cwd="/a"),
        codex("turn_context", 1, model="gpt-5"),
        *(counted(n, 34 * n) for n in (2, 3)),
    ]
    child = [
        codex("session_meta", 30, id="child", cwd="/a", **{ancestry: "parent"}),
        *(counted(30 + n, 34 * n) for n in (2, 3)),
        codex("turn_context", 40, model="gpt-5-mini"),
        counted(41, 34 * 4),
    ]
    write_log(tmp_path / "parent.jsonl", parent)
    write_log(tmp_path / "child.jsonl", child)
    what = "count(*), count(*) FILTER (model = 'gpt-5'), count(*) FILTER (model = 'gpt-5-mini')"
    assert read(tmp_path, what)[0] == (3, 2, 1)


@pytest.mark.parametrize("form", ["claude-code", "api-responses"])
def test_advice_and_compaction_within_a_message_are_calls_of_their_own(
    form: str, tmp_path: Path
) -> None:
    def calls(tokens: int, **more: object) -> dict[str, object]:
        return {
            "input_tokens": tokens,
            "output_tokens": 10 * tokens,
            "cache_read_input_tokens": 100,
            "cache_creation_input_tokens": 7,
        } | more

    usage = calls(2) | {
        "iterations": [
            calls(1, type="message"),
            calls(5, type="advisor_message", model="claude-opus-4-7"),
            calls(3, type="compaction"),
            calls(1, type="message"),
        ]
    }
    message = {"id": "msg_1", "role": "assistant", "model": "claude-sonnet-4-6", "usage": usage}
    row = message | {"type": "message"}
    if form == "claude-code":
        row = {
            "type": "assistant",
            "uuid": "u",
            "sessionId": "s",
            "timestamp": AT.format(1),
            "costUSD": 0.5,
        }
        row["message"] = message
    path = write_log(tmp_path / "log.jsonl", [row, row])
    with read_logs([str(path)]) as logs:
        assert logs.formats == {form: 1}
        rows = logs.store.execute(
            "SELECT model, agent, input_tokens, cache_read_tokens, cache_write_tokens, "
            "output_tokens, stated_usd::DOUBLE FROM records ORDER BY id"
        ).fetchall()
    main, usd = ("main", 0.5) if form == "claude-code" else (None, None)
    assert rows == [
        ("claude-sonnet-4-6", main, 109, 100, 7, 20, usd),
        ("claude-opus-4-7", "advisor", 112, 100, 7, 50, None),
        ("claude-sonnet-4-6", "compaction", 110, 100, 7, 30, None),
    ]

"""Logs of more agents, clouds and observers give the true counts, dollars and sessions."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from export_samples import EXPORTS, opencode
from log_samples import CLAUDE, _attributes, calls, invoice, write_log

from suffice.bill.prices import find_price
from suffice.logs.read import read_logs

COLUMNS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)


def read(*paths: Path, columns: tuple[str, ...] = COLUMNS) -> list[tuple[Any, ...]]:
    with read_logs([str(path) for path in paths]) as logs:
        query = f"SELECT {', '.join(columns)} FROM records ORDER BY time, id"
        return [tuple(row) for row in logs.store.execute(query).fetchall()]


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", EXPORTS)
def test_every_export_gives_the_true_counts(name: str, tmp_path: Path) -> None:
    form, write, models, sessions = EXPORTS[name]
    made = calls(models, sessions=sessions)
    path = write_log(tmp_path / "log.jsonl", write(made))
    with read_logs([str(path)]) as logs:
        assert logs.formats == {form: 1}
        assert not logs.skipped
        sums = logs.store.execute(
            "SELECT count(*), sum(input_tokens), sum(cache_read_tokens), sum(output_tokens), "
            "sum(stated_usd)::DOUBLE, min(epoch(time)), count(DISTINCT session) FROM records"
        ).fetchone()
    assert sums[:4] == (
        len(made),
        sum(call.input for call in made),
        sum(call.read for call in made),
        sum(call.output for call in made),
    )
    assert sums[4] is None or sums[4] == pytest.approx(invoice(made))
    assert sums[5] == pytest.approx(made[0].at.timestamp(), abs=1)
    assert sums[6] in (0, sessions)


def test_a_session_of_opencode_is_the_same_in_its_files_its_export_and_its_database(
    tmp_path: Path,
) -> None:
    made = calls(CLAUDE, sessions=1)
    rows = opencode(made)
    files = [tmp_path / f"{n}.json" for n in range(len(rows))]
    for path, row in zip(files, rows, strict=True):
        path.write_text(json.dumps(row, indent=2))
    export = {"info": {"id": "s0"}, "messages": [{"info": row, "parts": []} for row in rows]}
    document = table(tmp_path / "export.json", json.dumps(export))
    base = tmp_path / "opencode.db"
    with sqlite3.connect(base) as connection:
        connection.execute("CREATE TABLE session (id)")
        connection.execute("CREATE TABLE message (id, session_id, time_created, data)")
        for row in rows:
            data = {k: v for k, v in row.items() if k not in ("id", "sessionID")}
            connection.execute(
                "INSERT INTO message VALUES (?, ?, 1, ?)",
                [row["id"], row["sessionID"], json.dumps(data)],
            )
    connection.close()
    alone = read(*files)
    assert len(alone) == len(made)
    assert read(document) == read(base) == read(*files, document, base) == alone


def test_the_other_files_of_opencode_are_no_requests(tmp_path: Path) -> None:
    rows = [
        {"id": "ses_1", "projectID": "p", "directory": "/a", "title": "t"},
        {"id": "prt_1", "sessionID": "ses_1", "messageID": "msg_1", "type": "text", "text": "x"},
        {"id": "msg_0", "sessionID": "ses_1", "role": "user", "time": {"created": 1}},
    ]
    paths = [tmp_path / f"{n}.json" for n in range(3)]
    for path, row in zip(paths, rows, strict=True):
        path.write_text(json.dumps(row))
    with read_logs([str(tmp_path)]) as logs:
        assert (logs.formats, logs.skipped) == ({"opencode": 3}, ())


def test_lines_of_a_gemini_cli_session_are_its_messages_with_their_last_counts(
    tmp_path: Path,
) -> None:
    tokens = {"input": 5000, "output": 120, "cached": 4000, "thoughts": 30, "tool": 0}
    message = {"id": "a", "timestamp": "2026-01-01T00:00:00Z", "type": "gemini", "model": "m"}
    rows = [
        {"sessionId": "s1", "projectHash": "x", "startTime": "2026-01-01T00:00:00Z"},
        message | {"tokens": tokens | {"output": 1, "total": 5031}},
        message | {"tokens": tokens | {"total": 5150}},
    ]
    path = write_log(tmp_path / "session.jsonl", rows)
    assert read(path, columns=("session", "input_tokens", "output_tokens")) == [("s1", 5000, 150)]


@pytest.mark.parametrize(("total", "output"), [(5150, 150), (5120, 120), (None, 150)])
def test_thoughts_are_beside_the_output_unless_the_total_says_otherwise(
    tmp_path: Path, total: int | None, output: int
) -> None:
    usage = {"promptTokenCount": 5000, "candidatesTokenCount": 120, "thoughtsTokenCount": 30}
    row = {"candidates": [], "usageMetadata": usage | {"totalTokenCount": total}}
    path = write_log(tmp_path / "g.json", [row])
    assert read(path, columns=("output_tokens", "reasoning_tokens")) == [(output, 30)]


def test_batches_of_gemini_have_their_tier(tmp_path: Path) -> None:
    usage = {"promptTokenCount": 50, "candidatesTokenCount": 12}
    rows = [{"key": f"k{n}", "response": {"usageMetadata": usage}} for n in range(2)]
    path = write_log(tmp_path / "b.jsonl", rows)
    assert read(path, columns=("tier", "input_tokens")) == [("batch", 50), ("batch", 50)]


def event(name: str, **attributes: Any) -> dict[str, Any]:
    return {
        "timeUnixNano": "0",
        "observedTimeUnixNano": "1767225600000000000",
        "body": {"stringValue": "words for people"},
        "attributes": _attributes({"event.name": name, "model": "m", **attributes}),
    }


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            event(
                "codex.sse_event",
                **{"event.kind": "response.completed", "conversation.id": "s"},
                input_token_count=1000,
                cached_token_count=800,
                output_token_count=60,
                reasoning_token_count=20,
            ),
            ("s", 1000, 800, 60, 20, None),
        ),
        (
            event(
                "gemini_cli.api_response",
                **{"session.id": "s"},
                input_token_count=5000,
                cached_content_token_count=4000,
                output_token_count=120,
                thoughts_token_count=30,
                total_token_count=5150,
            ),
            ("s", 5000, 4000, 150, 30, None),
        ),
        (
            event(
                "qwen-code.api_response",
                **{"session.id": "s"},
                input_token_count=5000,
                output_token_count=120,
                thoughts_token_count=30,
                total_token_count=5120,
            ),
            ("s", 5000, None, 120, 30, None),
        ),
        (
            event("api_error", **{"session.id": "s"}, status_code="529"),
            ("s", None, None, None, None, "529"),
        ),
    ],
)
def test_events_of_coding_agents_are_requests(
    tmp_path: Path, record: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    other = event("codex.sse_event", **{"event.kind": "response.output_item.done"})
    logs = [{"scopeLogs": [{"logRecords": [record, other]}]}]
    path = write_log(tmp_path / "e.jsonl", [{"resourceLogs": logs}])
    columns = ("session", "input_tokens", "cache_read_tokens", "output_tokens")
    columns += ("reasoning_tokens", "error")
    assert read(path, columns=columns) == [expected]


def test_an_event_and_the_span_of_one_call_are_one_request(tmp_path: Path) -> None:
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.cache_read.input_tokens": 80,
        "gen_ai.usage.output_tokens": 7,
    }
    span = {"traceId": "t", "spanId": "1", "attributes": _attributes(attributes)}
    span |= {"startTimeUnixNano": "1767225600000000000", "endTimeUnixNano": "1767225601000000000"}
    record = {
        "timeUnixNano": "1767225601000000000",
        "eventName": "gen_ai.client.inference.operation.details",
        "attributes": _attributes(attributes),
    }
    records = [record | {"traceId": "t", "spanId": n} for n in ("1", "2")]
    spans = [{"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}]
    events = [{"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}]
    paths = write_log(tmp_path / "s.jsonl", spans), write_log(tmp_path / "e.jsonl", events)
    columns = ("id", "input_tokens", "cache_read_tokens", "output_tokens")
    assert read(*paths, columns=columns) == [("t/1", 100, 80, 7), ("t/2", 100, 80, 7)]


OPENAI_USAGE = (
    "start_time,start_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,"
    "service_tier,input_tokens,output_tokens,input_cached_tokens\n"
    "1767225600,2026-01-01T00:00:00+00:00,p1,12,u1,k1,gpt-5-2025-08-07,True,,1000,50,400\n"
)
ANTHROPIC_USAGE = (
    "usage_date_utc,model_version,api_key,usage_type,usage_input_tokens_no_cache,"
    "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,"
    "usage_input_tokens_cache_read,usage_output_tokens\n"
    "2026-01-01,claude-sonnet-4-5-20250929,key,standard,10,200,100,1000,50\n"
)
LITELLM_DAILY = (
    "id,user_id,date,api_key,model,custom_llm_provider,prompt_tokens,completion_tokens,"
    "cache_read_input_tokens,cache_creation_input_tokens,spend,api_requests\n"
    "1,u,2026-01-01,k,claude-sonnet-4-5,anthropic,12100,500,10000,2000,0.123,10\n"
)


@pytest.mark.parametrize(
    ("text", "requests", "counts"),
    [
        (OPENAI_USAGE, 12, (1000, 400, None, None, 50, None)),
        (ANTHROPIC_USAGE, 0, (1310, 1000, 300, 100, 50, None)),
        (LITELLM_DAILY, 10, (12100, 10000, 2000, None, 500, None)),
    ],
)
def test_tables_of_days_count_their_requests_and_caches(
    tmp_path: Path, text: str, requests: int, counts: tuple[Any, ...]
) -> None:
    path = table(tmp_path / "usage.csv", text)
    assert read(path, columns=("requests", *COLUMNS)) == [(requests, *counts)]


def test_daily_spend_beside_the_requests_of_that_day_is_not_added(tmp_path: Path) -> None:
    day = table(tmp_path / "day.csv", LITELLM_DAILY)
    row = {
        "request_id": "r1",
        "call_type": "acompletion",
        "spend": 0.1,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "startTime": "2026-01-01T05:00:00Z",
        "model": "claude-sonnet-4-5",
    }
    path = write_log(tmp_path / "spend.jsonl", [row])
    assert read(day, path, columns=("input_tokens",)) == [(10,)]


@pytest.mark.parametrize(
    ("text", "usd"),
    [
        (
            "start_time,start_time_iso,amount_value,amount_currency,line_item,project_id\n"
            '1767225600,2026-01-01T00:00:00+00:00,1.5,usd,"gpt-5-2025-08-07, input",p1\n',
            1.5,
        ),
        (
            "usage_date_utc,model,api_key,usage_type,token_type,cost_usd\n"
            "2026-01-01,Claude Sonnet 4.5,key,message,input_no_cache,2.5\n",
            2.5,
        ),
    ],
)
def test_tables_of_costs_state_dollars_without_requests(
    tmp_path: Path, text: str, usd: float
) -> None:
    path = table(tmp_path / "cost.csv", text)
    assert read(path, columns=("requests", "stated_usd::DOUBLE")) == [(0, usd)]


def test_a_row_of_cursor_has_its_whole_prompt_and_dollars_only_if_it_was_billed(
    tmp_path: Path,
) -> None:
    path = table(
        tmp_path / "usage.csv",
        "Date,User,Kind,Model,Input (w/ Cache Write),Input (w/o Cache Write),Cache Read,"
        "Output Tokens,Total Tokens,Cost\n"
        "2026-01-01T00:00:00Z,a,On-Demand,claude-4.5-sonnet,200,10,1000,50,1260,$0.05\n"
        "2026-01-01T00:01:00Z,a,Included,auto,0,100,0,50,150,Included\n",
    )
    columns = ("model", "input_tokens", "cache_write_tokens", "stated_usd::DOUBLE")
    assert read(path, columns=columns) == [
        ("claude-4.5-sonnet", 1210, 200, 0.05),
        (None, 100, 0, None),
    ]


@pytest.mark.parametrize(
    ("row", "hit"),
    [
        (
            {
                "id": "1",
                "created_at": "2026-01-01T00:00:00Z",
                "provider": "anthropic",
                "model": "claude-sonnet-4-5",
                "tokens_in": 10,
                "tokens_out": 5,
                "cost": 0.1,
                "cached": False,
            },
            {"cached": True},
        ),
        (
            {
                "id": "1",
                "created_at": "2026-01-01T00:00:00Z",
                "ai_model": "claude-sonnet-4-5",
                "req_units": 10,
                "res_units": 5,
                "cache_status": "MISS",
            },
            {"cache_status": "SEMANTIC HIT"},
        ),
        (
            {
                "request_id": "1",
                "request_created_at": "2026-01-01T00:00:00Z",
                "response_status": 200,
                "model": "claude-sonnet-4-5",
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "cache_reference_id": "00000000-0000-0000-0000-000000000000",
            },
            {"cache_reference_id": "1b4e28ba-2fa1-11d2-883f-0016d3cca427"},
        ),
    ],
)
def test_what_a_gateways_own_cache_answers_is_no_request(
    tmp_path: Path, row: dict[str, Any], hit: dict[str, Any]
) -> None:
    identity = "request_id" if "request_id" in row else "id"
    path = write_log(tmp_path / "log.jsonl", [row, row | hit | {identity: "2"}])
    assert read(path, columns=("id", "input_tokens")) == [("1", 10)]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ('gpt-5,"1,234","12,345,678","$1,234.50"', (1234, 12345678, 1234.5)),
        ("gpt-5,1234,567,n/a", (1234, 567, None)),
        ("gpt-5,1234,567,€0.05", (1234, 567, None)),
        ("gpt-5;1.234;567;1.234,50", (1234, 567, 1234.5)),
        ("gpt-5;1234;567;0.05", (1234, 567, 0.05)),
    ],
)
def test_numbers_of_a_table_may_be_grouped(tmp_path: Path, text: str, row: tuple[Any, ...]) -> None:
    header = "model,Input Tokens,Output-Tokens,Cost (USD)"
    header = header.replace(",", ";") if ";" in text else header
    path = table(tmp_path / "t.csv", f"{header}\n{text}\n")
    columns = ("input_tokens", "output_tokens", "stated_usd::DOUBLE")
    assert read(path, columns=columns) == [row]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-01-01,gpt-5,1.2k,5", "a count that is no number"),
        ("Total,,1234,5", "a sum of other rows"),
        (",Grand Total:,1234,5", "a sum of other rows"),
    ],
)
def test_rows_of_a_table_that_are_no_requests_are_named(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = table(
        tmp_path / "t.csv",
        f"date,model,input_tokens,output_tokens\n2026-01-01,gpt-5,-,7\n{text}\n",
    )
    with read_logs([str(path)]) as logs:
        assert [(skip.reason, skip.rows) for skip in logs.skipped] == [(reason, 1)]
        assert logs.store.execute("SELECT output_tokens FROM records").fetchall() == [(7,)]


def test_counts_in_a_usage_of_rows_without_an_id_are_read(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 5}
    usage |= {"prompt_tokens_details": {"cached_tokens": 10}}
    row = {"timestamp": "2026-01-01T00:00:00Z", "model": "gpt-5", "usage": usage}
    path = write_log(tmp_path / "log.jsonl", [row, row])
    columns = ("epoch(time)::BIGINT", "input_tokens", "cache_read_tokens", "output_tokens")
    assert read(path, columns=columns) == [(1767225600, 12, 10, 5)] * 2


def test_a_file_that_is_read_but_holds_no_request_is_named(tmp_path: Path) -> None:
    path = table(tmp_path / "log.csv", "model,input_tokens,output_tokens\n,,\n")
    with read_logs([str(path)]) as logs:
        assert [skip.reason for skip in logs.skipped] == ["read as plain, but no request is in it"]


@pytest.mark.parametrize(
    ("model", "provider", "usd"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws", "3.3"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock", "3.3"),
        ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", None, "3.3"),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws.bedrock", "3"),
        ("anthropic/claude-4.5-sonnet-20250929", "Anthropic", "3"),
        ("claude-4.5-opus-high-thinking", None, "5"),
        ("Claude Sonnet 4.5", "anthropic", "3"),
        ("gpt-5 (high)", None, "1.25"),
    ],
)
def test_a_model_is_priced_under_the_names_of_clouds_and_agents(
    model: str, provider: str | None, usd: str
) -> None:
    price = find_price(model, provider, {})
    assert price is not None
    assert str(price.rates[0].input_usd_per_mtok) == usd

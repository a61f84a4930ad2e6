"""Every log format gives the same records, packed or not, and bad input is named and counted."""

import csv
import gzip
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard
from log_samples import (
    CLAUDE,
    OPENAI,
    WRITERS,
    Call,
    calls,
    invoice,
    openai_batch,
    stamp,
    write_log,
)
from msgspec.structs import replace

from suffice.errors import InputError
from suffice.logs.plain_format import parse_columns
from suffice.logs.read import DEFAULTS, LogOptions, read_logs
from suffice.logs.record import Skipped
from suffice.logs.store import open_store

TRUE = "count(*), sum(input_tokens), sum(cache_read_tokens), sum(output_tokens)"


def totals(*names: object, options: LogOptions = DEFAULTS) -> tuple[Any, ...]:
    with read_logs([str(name) for name in names], options) as logs:
        row = logs.store.execute(f"SELECT {TRUE} FROM records").fetchone()
        return tuple(int(value or 0) for value in row)


def skipped(*names: object) -> tuple[Skipped, ...]:
    with read_logs([str(name) for name in names]) as logs:
        return logs.skipped


def truth(made: Sequence[Call]) -> tuple[int, int, int, int]:
    return (
        len(made),
        sum(call.input for call in made),
        sum(call.read for call in made),
        sum(call.output for call in made),
    )


def sample(name: str) -> list[Call]:
    return calls(WRITERS[name][1], sessions=1 if name == "codex" else 4)


def write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, {name: None for row in rows for name in row})
        writer.writeheader()
        writer.writerows(
            {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
            for row in rows
        )
    return path


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_true_counts(name: str, tmp_path: Path) -> None:
    made = sample(name)
    rows = WRITERS[name][0](made)
    path = write_log(tmp_path / "log.jsonl", rows)
    with read_logs([str(path)]) as logs:
        assert logs.formats == {name: 1}
        assert not logs.skipped
        sums = logs.store.execute(f"SELECT {TRUE} FROM records").fetchone()
        stated = logs.store.execute("SELECT sum(stated_usd) FROM records").fetchone()[0]
        reasoning = logs.store.execute("SELECT sum(reasoning_tokens) FROM records").fetchone()[0]
        first, undated = logs.store.execute(
            "SELECT min(time), count(*) FILTER (time IS NULL) FROM records"
        ).fetchone()
    assert sums == truth(made)
    assert first.timestamp() == pytest.approx(made[0].at.timestamp(), abs=1)
    assert not undated
    assert stated is None or float(stated) == pytest.approx(invoice(made))
    assert reasoning in (None, sum(call.reasoning for call in made))


@pytest.mark.parametrize("name", ["claude-code", "codex", "litellm", "otlp", "plain"])
def test_packing_and_layout_change_nothing(name: str, tmp_path: Path) -> None:
    made = sample(name)
    rows = WRITERS[name][0](made)
    plain = write_log(tmp_path / "log.jsonl", rows).read_bytes()
    assert totals(write_log(tmp_path / "log.jsonl.gz", rows)) == truth(made)
    packed = tmp_path / "log.jsonl.zst"
    packed.write_bytes(zstandard.compress(plain))
    assert totals(packed) == truth(made)
    array = tmp_path / "array.json"
    array.write_text(json.dumps(rows, indent=1))
    assert totals(array) == truth(made)


@pytest.mark.parametrize("name", ["openai-usage", "anthropic-usage", "otlp"])
def test_a_document_over_many_lines_is_read(name: str, tmp_path: Path) -> None:
    made = sample(name)
    path = tmp_path / "page.json"
    path.write_text("\n".join(json.dumps(row, indent=2) for row in WRITERS[name][0](made)))
    assert totals(path) == truth(made)


@pytest.mark.parametrize("name", ["litellm", "helicone", "langfuse", "phoenix", "plain"])
def test_tables_are_read_by_the_names_of_their_columns(name: str, tmp_path: Path) -> None:
    made = sample(name)
    path = write_csv(tmp_path / "log.csv", WRITERS[name][0](made))
    with read_logs([str(path)]) as logs:
        assert logs.formats == {name: 1}
        assert logs.store.execute(f"SELECT {TRUE} FROM records").fetchone() == truth(made)
        assert logs.store.execute("SELECT min(key) FROM records").fetchone()[0] in ("alice", None)


def test_a_long_document_is_known_by_its_first_rows(tmp_path: Path) -> None:
    """Pretty-printed pages of more than a megabyte, packed and not."""
    made = sample("api-responses")
    rows = WRITERS["api-responses"][0](made)
    text = json.dumps({"note": 'a, [b {"', "data": rows * (1_500_000 // len(str(rows)))}, indent=1)
    plain, packed = tmp_path / "pages.json", tmp_path / "pages.json.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode(), 1))
    assert len(text) > 1 << 20
    for path in (plain, packed):
        assert totals(path) == truth(made)


def test_reading_fits_into_the_memory_of_the_database_on_any_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads have buffers each: no more of them than fit, and one where even those do not."""
    made = sample("api-responses")
    path = write_log(tmp_path / "log.jsonl", WRITERS["api-responses"][0](made))
    threads: list[int] = []

    class Short:
        def __init__(self, store: duckdb.DuckDBPyConnection) -> None:
            self.store = store

        def execute(self, sql: str, *arguments: Any) -> Any:
            if sql.startswith("INSERT INTO records"):
                row = self.store.execute("SELECT current_setting('threads')").fetchone()
                threads.append(int(row[0]))
                if threads[-1] > 1:
                    raise duckdb.OutOfMemoryException("no room for another buffer")
            return self.store.execute(sql, *arguments)

    @contextmanager
    def short_store(**options: Any) -> Iterator[Short]:
        with open_store(**options) as store:
            yield Short(store)

    monkeypatch.setattr("suffice.logs.read.open_store", short_store)
    assert totals(path) == truth(made)
    assert threads == [2, 1]


def test_a_folder_of_mixed_formats_is_read_and_what_is_no_log_is_named(tmp_path: Path) -> None:
    expected = [0, 0, 0, 0]
    for number, name in enumerate(("claude-code", "codex", "plain", "phoenix")):
        made = calls(WRITERS[name][1], sessions=1, seed=number)
        made = [replace_id(call, f"{name}-{call.id}") for call in made]
        (tmp_path / name).mkdir()
        write_log(tmp_path / name / "log.jsonl", WRITERS[name][0](made))
        expected = [a + b for a, b in zip(expected, truth(made), strict=True)]
    (tmp_path / "settings.json").write_text('{"theme": "dark"}')
    (tmp_path / "notes.txt").write_text("nothing to see")
    (tmp_path / "empty.jsonl").touch()
    assert list(totals(tmp_path)) == expected
    reasons = {Path(one.path).name: one.reason for one in skipped(tmp_path)}
    assert reasons.keys() == {"settings.json", "notes.txt", "empty.jsonl"}
    assert totals(tmp_path / "**" / "log.jsonl") == tuple(expected)


def replace_id(call: Call, name: str) -> Call:
    return replace(call, id=name)


def test_a_file_that_is_cut_off_is_read_up_to_there(tmp_path: Path) -> None:
    made = calls(sessions=300)
    whole = write_log(tmp_path / "whole.jsonl.gz", WRITERS["plain"][0](made)).read_bytes()
    for name, data in {
        "cut.jsonl.gz": whole[: len(whole) // 2],
        "cut.jsonl.zst": zstandard.compress(gzip.decompress(whole))[: len(whole) // 2],
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        rows, *_ = totals(path)
        assert 0.2 * len(made) < rows < 0.9 * len(made), name
        assert any("cut off" in one.reason or one.reason == "no JSON" for one in skipped(path))


def test_lines_that_are_no_json_are_counted_by_file(tmp_path: Path) -> None:
    for name in ("plain", "otlp", "claude-code"):
        made = sample(name)
        path = write_log(tmp_path / f"{name}.jsonl", WRITERS[name][0](made))
        with path.open("a") as file:
            file.write('not json\n{"cut": "of')
        assert totals(path) == truth(made)
        assert skipped(path) == (Skipped(path=str(path), reason="no JSON", rows=2),)


def test_the_same_requests_in_two_exports_are_counted_once(tmp_path: Path) -> None:
    made = calls()
    for name in ("litellm", "langfuse", "helicone", "plain"):
        write_log(tmp_path / f"{name}.jsonl", WRITERS[name][0](made))
    one, two = tmp_path / "litellm.jsonl", tmp_path / "langfuse.jsonl"
    assert totals(one, two, tmp_path / "helicone.jsonl") == truth(made)
    again = write_log(tmp_path / "again.jsonl", WRITERS["plain"][0](made)[::-1])
    assert totals(tmp_path / "plain.jsonl", again) == truth(made)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(again.read_bytes())
    assert totals(again, copy) == truth(made)
    assert [s.path for s in skipped(again, copy)] == [str(copy)]


def test_equal_rows_of_one_file_are_different_requests(tmp_path: Path) -> None:
    row = {
        "timestamp": "2026-03-01T00:00:00Z",
        "model": "gpt-5",
        "input_tokens": 5,
        "output_tokens": 7,
    }
    path = write_log(tmp_path / "a.jsonl", [row, row, {**row, "model": "gpt-5-mini"}])
    assert totals(path)[0] == 3


def test_a_fork_that_repeats_its_parents_usage_adds_its_own_alone(tmp_path: Path) -> None:
    """Codex copies a parent's counts into a fork under new times (ccusage 1288 and 1370)."""

    def line(at: int, kind: str, **payload: Any) -> dict[str, Any]:
        return {"timestamp": f"2026-05-01T10:{at:02}:00Z", "type": kind, "payload": payload}

    def used(at: int, total: int, last: int) -> dict[str, Any]:
        info = {
            "total_token_usage": {"input_tokens": total, "total_tokens": total},
            "last_token_usage": {"input_tokens": last, "output_tokens": 10, "total_tokens": last},
        }
        return line(at, "event_msg", type="token_count", info=info)

    def write(name: str, *rows: dict[str, Any]) -> Path:
        return write_log(tmp_path / f"{name}.jsonl", rows)

    def meta(at: int, name: str, **more: str) -> dict[str, Any]:
        return line(at, "session_meta", id=name, cwd="/x", originator="cli", **more)

    context = line(1, "turn_context", model="gpt-5", cwd="/x")
    parent = write("p", meta(0, "p"), context, used(2, 1000, 1000), used(3, 1000, 1000))
    fork = (meta(30, "f", forked_from_id="p"), meta(30, "p"), context, used(30, 1000, 1000))
    forked = write("f", *fork, used(31, 4000, 3000))
    agent = write(
        "a", meta(40, "a", forked_from_id="p"), meta(40, "p"), context, used(41, 700, 700)
    )
    assert totals(parent) == (1, 1000, 0, 10)
    assert totals(parent, forked) == (2, 4000, 0, 20)
    assert totals(parent, forked, agent) == (3, 4700, 0, 30)
    with read_logs([str(parent), str(forked)]) as logs:
        rows = logs.store.execute("SELECT session, minute(time) FROM records ORDER BY time")
        assert rows.fetchall() == [("p", 2), ("f", 31)]


@pytest.mark.parametrize(
    ("prompt", "read", "write", "whole"),
    [
        (31406, 30940, 460, 31406),  # all inside
        (30946, 30940, 460, 31406),  # reads inside, writes beside (LiteLLM 11364)
        (6, 30940, 460, 31406),  # both beside
        (31, 0, 1253, 1284),
    ],
)
def test_cached_tokens_are_a_part_of_the_prompt_or_beside_it(
    prompt: int, read: int, write: int, whole: int, tmp_path: Path
) -> None:
    usage = {"cache_read_input_tokens": read, "cache_creation_input_tokens": write}
    row = {
        "request_id": "1",
        "startTime": "2026-05-01 10:00:00",
        "model": "claude-opus-4-5",
        "spend": 0.1,
        "prompt_tokens": prompt,
        "completion_tokens": 5,
        "total_tokens": 9,
        "metadata": {"usage_object": usage},
    }
    assert totals(write_log(tmp_path / "spend.jsonl", [row])) == (1, whole, read, 5)


@pytest.mark.parametrize("plain", [17903, 86])
def test_cached_tokens_beside_a_whole_prompt_are_not_added_to_it(
    plain: int, tmp_path: Path
) -> None:
    """Clients of Langfuse send `input` with the cached tokens in it, or without (10592)."""
    row = {
        "id": "o",
        "traceId": "t",
        "type": "GENERATION",
        "model": "gpt-5",
        "startTime": "2026-05-01T10:00:00Z",
        "usageDetails": {
            "input": plain,
            "input_cached_tokens": 17817,
            "output": 100,
            "output_reasoning_tokens": 40,
            "total": 18003,
        },
    }
    if plain == 86:
        row["usageDetails"] |= {"output": 60}
    assert totals(write_log(tmp_path / "log.jsonl", [row])) == (1, 17903, 17817, 100)


def test_a_usage_report_beside_its_requests_is_not_added(tmp_path: Path) -> None:
    made = calls(OPENAI)
    requests = write_log(tmp_path / "a.jsonl", WRITERS["plain"][0](made))
    report = write_log(tmp_path / "b.jsonl", WRITERS["openai-usage"][0](made))
    assert totals(requests, report) == truth(made)
    with read_logs([str(requests), str(report)]) as logs:
        assert logs.cleaned.overlapping == len(made)


def test_impossible_counts_are_named_and_left_out(tmp_path: Path) -> None:
    good = {
        "timestamp": "2026-03-01 10:00:00",
        "model": "gpt-5",
        "input_tokens": 10,
        "output_tokens": 5,
        "cost_usd": 0.5,
    }
    rows = [
        good,
        good | {"input_tokens": -3},
        good | {"output_tokens": 10**12},
        good | {"cost_usd": 10**9},
        good | {"cache_read_tokens": 8, "cache_write_tokens": 1},
        good | {"currency": "EUR"},
        good | {"reasoning_tokens": 9},
        good | {"timestamp": None},
        good | {"timestamp": "yesterday"},
    ]
    path = write_log(tmp_path / "a.jsonl", rows)
    with read_logs([str(path)]) as logs:
        assert {(s.reason, s.rows) for s in logs.skipped} == {
            ("a negative count", 1),
            ("an absurd count", 2),
        }
        assert logs.cleaned.foreign == {"EUR": 1}
        assert (logs.cleaned.added, logs.cleaned.undated) == (1, 2)
        assert logs.cleaned.zoneless == 4
        stated, output = logs.store.execute(
            "SELECT sum(stated_usd), max(output_tokens) FROM records"
        ).fetchone()
    assert float(stated) == 2.5
    assert output == 14


def test_times_without_a_zone_are_read_in_the_one_that_is_named(tmp_path: Path) -> None:
    row = {"timestamp": "2026-07-01 01:30:00", "model": "gpt-5", "input_tokens": 1}
    path = write_log(tmp_path / "a.jsonl", [row])
    for zone, moment in {"UTC": "2026-07-01T01:30", "Europe/Berlin": "2026-06-30T23:30"}.items():
        with read_logs([str(path)], LogOptions(timezone=zone)) as logs:
            at = logs.store.execute("SELECT time FROM records").fetchone()[0]
            assert f"{at.astimezone(UTC):%Y-%m-%dT%H:%M}" == moment
    with (
        pytest.raises(InputError, match="no time zone"),
        read_logs([str(path)], LogOptions(timezone="Moon/Base")),
    ):
        pass


def test_columns_of_any_name_can_be_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [{"wann": "2026-03-01", "rein": 7, "raus": 9}])
    with read_logs([str(path)]) as logs:
        assert "--column" in logs.skipped[0].reason
    mapping = parse_columns(["input_tokens=rein", "output_tokens=raus", "time=wann"])
    assert totals(path, options=LogOptions(columns=mapping)) == (1, 7, 0, 9)
    for wrong in ("input_tokens", "inputs=rein"):
        with pytest.raises(InputError):
            parse_columns([wrong])


@pytest.mark.parametrize("name", ["helicone", "langfuse", "phoenix", "plain", "api-responses"])
def test_pages_of_an_interface_are_unwrapped(name: str, tmp_path: Path) -> None:
    made = sample(name)
    rows = WRITERS[name][0](made)
    pages = [{"data": rows[:10], "meta": {"cursor": "x"}}, {"data": rows[10:], "meta": {}}]
    path = write_log(tmp_path / "pages.json", pages)
    with read_logs([str(path)]) as logs:
        assert logs.formats == {name: 1}
        assert logs.store.execute("SELECT count(*) FROM records").fetchone() == (len(made),)


@pytest.mark.parametrize("name", ["phoenix", "plain"])
def test_parquet_is_a_table_too(name: str, tmp_path: Path) -> None:
    made = sample(name)
    table = write_csv(tmp_path / "table.csv", WRITERS[name][0](made))
    path = tmp_path / "table.parquet"
    duckdb.sql(f"COPY (FROM read_csv('{table}')) TO '{path}' (FORMAT parquet)")
    assert totals(path) == truth(made)
    path.write_bytes(path.read_bytes()[:400])
    assert "Parquet" in skipped(path)[0].reason


def test_a_path_may_hold_any_letters(tmp_path: Path) -> None:
    made = sample("plain")
    folder = tmp_path / "it's [a] *strange* folder?"
    folder.mkdir()
    assert totals(write_log(folder / "a.jsonl", WRITERS["plain"][0](made))) == truth(made)


def test_a_name_without_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("none.jsonl", "none-*.jsonl", "folder"):
        with pytest.raises(InputError) as caught, read_logs([str(tmp_path / name)]):
            pass
        assert caught.value.hint


# -- what is no JSON -----------------------------------------------------------------------------

ASKED = "INFO 11-02 {}:00 [logger.py:39] Received request chatcmpl-{}: prompt: 'Hi', "
IDS = "params: SamplingParams(n=1), prompt_token_ids: {}, lora_request: None.\n"
TOLD = "INFO 11-02 {} [logger.py:60] Generated response chatcmpl-{}: output: 'It', "
VLLM = "".join(
    [
        ASKED.format("10:00", 1) + IDS.format([1, 2, 3]),
        TOLD.format("10:00:04", 1) + "output_token_ids: [7, 8], finish_reason: stop\n",
        "INFO 11-02 10:00:05 [loggers.py:118] Engine 000: Avg prompt throughput: 1.9 tokens/s\n",
        ASKED.format("10:01", 2) + IDS.format([1, 2, 3, 4]),
        TOLD.format("10:01:01", "2 (streaming complete)")
        + "output_token_ids: [9], finish_reason: stop\n",
    ]
)
LLAMA = """main: server is listening on http://127.0.0.1:8080
slot launch_slot_: id  0 | task 0 | processing task
prompt eval time =     123.45 ms /    20 tokens (6 ms per token)
       eval time =    1234.56 ms /   100 tokens (12 ms per token)
      total time =    1358.01 ms /   120 tokens
slot launch_slot_: id  0 | task 101 | processing task
prompt eval time =      23.45 ms /     5 tokens (6 ms per token)
       eval time =     234.56 ms /    10 tokens (12 ms per token)
      total time =     258.01 ms /    15 tokens
"""


def test_logs_of_servers_are_read_line_by_line(tmp_path: Path) -> None:
    vllm, llama = tmp_path / "vllm.log", tmp_path / "llama.log"
    vllm.write_text(VLLM)
    llama.write_text(LLAMA)
    assert totals(vllm) == (2, 7, 0, 3)
    assert totals(llama) == (2, 25, 0, 110)
    with read_logs([str(vllm), str(llama)]) as logs:
        assert logs.formats == {"vllm": 1, "llama.cpp": 1}
        seconds = logs.store.execute("SELECT max(latency_s) FROM records").fetchone()[0]
    assert seconds == 4


def test_otlp_in_protobuf_is_read(tmp_path: Path) -> None:
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    made = sample("otlp")
    messages = [
        ParseDict(
            {
                "resourceSpans": [
                    {
                        "resource": part["resource"],
                        "scopeSpans": [
                            {
                                "spans": [
                                    {
                                        k: v
                                        for k, v in span.items()
                                        if k not in ("traceId", "spanId")
                                    }
                                    for span in scope["spans"]
                                ]
                            }
                            for scope in part["scopeSpans"]
                        ],
                    }
                    for part in row["resourceSpans"]
                ]
            },
            TracesData(),
        ).SerializeToString()
        for row in WRITERS["otlp"][0](made)
    ]
    path = tmp_path / "spans.pb"
    path.write_bytes(b"".join(len(m).to_bytes(4, "big") + m for m in messages))
    assert totals(path) == truth(made)
    path.write_bytes(b"".join(messages))  # messages one after the other are one message
    assert totals(path) == truth(made)


def test_events_of_claude_codes_exporter_are_requests(tmp_path: Path) -> None:
    made = calls(CLAUDE, sessions=2)
    from log_samples import _attributes

    records = [
        {
            "timeUnixNano": str(int(c.at.timestamp() * 1e9)),
            "body": {"stringValue": "claude_code.api_request"},
            "attributes": _attributes(
                {
                    "session.id": c.session,
                    "model": c.model,
                    "cost_usd": str(c.usd),
                    "input_tokens": c.input - c.read - c.write,
                    "cache_read_tokens": c.read,
                    "cache_creation_tokens": c.write,
                    "output_tokens": c.output,
                }
            ),
        }
        for c in made
    ]
    path = write_log(
        tmp_path / "logs.jsonl", [{"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}]
    )
    assert totals(path) == truth(made)


def test_our_ledger_and_the_table_of_litellm_are_read(tmp_path: Path) -> None:
    made = calls()
    path = tmp_path / "litellm.db"
    rows = WRITERS["litellm"][0](made)
    with sqlite3.connect(path) as base:
        base.execute(
            f'CREATE TABLE "LiteLLM_SpendLogs" ({", ".join(rows[0])})'.replace(
                ", user,", ', "user",'
            )
        )
        base.executemany(
            f'INSERT INTO "LiteLLM_SpendLogs" VALUES ({", ".join("?" * len(rows[0]))})',
            [
                [json.dumps(v) if isinstance(v, dict | list) else v for v in row.values()]
                for row in rows
            ],
        )
    base.close()
    assert totals(path) == truth(made)
    assert totals(f"sqlite:///{path}") == truth(made)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as base:
        base.execute("CREATE TABLE another (x)")
    base.close()
    with pytest.raises(InputError, match="no log"):
        totals(other)


def test_a_cost_report_states_dollars_without_requests(tmp_path: Path) -> None:
    page = {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": 1767225600,
                "results": [
                    {
                        "object": "organization.costs.result",
                        "line_item": "gpt-5, input",
                        "amount": {"value": 3.5, "currency": "usd"},
                    }
                ],
            }
        ],
    }
    report = {
        "data": [
            {
                "starting_at": stamp(calls()[0].at),
                "results": [{"amount": "250.5", "currency": "USD", "model": "claude-opus-4-5"}],
            }
        ]
    }
    one, two = write_log(tmp_path / "a.json", [page]), write_log(tmp_path / "b.json", [report])
    with read_logs([str(one), str(two)]) as logs:
        rows = logs.store.execute(
            "SELECT model, stated_usd::DOUBLE, requests FROM records ORDER BY 1"
        ).fetchall()
    assert rows == [("claude-opus-4-5", 2.505, 0.0), ("gpt-5", 3.5, 0.0)]


def test_the_table_of_formats_is_current() -> None:
    from tools.docs import DOCS, renew

    assert not renew(DOCS / "logs.md", check=True), "run: python -m tools.docs"


def test_traces_of_agents_are_read_with_their_shared_prefixes(tmp_path: Path) -> None:
    row = {
        "trace": "a",
        "agent": "main",
        "i": 0,
        "t": 0.0,
        "model": "claude-opus-4-5",
        "inp": 6500,
        "out": 9,
        "hit_blocks": 0,
        "blocks": 101,
        "think": 0.0,
        "api": "None",
        "stop": "tool_use",
    }
    later = row | {"i": 1, "t": 19.0, "inp": 7000, "hit_blocks": 101, "think": 400.0, "api": 3.5}
    path = write_csv(tmp_path / "trace.csv", [row, later])
    with read_logs([str(path)]) as logs:
        rows = logs.store.execute(
            "SELECT session, input_tokens, prefix_tokens, pause_s, latency_s, requests "
            "FROM records ORDER BY input_tokens"
        ).fetchall()
    assert rows == [("a", 6500, 0, 0, None, 1), ("a", 7000, 64 * 101, 400, 3.5, 1)]


@pytest.mark.parametrize(
    ("usd", "kept"), [(-1e30, 11), (1e30, 11), (1e308, 11), ("NaN", 12), ("-inf", 11), ("x", 12)]
)
def test_one_impossible_cost_does_not_make_a_log_unreadable(
    tmp_path: Path, usd: object, kept: int
) -> None:
    rows = WRITERS["litellm"][0](calls(sessions=3, steps=4))
    rows[5]["spend"] = usd
    with read_logs([str(write_log(tmp_path / "a.jsonl", rows))]) as logs:
        assert logs.store.execute("SELECT count(*) FROM records").fetchone() == (kept,)
        assert logs.store.execute("SELECT max(abs(stated_usd)) < 1 FROM records").fetchone() == (
            True,
        )


@pytest.mark.parametrize(
    ("form", "path", "odd"),
    [
        ("otlp", ("resourceSpans", 0, "scopeSpans", 0, "spans", 1, "startTimeUnixNano"), {}),
        ("openai-batch", ("response", "status_code"), 1e300),
        ("helicone", ("response_status",), 1e300),
        ("codex", ("payload", "info", "total_token_usage", "input_tokens"), 1e300),
    ],
)
def test_one_impossible_number_does_not_make_a_log_unreadable(
    tmp_path: Path, form: str, path: tuple[str | int, ...], odd: object
) -> None:
    writer = openai_batch if form == "openai-batch" else WRITERS[form][0]
    made = calls(("gpt-5", "gpt-5-mini"), sessions=3, steps=4)
    rows = writer(made)
    row = next(row for row in rows[len(rows) // 2 :] if _holds(row, path))
    for step in path[:-1]:
        row = row[step]
    row[path[-1]] = odd
    with read_logs([str(write_log(tmp_path / "a.jsonl", rows))]) as logs:
        (kept,) = logs.store.execute("SELECT count(*) FROM records").fetchone()
        assert kept >= len(made) - 1


def _holds(row: Any, path: tuple[str | int, ...]) -> bool:
    for step in path:
        try:
            row = row[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True

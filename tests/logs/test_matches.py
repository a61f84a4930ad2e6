"""Calls that logs of two formats hold are counted once, and where nobody can tell it is said."""

from pathlib import Path
from typing import Any

import pytest
from export_samples import opencode
from log_samples import CLAUDE, WRITERS, Call, _attributes, calls, write_log

from suffice.bill.make import BillOptions, billed
from suffice.logs.clean import Cleaned
from suffice.logs.matches import Doubt
from suffice.logs.read import read_logs

SUMS = (
    "count(*), sum(input_tokens)::BIGINT, sum(cache_read_tokens)::BIGINT, "
    "sum(output_tokens)::BIGINT"
)


def read(*paths: Path, what: str = SUMS) -> tuple[tuple[Any, ...], Cleaned]:
    with read_logs([str(path) for path in paths]) as logs:
        return logs.store.execute(f"SELECT {what} FROM records").fetchone(), logs.cleaned


def truth(made: list[Call]) -> tuple[int, ...]:
    return (
        len(made),
        sum(call.input for call in made),
        sum(call.read for call in made),
        sum(call.output for call in made),
    )


def claude_event(call: Call, **attributes: Any) -> dict[str, Any]:
    """Write what Claude Code's exporter sends at the end of a request; None leaves one out."""
    values = {
        "event.name": "api_request",
        "session.id": call.session,
        "model": call.model,
        "cost_usd": str(call.usd),
        "input_tokens": call.input - call.read - call.write,
        "cache_read_tokens": call.read,
        "cache_creation_tokens": call.write,
        "output_tokens": call.output,
        "duration_ms": 2000,
        "request_id": f"req_{call.id}",
    } | attributes
    return {
        "timeUnixNano": str(int(call.end.timestamp() * 1e9)),
        "body": {"stringValue": "claude_code.api_request"},
        "attributes": _attributes({k: v for k, v in values.items() if v is not None}),
    }


def write_events(path: Path, records: list[dict[str, Any]]) -> Path:
    return write_log(path, [{"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}])


@pytest.mark.parametrize("named", [True, False])
def test_session_files_and_events_of_claude_code_hold_the_same_calls(
    named: bool, tmp_path: Path
) -> None:
    """With request ids, or by session, model and prompt: exporters before 2026 name no request."""
    made = calls(CLAUDE, sessions=3)
    rows = WRITERS["claude-code"][0](made)
    for row in rows:  # written while the answers streamed, as some versions leave it
        if row["type"] == "assistant":
            row["message"]["usage"]["output_tokens"] = 1
            row["message"]["usage"]["cache_creation"]["ephemeral_1h_input_tokens"] = 3
            row["message"]["stop_reason"] = None
    more = {} if named else {"request_id": None}
    files = write_log(tmp_path / "s.jsonl", rows)
    events = write_events(tmp_path / "e.jsonl", [claude_event(call, **more) for call in made])
    found, cleaned = read(files, events)
    assert found == truth(made)
    assert (cleaned.matched, cleaned.doubts, cleaned.unended) == (len(made), (), 0)
    both = "sum(stated_usd)::DOUBLE, sum(cache_write_1h_tokens), count(tags), count(agent)"
    usd, hour, tags, agents = read(files, events, what=both)[0]
    assert usd == pytest.approx(sum(call.usd for call in made))
    assert (hour, tags, agents) == (
        sum(min(3, call.write) for call in made),
        len(made),
        len(made),
    )


def test_calls_that_only_the_events_have_are_added(tmp_path: Path) -> None:
    """Titles and checks of a small model are in no session file."""
    made = calls(CLAUDE, sessions=2)
    aside = Call(
        id="aside",
        at=made[0].at,
        session=made[0].session,
        model="claude-haiku-4-5",
        input=90,
        read=0,
        write=0,
        output=7,
        reasoning=0,
        usd=0.0,
    )
    files = write_log(tmp_path / "s.jsonl", WRITERS["claude-code"][0](made))
    for more in ({}, {"request_id": None}):
        events = [claude_event(call, **more) for call in (aside, *made)]
        found, cleaned = read(files, write_events(tmp_path / "e.jsonl", events))
        assert found == truth([*made, aside])
        assert (cleaned.matched, cleaned.doubts) == (len(made), ())


def test_events_without_a_session_or_a_name_are_in_doubt(tmp_path: Path) -> None:
    made = calls(CLAUDE, sessions=2)
    nameless = {"request_id": None, "session.id": None}
    files = write_log(tmp_path / "s.jsonl", WRITERS["claude-code"][0](made))
    events = write_events(tmp_path / "e.jsonl", [claude_event(c, **nameless) for c in made])
    found, cleaned = read(files, events)
    assert found[0] == 2 * len(made)
    [doubt] = cleaned.doubts
    assert doubt.logs == ("claude-code", "otlp-logs")
    assert doubt.requests >= 0.8 * len(made)  # some end in the next ten minutes
    with billed([str(files), str(events)], BillOptions(host=None)) as (bill, _):
        [note] = [note for note in bill.notes if "same calls" in note]
    assert note.startswith(f"{doubt.requests} requests of claude-code and of otlp-logs may be")


def test_a_session_of_two_logs_with_other_counts_is_in_doubt(tmp_path: Path) -> None:
    """Ccusage 866: prompts in session files that were never filled in."""
    made = calls(CLAUDE, sessions=1)
    rows = WRITERS["claude-code"][0](made)
    for row in rows:
        if row["type"] == "assistant":
            row["message"]["usage"]["input_tokens"] += 1
            row["requestId"] = None
    files = write_log(tmp_path / "s.jsonl", rows)
    events = write_events(tmp_path / "e.jsonl", [claude_event(call) for call in made])
    _, cleaned = read(files, events)
    assert cleaned.doubts == (Doubt(logs=("claude-code", "otlp-logs"), requests=len(made)),)


def test_rollouts_and_events_of_codex_hold_the_same_calls(tmp_path: Path) -> None:
    made = calls(("gpt-5",), sessions=1)
    records = [
        {
            "timeUnixNano": str(int(call.end.timestamp() * 1e9)),
            "attributes": _attributes(
                {
                    "event.name": "codex.sse_event",
                    "event.kind": "response.completed",
                    "conversation.id": call.session,
                    "model": call.model,
                    "input_token_count": call.input,
                    "cached_token_count": call.read,
                    "output_token_count": call.output,
                    "reasoning_token_count": call.reasoning,
                }
            ),
        }
        for call in made
    ]
    files = write_log(tmp_path / "rollout.jsonl", WRITERS["codex"][0](made))
    found, cleaned = read(files, write_events(tmp_path / "e.jsonl", records))
    assert found == truth(made)
    assert (cleaned.matched, cleaned.doubts) == (len(made), ())


def test_spend_logs_and_plain_exports_of_the_same_calls_are_in_doubt(tmp_path: Path) -> None:
    """A provider's export names requests in its own way, and nothing says which is which."""
    made = calls(sessions=2)
    plain = [
        {
            "request_id": f"other-{call.id}",
            "timestamp": call.at.isoformat(),
            "model": call.model,
            "prompt_tokens": call.input,
            "completion_tokens": call.output,
        }
        for call in made
    ]
    one = write_log(tmp_path / "litellm.jsonl", WRITERS["litellm"][0](made))
    other = write_log(tmp_path / "export.jsonl", plain)
    found, cleaned = read(one, other)
    assert found[0] == 2 * len(made)
    assert [(doubt.logs, doubt.requests) for doubt in cleaned.doubts] == [
        ((str(other), "litellm"), len(made))
    ]


def test_other_calls_of_two_logs_are_not_in_doubt(tmp_path: Path) -> None:
    one = write_log(tmp_path / "a.jsonl", WRITERS["litellm"][0](calls(sessions=2, seed=1)))
    other = write_log(tmp_path / "b.jsonl", WRITERS["plain"][0](calls(sessions=2, seed=2)))
    assert read(one, other)[1].doubts == ()


def test_the_messages_and_the_export_of_opencode_are_the_same_calls(tmp_path: Path) -> None:
    made = calls(sessions=2)
    rows = opencode(made)
    one = write_log(tmp_path / "a.jsonl", rows)
    other = write_log(tmp_path / "b.jsonl", rows[::-1])
    found, cleaned = read(one, other)
    assert found == truth(made)
    assert (cleaned.repeated, cleaned.doubts) == (len(made), ())


@pytest.mark.parametrize("named", [True, False])
def test_an_event_of_a_message_with_several_calls_is_those_calls(
    named: bool, tmp_path: Path
) -> None:
    [call] = calls(CLAUDE, sessions=1, steps=1)
    row = WRITERS["claude-code"][0]([call])[-1]
    usage = row["message"]["usage"]
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens")
    names += ("cache_creation_input_tokens",)
    first = {name: usage[name] // 3 for name in names}
    second = {name: usage[name] - first[name] for name in names}
    usage["iterations"] = [{"type": "message"} | first, {"type": "message"} | second]
    files = write_log(tmp_path / "s.jsonl", [row])
    event = claude_event(call, **({} if named else {"request_id": None}), **{"user.id": "alice"})
    events = write_events(tmp_path / "e.jsonl", [event])
    found, cleaned = read(files, events)
    assert found == (2, *truth([call])[1:])
    assert (cleaned.matched, cleaned.doubts) == (1, ())
    usd, keys = read(files, events, what="sum(stated_usd)::DOUBLE, count(key)")[0]
    assert (usd, keys) == (pytest.approx(call.usd), 2)

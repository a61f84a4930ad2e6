"""What other bills were reported to get wrong: fast modes, failures, caches of an hour."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from log_samples import WRITERS, Call, calls, write_log
from msgspec.structs import replace

from suffice.bill.make import BillOptions, billed
from suffice.bill.page import bill_page
from suffice.bill.sums import Bill


def bill_of(path: Path) -> Bill:
    with billed([str(path)], BillOptions(host=None)) as (bill, _):
        return bill


def test_a_tier_without_a_listed_rate_is_named(tmp_path: Path) -> None:
    """Ccusage 1704, t3code 6306: fast modes cost a multiple, and look like any other request."""
    rows = WRITERS["claude-code"][0](calls(("claude-opus-4-5",)))
    for row in rows:
        if row["type"] == "assistant":
            row["message"]["usage"]["speed"] = "fast" if row["sessionId"] == "s0" else "standard"
    bill = bill_of(write_log(tmp_path / "a.jsonl", rows))
    notes = [note for note in bill.notes if "no list has a rate" in note]
    assert len(notes) == 1
    assert "8 requests to claude-opus-4-5 are of the tier fast" in notes[0]


def test_a_failure_without_a_token_costs_nothing(tmp_path: Path) -> None:
    rows = WRITERS["claude-code"][0](calls(("claude-opus-4-5",), sessions=1))
    failure = {"id": "f", "model": "<synthetic>", "usage": {"input_tokens": 0, "output_tokens": 0}}
    rows.append(rows[-1] | {"uuid": "f", "isApiErrorMessage": True, "message": failure})
    bill = bill_of(write_log(tmp_path / "a.jsonl", rows))
    assert bill.mishaps.errors == 1
    assert bill.whole.unknown_requests == 0
    assert bill.mishaps.errors_unknown == 0


def test_tokens_that_no_request_states_are_unknown(tmp_path: Path) -> None:
    bill = bill_of(write_log(tmp_path / "a.jsonl", WRITERS["claude-code"][0](calls())))
    assert bill.whole.tokens["reasoning"] is None
    page = bill_page(bill)
    assert "the log does not state how many were reasoning" in page
    assert "0.0 % of them" not in page
    assert "The log states no dollars." in page
    assert "days are those of UTC" in page


def pauses(*, minutes: int) -> list[Call]:
    """Make one long session whose pauses the cache outlives."""
    made = calls(("claude-opus-4-5",), sessions=1, steps=30)
    start, before = made[0].at, 0
    lasting = []
    for number, call in enumerate(made):
        prompt = max(call.input, before)
        lasting.append(
            replace(
                call,
                at=start + timedelta(minutes=minutes * number),
                input=prompt,
                read=before,
                write=prompt - before,
            )
        )
        before = prompt
    return lasting


def test_a_cache_of_an_hour_is_replayed_as_the_log_says(tmp_path: Path) -> None:
    """Claude Code writes for an hour; a replay at five minutes was far off today's bill."""
    rows = WRITERS["claude-code"][0](pauses(minutes=20))
    for row in rows:
        if row["type"] == "assistant":
            usage = row["message"]["usage"]
            usage["cache_creation"]["ephemeral_1h_input_tokens"] = usage[
                "cache_creation_input_tokens"
            ]
    bill = bill_of(write_log(tmp_path / "a.jsonl", rows))
    changes = {change.name: change for change in reversed(bill.what_if)}
    assert "0.0 % off the bill" in changes["move-all"].modelled
    assert "one-hour-cache" not in changes
    assert "lapses" not in changes
    assert changes["five-minute-cache"].saving_usd < 0


@pytest.mark.parametrize("minutes", [1, 20])
def test_no_change_saves_more_than_is_spent(minutes: int, tmp_path: Path) -> None:
    """A log whose cache outlives five minutes makes the replay dearer than the books."""
    path = write_log(tmp_path / "a.jsonl", WRITERS["claude-code"][0](pauses(minutes=minutes)))
    bill = bill_of(path)
    for change in bill.what_if:
        if change.name.startswith("move"):
            assert change.usd_before == bill.whole.usd
            assert (change.saving_usd or 0) < bill.whole.usd * Decimal("0.81")


@pytest.mark.parametrize(
    ("model", "kind", "window", "usd"),
    [
        ("claude-sonnet-4-5-20250929", "standard", "≤ 200k", "4.5"),
        ("claude-sonnet-4-5-20250929", "standard", "> 200k", "8.25"),
        ("claude-sonnet-4-5-20250929", "batch", "≤ 200k", "2.25"),
    ],
)
def test_a_day_of_short_prompts_is_not_charged_as_one_long_prompt(
    tmp_path: Path, model: str, kind: str, window: str, usd: str
) -> None:
    path = tmp_path / "usage.csv"
    path.write_text(
        "usage_date_utc,model_version,api_key,usage_type,context_window,"
        "usage_input_tokens_no_cache,usage_output_tokens\n"
        f"2026-01-01,{model},key,{kind},{window},1000000,100000\n"
    )
    assert bill_of(path).whole.usd == Decimal(usd)


def test_each_call_behind_a_message_is_charged_by_its_own_prompt(tmp_path: Path) -> None:
    """A message with an advisor sums up two prompts of 112 thousand tokens: none is a long one."""

    def call(kind: str, *counts: int, hour: int = 0, model: str | None = None) -> dict[str, object]:
        names = ("input_tokens", "output_tokens", "cache_read_input_tokens")
        return dict(zip((*names, "cache_creation_input_tokens"), counts, strict=True)) | {
            "type": kind,
            "model": model,
            "cache_creation": {"ephemeral_1h_input_tokens": hour},
        }

    usage = call("", 4, 790, 222_541, 3_093, hour=1_441)
    usage["iterations"] = [
        call("message", 2, 623, 110_550, 1_441, hour=1_441),
        call("advisor_message", 113_780, 4_864, 0, 0, model="claude-opus-4-5"),
        call("message", 2, 167, 111_991, 1_652),
    ]
    row = {
        "type": "assistant",
        "uuid": "u",
        "sessionId": "s",
        "timestamp": "2026-03-01T10:00:00Z",
        "requestId": "req_1",
        "costUSD": 0.5,
        "message": {"id": "msg_1", "model": "claude-sonnet-4-5", "usage": usage},
    }
    early = dict(usage, output_tokens=700)
    del early["iterations"]  # as lines say before a message is whole
    started = row | {"message": row["message"] | {"usage": early}}
    own = 4 * 3 + 222_541 * 0.3 + 1_441 * 6 + 1_652 * 3.75 + 790 * 15
    advice = 113_780 * 5 + 4_864 * 25
    for rows in ([row], [started, row, row], [row, started]):
        bill = bill_of(write_log(tmp_path / "log.jsonl", rows))
        assert float(bill.whole.usd) == pytest.approx((own + advice) / 1e6, abs=1e-9)
        assert bill.whole.requests == 3
        [stated] = bill.stated
        assert float(stated.stated_usd) == pytest.approx(0.5)
        agents = {line.name: line.requests for line in bill.lines["agent"]}
        assert agents == {"main agent": 2, "sub-agents and others": 1}

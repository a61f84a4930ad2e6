"""The bill adds up: invoices of every format, the meter's sums, the sign of every switch."""

import csv
import io
import re
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from log_samples import CLAUDE, PRICES, WRITERS, Call, calls, invoice, write_log
from msgspec.structs import replace

from suffice.bench.tasks import read_tasks
from suffice.bill.charges import PARTS
from suffice.bill.focus import COLUMNS, focus_csv, write_focus
from suffice.bill.make import BillOptions, billed
from suffice.bill.page import bill_page
from suffice.bill.prices import cheaper_models, find_price, read_prices
from suffice.bill.replay import (
    Caching,
    lay_out_steps,
    replay,
    share_of_requests,
    share_of_sessions,
)
from suffice.bill.sample import draw_tasks
from suffice.bill.screen import show_bill
from suffice.bill.sums import Bill
from suffice.bill.what_if import WhatIf
from suffice.cli.bill import demo_folder
from suffice.cli.main import main
from suffice.errors import ConfigError, InputError, PriceError
from suffice.ledger import Ledger, Role, Status
from suffice.ledger.records import Attempt, Entry
from suffice.meter import charge
from suffice.types import Charge, Count, CountSource, Usage

OPTIONS = BillOptions(host=None)


def uncached_usd(call: Call) -> float:
    fresh, _, _, out = PRICES[call.model]
    return (call.input * fresh + call.output * out) / 1e6


def bill_of(*names: object, options: BillOptions = OPTIONS) -> Bill:
    with billed([str(name) for name in names], options) as (bill, _):
        return bill


def by_name(bill: Bill) -> dict[str, Any]:
    return {change.name: change for change in reversed(bill.what_if)}


@pytest.mark.parametrize("name", WRITERS)
def test_the_bill_of_every_format_is_the_invoice(name: str, tmp_path: Path) -> None:
    made = calls(WRITERS[name][1], sessions=1 if name == "codex" else 6)
    bill = bill_of(write_log(tmp_path / "log.jsonl", WRITERS[name][0](made)))
    assert float(bill.whole.usd) == pytest.approx(invoice(made), rel=0.005)
    assert sum(getattr(bill.whole, f"{part}_usd") for part in PARTS) == bill.whole.usd
    assert not bill.unpriced
    assert {one.reason for one in bill.stated} <= {"the same"}
    for lines in (bill.lines["model"], bill.lines["day"], bill.lines["key"]):
        assert sum(line.usd for line in lines) == bill.whole.usd


def test_each_charge_is_what_the_meter_says(tmp_path: Path) -> None:
    """The database and the meter are two calculations; tiers, sizes and dates included."""
    rng = np.random.default_rng(1)
    models = ["claude-opus-4-5", "claude-sonnet-4-5", "gpt-5.1", "gemini-2.5-pro", "deepseek-chat"]
    rows, truth = [], Decimal(0)
    for number in range(400):
        model = models[number % len(models)]
        read, write, hour, fresh = (int(n) for n in rng.integers(0, 150_000, 4))
        output = int(rng.integers(1, 9000))
        reasoning = int(rng.integers(0, output))
        at = datetime(2025, 9, 1, tzinfo=UTC) + timedelta(hours=int(rng.integers(0, 11_000)))
        tier = (None, "batch", "flex", "priority", "default")[int(rng.integers(0, 5))]
        rows.append(
            {
                "id": number,
                "time": at.isoformat(),
                "model": model,
                "input_tokens": fresh + read + write + hour,
                "cache_read_tokens": read,
                "cache_write_tokens": write + hour,
                "cache_write_1h_tokens": hour,
                "output_tokens": output,
                "reasoning_tokens": reasoning,
                "tier": tier,
            }
        )
        counts = {
            "input_tokens": fresh + read + write + hour,
            "cache_read_tokens": read,
            "cache_write_tokens": write + hour,
            "output_tokens": output,
            "reasoning_tokens": reasoning,
        }
        usage = Usage(
            **{k: Count(v, CountSource.REPORTED) for k, v in counts.items()},
            kinds={"cache_write_1h_tokens": Count(hour, CountSource.REPORTED)},
            service_tier=tier,
        )
        usd = charge(usage, find_price(model, None, {}), at=at).usd
        assert usd is not None
        truth += usd
    bill = bill_of(write_log(tmp_path / "log.jsonl", rows))
    assert bill.whole.usd == pytest.approx(truth, abs=Decimal("1e-9"))


def test_names_under_which_models_are_sold_have_the_same_price() -> None:
    price = find_price("claude-sonnet-4-5", None, {})
    assert price is not None
    for name in (
        "claude-sonnet-4-5-20250929",
        "anthropic/claude-sonnet-4-5",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "vertex_ai/claude-sonnet-4-5@20250929",
    ):
        found = find_price(name, None, {})
        assert found is not None, name
        assert found.rates == price.rates, name
    assert find_price("a-model-of-ours", None, {}) is None
    assert cheaper_models("claude-opus-4-5-20251101", None, {})[0] == "claude-sonnet-4-5"
    assert cheaper_models("gpt-5", None, {})[0] == "gpt-5-mini"
    assert not cheaper_models("a-model-of-ours", None, {})


def test_unknown_prices_are_named_and_the_users_own_win(tmp_path: Path) -> None:
    row = {
        "time": "2026-03-01T00:00:00Z",
        "model": "ours-7b",
        "input_tokens": 10**6,
        "output_tokens": 0,
    }
    stated = row | {"cost_usd": 3, "model": "theirs"}
    path = write_log(tmp_path / "a.jsonl", [row, stated])
    bill = bill_of(path)
    assert {one.model: one.stated for one in bill.unpriced} == {"ours-7b": 0, "theirs": 1}
    assert (bill.whole.usd, bill.whole.unknown_requests) == (3, 1)
    assert any("ours-7b" in note for note in bill.notes)
    prices = tmp_path / "prices.toml"
    prices.write_text('[price.ours-7b]\ninput_usd_per_mtok = "2"\noutput_usd_per_mtok = "4"\n')
    assert bill_of(path, options=BillOptions(prices=read_prices(prices), host=None)).whole.usd == 5
    for wrong in ("", "[price.x]\nnonsense = 1\n", "not toml ="):
        prices.write_text(wrong)
        with pytest.raises((InputError, ConfigError)):
            read_prices(prices)


@pytest.mark.parametrize(
    ("factor", "reason"),
    [
        (lambda call: call.usd * 0.9, "0.900 of the list price"),
        (lambda call: call.usd * 0, "states 0"),
        (uncached_usd, "cached tokens at the full price"),
    ],
)
def test_a_difference_to_what_the_log_states_is_explained(
    factor: Callable[[Call], float], reason: str, tmp_path: Path
) -> None:
    made = [replace(call, usd=factor(call)) for call in calls(["claude-opus-4-5"])]
    bill = bill_of(write_log(tmp_path / "a.jsonl", WRITERS["plain"][0](made)))
    assert reason in bill.stated[0].reason


def test_a_cost_report_stands_beside_usage_and_is_not_added(tmp_path: Path) -> None:
    made = calls(("gpt-5",))
    usage = write_log(tmp_path / "usage.json", WRITERS["openai-usage"][0](made))
    costs = write_log(
        tmp_path / "costs.json",
        [
            {
                "object": "page",
                "data": [
                    {
                        "object": "bucket",
                        "start_time": 1772442000,
                        "results": [
                            {
                                "object": "organization.costs.result",
                                "line_item": "gpt-5, input",
                                "amount": {"value": invoice(made), "currency": "usd"},
                            }
                        ],
                    }
                ],
            }
        ],
    )
    bill = bill_of(usage, costs)
    assert float(bill.whole.usd) == pytest.approx(invoice(made))
    assert bill.stated[0].reason == "the same"
    assert float(bill_of(costs).whole.usd) == pytest.approx(invoice(made))


def test_failures_and_what_came_after_them_are_counted(tmp_path: Path) -> None:
    row = {"session": "s", "model": "gpt-5", "input_tokens": 1000, "output_tokens": 10}
    rows = [
        row | {"time": f"2026-03-01T10:{minute:02d}:00Z", "error": error}
        for minute, error in enumerate(["", "overloaded", "", "", "500"])
    ]
    bill = bill_of(write_log(tmp_path / "a.jsonl", rows))
    assert (bill.mishaps.errors, bill.mishaps.retries) == (2, 1)
    assert bill.mishaps.error_usd > 0


# -- what if -------------------------------------------------------------------------------------


def talks(*, sessions: int = 40, steps: int = 40, seed: int = 0) -> list[Call]:
    """Make agent sessions as they are: long prompts, small steps, cached but for long pauses."""
    rng = np.random.default_rng(seed)
    _, read, write, out = PRICES["claude-opus-4-5"]
    made = []
    for session in range(sessions):
        at, before = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(hours=9 * session), 0
        for step in range(steps):
            pause = float(rng.choice([10, 30, 400], p=[0.6, 0.35, 0.05])) if step else 0
            at += timedelta(seconds=pause)
            prompt = before + int(rng.integers(200, 1500)) if before else 20_000
            warm = before if pause < 300 else 0
            output = int(rng.integers(50, 400))
            usd = (warm * read + (prompt - warm) * write + output * out) / 1e6
            made.append(
                Call(
                    id=f"m{session}-{step}",
                    at=at,
                    session=f"s{session}",
                    usd=usd,
                    model="claude-opus-4-5",
                    input=prompt,
                    read=warm,
                    write=prompt - warm,
                    output=output,
                    reasoning=0,
                )
            )
            before = prompt
    return made


@pytest.fixture(scope="module")
def agent_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agent")
    return write_log(folder / "log.jsonl", WRITERS["claude-code"][0](talks()))


def test_a_replay_of_todays_models_is_todays_bill(agent_log: Path) -> None:
    with billed([str(agent_log)], OPTIONS) as (bill, logs):
        assert lay_out_steps(logs.store, ttl_s=300) == bill.whole.requests
        assert replay(logs.store).usd == pytest.approx(bill.whole.usd, rel=Decimal("0.001"))
        never = replay(logs.store, caching=Caching(ttl_s=0))
        forever = replay(logs.store, caching=Caching(ttl_s=1e9))
        assert forever.usd < bill.whole.usd < never.usd


def test_switching_requests_costs_more_and_switching_sessions_less(agent_log: Path) -> None:
    target = find_price("claude-sonnet-4-5", None, {})
    with billed([str(agent_log)], OPTIONS) as (_, logs):
        base = replay(logs.store).usd
        for share in (0.1, 0.3, 0.5):
            one_by_one = replay(logs.store, moved=share_of_requests(share, seed=1), target=target)
            whole = replay(logs.store, moved=share_of_sessions(share, seed=1), target=target)
            assert one_by_one.usd > base, share
            assert whole.usd < base, share
        everything = replay(logs.store, moved="true", target=target)
        assert float(everything.usd / base) == pytest.approx(0.6, abs=0.01)


def test_changes_keep_measured_modelled_and_unknown_apart(agent_log: Path) -> None:
    bill = bill_of(agent_log)
    changes = by_name(bill)
    assert changes["move-sessions"].saving_usd > 0 > changes["move-requests"].saving_usd
    assert changes["lapses"].saving_usd > 0
    assert changes["move-all"].proof.labels == 45
    assert changes["move-requests"].proof is None
    for change in bill.what_if:
        assert change.measured
        assert change.modelled
        assert change.unknown
        if change.name.startswith("move"):
            assert "unproven" in change.unknown
    assert "nothing: the log does not count" in changes["effort"].measured


@pytest.mark.parametrize(("pause_s", "pays"), [(60, False), (600, True)])
def test_the_one_hour_cache_pays_where_pauses_are_just_too_long(
    pause_s: float, pays: bool, tmp_path: Path
) -> None:
    made = talks(sessions=5)
    at = {call.session: call.at for call in reversed(made)}
    even = []
    for number, call in enumerate(made):
        step = number % 40
        warm = call.input - call.read - call.write + (made[number - 1].input if step else 0)
        warm = warm if pause_s < 300 else 0
        when = at[call.session] + timedelta(seconds=pause_s * step)
        even.append(replace(call, at=when, read=warm, write=call.input - warm))
    changes = by_name(bill_of(write_log(tmp_path / "a.jsonl", WRITERS["claude-code"][0](even))))
    assert (changes["one-hour-cache"].saving_usd > 0) is pays


def test_a_volatile_first_block_is_seen(tmp_path: Path) -> None:
    made = [replace(call, read=0, write=call.input) for call in talks(sessions=5)]
    changes = by_name(bill_of(write_log(tmp_path / "a.jsonl", WRITERS["claude-code"][0](made))))
    assert changes["missed-prefixes"].saving_usd > 0
    assert "first block" in changes["missed-prefixes"].measured


def test_logs_without_any_cached_token_are_asked_about_caching(tmp_path: Path) -> None:
    rows = WRITERS["plain"][0](talks(sessions=5))
    for row in rows:
        del row["cache_read_tokens"], row["cache_write_tokens"], row["cost_usd"]
    changes = by_name(bill_of(write_log(tmp_path / "a.jsonl", rows)))
    assert changes["caching"].saving_usd > 0
    assert "no texts" in changes["caching"].unknown


def test_a_move_needs_a_price_and_works_without_sessions(tmp_path: Path) -> None:
    made = calls(("gpt-5",))
    path = write_log(tmp_path / "a.jsonl", WRITERS["api-responses"][0](made))
    with pytest.raises(PriceError, match="nobody lists a price of ours"):
        bill_of(path, options=BillOptions(to="ours", host=None))
    change = by_name(bill_of(path, options=BillOptions(to="gpt-5-mini", host=None)))["move-all"]
    assert float(change.usd_after) == pytest.approx(invoice(made) / 5, rel=0.01)
    assert "names no sessions" in change.modelled


def test_repeated_and_closed_prompts_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = calls(("gpt-5",), sessions=1, steps=1)[0]
    made = [
        replace(
            base,
            id=f"c{n}",
            session=f"s{n}",
            prompt=f"ticket {rng.integers(0, 150)}",
            answer=f"label {rng.integers(0, 5)}",
            input=500,
            read=0,
            output=4,
            reasoning=0,
            at=base.at + timedelta(seconds=30 * n),
        )
        for n in range(400)
    ]
    changes = by_name(bill_of(write_log(tmp_path / "a.jsonl", WRITERS["plain"][0](made))))
    assert changes["repeats"].usd_before > 0
    assert changes["latent"].title.startswith("400 requests of alice to gpt-5 have 5 short")
    assert changes["latent"].usd_after is None
    assert changes["batch"].saving_usd > 0


def test_self_hosting_is_planned_for_the_peak_of_the_trace(agent_log: Path) -> None:
    change = by_name(bill_of(agent_log, options=BillOptions()))["self-hosting"]
    assert change.low <= change.high
    assert "requests a minute" in change.measured
    with pytest.raises(InputError):
        bill_of(agent_log, options=BillOptions(host="no-such-model"))


def test_on_rented_chips_a_prefix_cache_and_guessed_tokens_are_changes_of_their_own(
    agent_log: Path,
) -> None:
    changes = by_name(bill_of(agent_log, options=BillOptions(host="llama-3-8b")))
    hosting, cache = changes["self-hosting"], changes["self-hosting-prefix-cache"]
    assert cache.usd_before == hosting.high
    assert cache.usd_after == hosting.low
    assert cache.saving_usd >= 0
    guessed = changes["self-hosting-guessed-tokens"]
    assert guessed.usd_before == hosting.usd_after
    assert guessed.low <= guessed.usd_after <= guessed.high
    assert "accepted" in guessed.unknown
    assert "hit=" in hosting.proof.command


# -- what comes out ------------------------------------------------------------------------------


def test_the_page_is_whole_and_holds_no_text(tmp_path: Path) -> None:
    made = [
        replace(call, prompt=f"secret question {n}", answer="secret answer", key="<b>eve</b>")
        for n, call in enumerate(calls(sessions=8))
    ]
    with billed([str(write_log(tmp_path / "a.jsonl", WRITERS["litellm"][0](made)))], OPTIONS) as (
        bill,
        logs,
    ):
        dear = bill.whole.usd * 100
        plan = WhatIf(
            name="plan", title="another plan", usd_before=dear, usd_after=Decimal(0),
            measured="", modelled="", unknown="",
        )  # fmt: skip
        page = bill_page(replace(bill, what_if=(plan, *bill.what_if)))
        rows = focus_csv(logs.store)
    assert "another plan" in page
    assert "another plan; unproven" not in page, "it saves more than the bill"
    assert "secret" not in page + rows + "\n".join(show_bill(bill))
    assert "<b>eve" not in page
    assert not re.search(r'(?:src|href)="?https?:', page)
    assert page.index("Where the money goes") < page.index("What if") < page.index("Day by day")
    table = list(csv.DictReader(io.StringIO(rows)))
    assert set(table[0]) == set(COLUMNS)
    assert sum(Decimal(row["BilledCost"]) for row in table) == bill.whole.usd


def test_a_ledger_becomes_focus_rows_with_its_keys_and_tags(tmp_path: Path) -> None:
    """CSV and Parquet hold the same rows, and their cost is that of the books."""
    count = Count(1_000_000, CountSource.REPORTED)
    usage = Usage(input_tokens=count, output_tokens=count)
    with Ledger.open(tmp_path / "books.db") as ledger:
        for number, tags in enumerate((("web",), ("web",), ())):
            charge = Charge(usd=Decimal("1.5"))
            attempt = Attempt(rung="ours", role=Role.ANSWER, charge=charge, usage=usage)
            ledger.append(
                Entry(
                    request_id=f"r{number}",
                    time=datetime(2026, 11, 30, 12, tzinfo=UTC),
                    status=Status.OK,
                    reference_rung="ours",
                    rung="ours",
                    attempts=(attempt,),
                    key_id="ann",
                    tags=tags,
                )
            )
    with billed([str(tmp_path / "books.db")], OPTIONS) as (_, logs):
        table = list(csv.DictReader(io.StringIO(focus_csv(logs.store))))
        write_focus(logs.store, tmp_path / "focus.parquet")
        query = f"SELECT * FROM '{tmp_path}/focus.parquet'"
        columnar = logs.store.execute(query).fetchall()
        names = [name for name, *_ in logs.store.execute(query).description]
    assert {row["Tags"]: Decimal(row["BilledCost"]) for row in table} == {
        '{"tag": "web"}': 3,
        "{}": Decimal("1.5"),
    }
    assert {row["SubAccountId"] for row in table} == {"ann"}
    assert tuple(names) == COLUMNS
    assert sum(row[names.index("BilledCost")] for row in columnar) == Decimal("4.5")


def test_the_screen_is_one_page(tmp_path: Path) -> None:
    lines = "\n".join(show_bill(bill_of(demo_folder()))).splitlines()
    assert len(lines) <= 40
    assert lines[-1].startswith("next: suffice bill")


def test_no_network_call_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["bill", "--demo", "--html", "page.html", "--focus", "focus.csv", "--sample", "20"])
    assert not end.value.code
    assert len(read_tasks(tmp_path / "tasks.jsonl")) == 20
    import duckdb

    from suffice.logs.store import open_store

    with open_store() as store, pytest.raises(duckdb.Error):
        store.execute("SELECT * FROM read_csv('https://example.com/a.csv')")


@pytest.mark.slow
def test_a_sample_is_spread_over_strata_and_each_text_is_one_task(tmp_path: Path) -> None:
    made: list[Call] = []
    for number, call in enumerate(calls(CLAUDE, sessions=30, steps=6)):
        made.append(replace(call, prompt=f"question {number % 90}"))
    for name in ("plain", "litellm", "otlp", "langfuse", "helicone", "phoenix"):
        path = write_log(tmp_path / f"{name}.jsonl", with_prompts(name, made))
        with billed([str(path)], OPTIONS) as (_, logs):
            tasks = draw_tasks(logs, count=40, seed=0)
            assert tasks == draw_tasks(logs, count=40, seed=0), name
            assert tasks != draw_tasks(logs, count=40, seed=1), name
        assert len({task["request_id"] for task in tasks}) == 40, name
        texts = {str(task.get("text") or task.get("messages")) for task in tasks}
        assert len(texts) == 40
        assert all("question" in text for text in texts)
        if name != "phoenix":
            assert len({task["cluster"] for task in tasks}) == 15, name
        write_log(tmp_path / "tasks.jsonl", tasks)
        assert len(read_tasks(tmp_path / "tasks.jsonl")) == 40
    with (
        billed(
            [str(write_log(tmp_path / "codex.jsonl", WRITERS["codex"][0](sample_codex())))], OPTIONS
        ) as (_, logs),
        pytest.raises(InputError, match="no texts"),
    ):
        draw_tasks(logs, count=5, seed=0)


def sample_codex() -> list[Call]:
    return calls(WRITERS["codex"][1], sessions=1)


def test_a_task_of_session_files_is_what_a_person_wrote_first(tmp_path: Path) -> None:
    made = [
        replace(call, prompt=f"task {call.session}") for call in calls(CLAUDE, sessions=8, steps=3)
    ]
    rows = WRITERS["claude-code"][0](made)
    users = [row for row in rows if row.get("type") == "user"]
    first = {row["sessionId"]: row for row in reversed(users)}
    for row in users:
        result = [{"type": "tool_result", "tool_use_id": "t", "content": "a file"}]
        row["message"]["content"] = [{"type": "text", "text": row["message"]["content"]}]
        if row is not first[row["sessionId"]]:
            row["message"]["content"] = result
    early = {"type": "user", "timestamp": "2020-01-01T00:00:00Z", "uuid": "u", "parentUuid": None}
    for session in first:
        words = early | {"sessionId": session, "message": {"content": "<command-name>/init"}}
        rows += [words, words | {"isMeta": True, "message": {"content": "Caveat: not a person's"}}]
        rows.append(words | {"isSidechain": True, "message": {"content": "a sub-agent's"}})
    claude = write_log(tmp_path / "claude.jsonl", rows)
    codex = [*WRITERS["codex"][0](sample_codex())]
    start = next(row for row in codex if row["type"] == "session_meta")
    for text in ("fix the build", "and the tests"):
        wrote = {"type": "user_message", "message": text}
        codex.append(start | {"type": "event_msg", "payload": wrote})
        start = start | {"timestamp": "2099-01-01T00:00:00Z"}
    with billed([str(claude)], OPTIONS) as (_, logs):
        tasks = draw_tasks(logs, count=5, seed=0)
        assert len(draw_tasks(logs, count=99, seed=0)) == 8
    assert len(tasks) == 5
    assert all(task["text"] == f"task {task['cluster']}" for task in tasks)
    assert len({task["group"] for task in tasks}) == 2
    with billed([str(write_log(tmp_path / "x.jsonl", codex))], OPTIONS) as (_, logs):
        assert [task["text"] for task in draw_tasks(logs, count=5, seed=0)] == ["fix the build"]


def with_prompts(name: str, made: Sequence[Call]) -> list[Any]:
    rows = WRITERS[name][0](made)
    if name == "otlp":
        spans = [s for r in rows for s in r["resourceSpans"][0]["scopeSpans"][0]["spans"]]
        for span, call in zip([s for s in spans if s["name"] == "chat"], made, strict=True):
            message = '[{"role": "user", "parts": [{"type": "text", "content": "%s"}]}]'
            span["attributes"].append(
                {"key": "gen_ai.input.messages", "value": {"stringValue": message % call.prompt}}
            )
    return rows


def test_nothing_to_bill_says_why(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing")
    with pytest.raises(InputError, match="no request in") as caught:
        bill_of(path)
    assert "neither JSON nor columns" in caught.value.message

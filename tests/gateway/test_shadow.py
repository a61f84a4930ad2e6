"""Shadows: the first turns of some sessions are answered by a rung on trial too, never shown."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import gateway_support
import pytest
from cli_support import run
from gateway_support import CHAT, JSON, LADDER, Call, Site, answer, completion, site
from msgspec.structs import replace

from suffice.config import parse_config
from suffice.errors import ConfigError
from suffice.gateway import auditor
from suffice.gateway.keys import KeyLimits, add_key
from suffice.gateway.metrics.families import LOST_SHADOWS
from suffice.ledger import Ledger, Role, TrialSample, calls, labelled_trials
from suffice.ledger.spenders import spenders
from suffice.report.gather import report_on
from suffice.report.ledger_figures import ends_figure
from suffice.report.ledger_summary import LedgerReport

ALL = 'shadow_rung = "small"\nshadow_share = 1.0\n'


async def turn(here: Site, session: str, number: int = 1, **headers: str) -> JSON:
    """Ask as the given turn of a session; returns the answer."""
    messages: list[JSON] = [{"role": "user", "content": f"Mend {session}."}]
    for _ in range(number - 1):
        messages += [{"role": "assistant", "content": "4"}, {"role": "user", "content": "Go on."}]
    body = {"model": "suffice", "messages": messages}
    status, reply = await here.post(body, path=CHAT, **{"x-session-id": session}, **headers)
    assert status == 200
    return reply


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(300):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def shadows(here: Site) -> list[JSON]:
    return [row for row in here.rows() if row["role"] == "shadow"]


async def idle(here: Site) -> None:
    await until(lambda: not here.gateway.worker.shadower.waiting)


async def different(call: Call) -> None:
    await (call.reply(completion("5")) if call.body["model"] == "small-model" else answer(call))


async def test_first_turns_are_answered_twice_and_one_answer_is_shown(tmp_path: Path) -> None:
    async with site(tmp_path, more=ALL + "store_text = true\n") as here:
        here.upstream.script = different
        for number in (1, 2, 3):
            reply = await turn(here, "s", number)
            assert reply["choices"][0]["message"]["content"] == "4"
        await idle(here)
        rows = here.rows()
        assert [row["asked"] for row in rows if row["role"] == "answer"] == ["big"] * 3
        assert [row["turn"] for row in shadows(here)] == [1, 2]
        assert [row["shadow_chance"] for row in rows if row["role"] == "answer"] == [1.0, 1.0, None]
        assert {row["charge_picousd"] for row in rows} == {25 * 10**6}, "serving costs what it did"
        with Ledger.open(here.ledger, read_only=True) as ledger:
            by_role = {one.key: one.spend.known_usd for one in calls(ledger, by="role")}
            [session] = spenders(ledger, by="session")
            labelled = labelled_trials(ledger, sample=TrialSample.SHADOWS)
        assert by_role["shadow"] * 3 == by_role["answer"] * 2
        report = await asyncio.to_thread(report_on, str(here.ledger), None, say=lambda _stage: None)
        assert isinstance(report, LedgerReport)
        assert ("calls: shadow", "2", "$0.0000500") in ends_figure(report).rows
        assert session.input_tokens == 3 * 20
        marks = {(t.rung, t.quality, t.cluster) for t in labelled.trials}
        assert marks == {("big", 1.0, rows[0]["session_id"]), ("small", 0.0, rows[0]["session_id"])}


async def test_sessions_keep_to_their_draw_and_a_named_rung_has_none(tmp_path: Path) -> None:
    async with site(tmp_path, more=ALL.replace("1.0", "0.3")) as here:
        for name in [f"s{number}" for number in range(20)] * 2:
            await turn(here, name)
        await here.chat(model="big")
        await idle(here)
        with_shadow = [row["session_id"] for row in shadows(here)]
        assert 0 < len(set(with_shadow)) < 15
        assert len(with_shadow) == 2 * len(set(with_shadow))
        assert here.rows()[-1]["shadow_chance"] is None


async def test_what_is_busy_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full rung and a full line drop shadows; clients wait for neither."""
    release = asyncio.Event()

    async def stuck(call: Call) -> None:
        if call.body["model"] == "small-model":
            await release.wait()
        await answer(call)

    monkeypatch.setitem(auditor.MOST_WAITING, Role.SHADOW, 1)
    more = ALL + "shadow_concurrency = 2\nrung_concurrency = 1\n"
    async with site(tmp_path, more=more) as here:
        here.upstream.script = stuck
        for number in range(4):
            await turn(here, f"s{number}")
            await asyncio.sleep(0.05)
        lost = {
            labels: n for labels, [n] in here.gateway.worker.metrics.values()[LOST_SHADOWS.name]
        }
        assert lost == {("busy",): 3.0}
        release.set()
        await idle(here)
        assert len(shadows(here)) == 1


@pytest.mark.parametrize(("caller", "marks"), [("big-model", set()), ("small-model", {0.0, 1.0})])
async def test_words_beside_a_call_of_a_tool_do_not_agree(
    tmp_path: Path, caller: str, marks: set[float]
) -> None:
    """Agents begin with calls: two rungs that announce theirs alike may call different things."""
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}

    async def calls_a_tool(asked: Call) -> None:
        more: JSON = {"tool_calls": [call]} if asked.body["model"] == caller else {}
        await asked.reply(completion("Let me look.", **more))

    async with site(tmp_path, more=ALL + "store_text = true\n") as here:
        here.upstream.script = calls_a_tool
        await turn(here, "s")
        await idle(here)
        with Ledger.open(here.ledger, read_only=True) as ledger:
            labelled = labelled_trials(ledger, sample=TrialSample.SHADOWS)
    assert {t.quality for t in labelled.trials} - {None} == marks


@pytest.mark.parametrize(
    ("calls", "quality"),
    [
        ([("add", '{"b": [1.0], "a": 2}'), ("see", "")], 1.0),
        ([("add", '{"a": 2, "b": [2]}'), ("see", "{}")], 0.0),
        ([("add", '{"a": 2, "b": [true]}'), ("see", "{}")], 0.0),
        ([("add", '{"a": 2, "b": [1]}')], 0.0),
        ([("add", '{"a": 2, "b": [1'), ("see", "{}")], 0.0),
        ([], 0.0),
    ],
)
async def test_calls_agree_if_tools_and_arguments_are_the_same(
    tmp_path: Path, calls: list[tuple[str, str]], quality: float
) -> None:
    of_reference = [("see", "{}"), ("add", '{"a":2,"b":[1]}')]

    async def calls_tools(asked: Call) -> None:
        chosen = calls if asked.body["model"] == "small-model" else of_reference
        made = [
            {"id": f"c{n}{asked.body['model']}", "type": "function"}
            | {"function": {"name": name, "arguments": arguments}}
            for n, (name, arguments) in enumerate(chosen)
        ]
        await asked.reply(completion("Let me look.", **({"tool_calls": made} if made else {})))

    async with site(tmp_path, more=ALL + 'store_text = true\naudit_scorer = "calls"\n') as here:
        here.upstream.script = calls_tools
        await turn(here, "s")
        await idle(here)
        with Ledger.open(here.ledger, read_only=True) as ledger:
            labelled = labelled_trials(ledger, sample=TrialSample.SHADOWS)
    assert {t.rung: t.quality for t in labelled.trials} == {"big": 1.0, "small": quality}


async def test_a_shadow_that_fails_is_booked_and_nobody_notices(tmp_path: Path) -> None:
    async def fails(call: Call) -> None:
        if call.body["model"] == "small-model":
            await call.reply({"error": {"message": "no"}}, status=500)
        else:
            await answer(call)

    async with site(tmp_path, more=ALL) as here:
        here.upstream.script = fails
        await turn(here, "s")
        await idle(here)
        [row] = shadows(here)
        assert row["call_error"]
        assert here.rows()[0]["status"] == "ok"


async def test_no_budget_of_a_key_counts_shadows(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret = add_key(path, "alice", limits=KeyLimits(budget_usd_per_day=Decimal("0.00009")))
    more = ALL + f'keys = "{path}"\nassumed_output_tokens = 5\n'
    async with site(tmp_path, more=more) as here:
        for number in range(3):
            await turn(here, f"s{number}", authorization=f"Bearer {secret}")
        await idle(here)
        assert len(shadows(here)) == 3


async def test_an_audit_is_a_shadow_too(tmp_path: Path) -> None:
    more = ALL + "store_text = true\n"
    async with site(tmp_path, more=more, observe=True) as here:
        guard = here.gateway.worker.serving.guard
        guard.state = replace(guard.state, share=1.0)
        await turn(here, "s")
        await until(lambda: any(row["role"] == "audit" for row in here.rows()))
        assert shadows(here) == []
        with Ledger.open(here.ledger, read_only=True) as ledger:
            found = {t.rung for t in labelled_trials(ledger, sample=TrialSample.SHADOWS).trials}
        assert found == {"small", "big"}


@pytest.mark.parametrize("rung", ["nobody", "big"])
def test_a_shadow_needs_a_rung_below_the_reference(rung: str) -> None:
    text = LADDER.format(url="http://h/v1", dialect="openai", ledger="b.db")
    with pytest.raises(ConfigError, match="shadow_rung"):
        parse_config(text + f'shadow_rung = "{rung}"\n')


@pytest.mark.slow
async def test_pairs_become_a_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap = '"small-model"\nprice = "cheap"\n[price.cheap]\ninput_usd_per_mtok = 0.1\n'
    ladder = LADDER.replace('"small-model"\nprice = "flat"', cheap + "output_usd_per_mtok = 0.1")
    monkeypatch.setattr(gateway_support, "LADDER", ladder)
    async with site(tmp_path, more=ALL + "store_text = true\n") as here:
        for number in range(90):
            await turn(here, f"s{number}")
        await idle(here)
        assert len(shadows(here)) == 90
    words = [str(here.ledger), "--reference", "big", "--alpha", "0.4", "--looks", "1", "--json"]
    refused = await asyncio.to_thread(run, capsys, "recertify", *words)
    assert "--from shadows" in refused.err
    result = await asyncio.to_thread(run, capsys, "recertify", *words, "--from", "shadows")
    assert result.status == 0, result.err
    assert result.json["certified"]
    assert result.json["label_source"] == "agreement"

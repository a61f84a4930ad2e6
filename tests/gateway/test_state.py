"""State of the Responses API: kept for its key and its time, over workers, or refused clearly."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from gateway_support import Call, Site, answer, completion, running, site
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suffice.gateway.app import Gateway
from suffice.gateway.keys import KeyLimits, add_key
from suffice.gateway.serving import Settings
from suffice.ledger import Ledger

PATH = "/v1/responses"
TTL = 'responses_ttl = "1h"\n'


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, more=TTL) as made:
        yield made


async def ask(here: Site, text: Any, **fields: Any) -> Any:
    return await here.client.responses.create(model="big", input=text, **fields)


def last_messages(here: Site) -> list[tuple[str, Any]]:
    return [(m["role"], m.get("content")) for m in here.upstream.calls[-1].body["messages"]]


TURNS = [("user", "one"), ("assistant", "4"), ("user", "two")]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_goes_on_from_one_before(here: Site, stream: bool) -> None:
    if stream:
        events = [event async for event in await ask(here, "one", stream=True)]
        first = events[-1].response
    else:
        first = await ask(here, "one")
    assert first.store is True
    second = await ask(here, "two", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert last_messages(here) == TURNS
    await ask(here, "three", previous_response_id=second.id)
    assert last_messages(here) == [*TURNS, ("assistant", "4"), ("user", "three")]
    shown = await here.client.responses.retrieve(first.id)
    assert shown.model_dump() == first.model_dump()


async def test_instructions_do_not_go_on_and_calls_meet_their_outputs(here: Site) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}

    async def calls(told: Call) -> None:
        await told.reply(completion("", tool_calls=[call]))

    here.upstream.script = calls
    tool = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}
    first = await ask(here, "one", instructions="Be brief.", tools=[tool])
    here.upstream.script = answer
    output = {"type": "function_call_output", "call_id": "c1", "output": "4"}
    await ask(here, [output], previous_response_id=first.id, tools=[tool])
    roles = [role for role, _ in last_messages(here)]
    assert roles == ["user", "assistant", "tool"]


async def test_what_is_not_to_be_kept_is_not(here: Site) -> None:
    first = await ask(here, "one", store=False)
    assert first.store is False
    with pytest.raises(openai.NotFoundError, match="there is no") as caught:
        await ask(here, "two", previous_response_id=first.id)
    assert caught.value.code == "previous_response_not_found"
    with pytest.raises(openai.NotFoundError):
        await here.client.responses.retrieve(first.id)
    assert here.rows()[-1]["status"] == "refused"


async def test_a_failed_answer_is_not_kept(here: Site) -> None:
    async def fails(call: Call) -> None:
        await call.reply({"error": {"message": "no"}}, status=400)

    here.upstream.script = fails
    with pytest.raises(openai.BadRequestError):
        await ask(here, "one")
    with Ledger.open(here.ledger) as ledger, ledger.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM suffice_states").scalar() == 0


async def test_erased_responses_are_gone_and_break_what_goes_on_from_them(here: Site) -> None:
    first = await ask(here, "one")
    second = await ask(here, "two", previous_response_id=first.id)
    await here.client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        await here.client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match=first.id):
        await ask(here, "three", previous_response_id=second.id)


async def test_items_are_listed_and_referred_to(here: Site) -> None:
    first = await ask(here, "one")
    items = await here.client.responses.input_items.list(first.id)
    assert [item.content[0].text for item in items.data] == ["one"]
    said = first.output[0].id
    references = [
        {"type": "item_reference", "id": items.data[0].id},
        {"type": "item_reference", "id": said},
        {"role": "user", "content": "two"},
    ]
    await ask(here, references)
    assert last_messages(here) == TURNS
    await ask(here, references[1:], previous_response_id=first.id)
    assert last_messages(here) == TURNS  # what the history holds is not said twice
    for unknown in ("msg_1", "msg_" + "0" * 24 + "_0"):
        with pytest.raises(openai.NotFoundError, match=unknown):
            await ask(here, [{"type": "item_reference", "id": unknown}])


async def test_a_conversation_holds_what_is_said_in_it(here: Site) -> None:
    opening = [{"type": "message", "role": "user", "content": "one"}]
    opened = await here.client.conversations.create(items=opening, metadata={"topic": "sums"})
    await ask(here, "two", conversation=opened.id)
    assert last_messages(here) == [("user", "one"), ("user", "two")]
    third = await ask(here, "three", conversation={"id": opened.id}, store=False)
    assert third.conversation.id == opened.id
    assert last_messages(here)[2:] == [("assistant", "4"), ("user", "three")]
    items = await here.client.conversations.items.list(opened.id, order="asc", limit=2)
    assert [item.role for item in items.data] == ["user", "user"]
    assert items.has_more
    shown = await here.client.conversations.items.retrieve(
        items.data[0].id, conversation_id=opened.id
    )
    assert shown.id == items.data[0].id
    changed = await here.client.conversations.update(opened.id, metadata={"topic": "more"})
    assert (await here.client.conversations.retrieve(opened.id)).metadata == changed.metadata
    await here.client.conversations.items.create(opened.id, items=opening)
    assert (await here.client.conversations.delete(opened.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await ask(here, "four", conversation=opened.id)


async def test_two_things_to_go_on_from_are_refused(here: Site) -> None:
    opened = await here.client.conversations.create()
    inside = await ask(here, "one", conversation=opened.id)
    with pytest.raises(openai.BadRequestError, match="two things"):
        await ask(here, "two", conversation=opened.id, previous_response_id=inside.id)
    with pytest.raises(openai.BadRequestError, match="belongs to a conversation"):
        await ask(here, "two", previous_response_id=inside.id)


async def test_tokens_are_counted_with_what_went_before(here: Site) -> None:
    first = await ask(here, "one " * 400)
    alone = await here.client.responses.input_tokens.count(model="big", input="two")
    both = await here.client.responses.input_tokens.count(
        model="big", input="two", previous_response_id=first.id
    )
    assert both.input_tokens > alone.input_tokens + 300


async def test_a_conversation_too_long_for_a_body_is_refused(tmp_path: Path) -> None:
    async with site(tmp_path, more=TTL + "body_limit_bytes = 3000\n") as here:
        first = await ask(here, "x" * 2000)
        with pytest.raises(openai.APIStatusError, match="longer than 3000") as caught:
            await ask(here, "y" * 2000, previous_response_id=first.id)
        assert caught.value.status_code == 413


@pytest.mark.parametrize(
    "fields",
    [
        {"store": True},
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
    ],
)
async def test_where_nothing_is_kept_state_is_refused_with_a_hint(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    async with site(tmp_path) as here:
        status, told = await here.post({"model": "big", "input": "one"} | fields, path=PATH)
        assert status == 400
        assert "responses_ttl" in told["error"]["hint"]
        async with here.http.get(f"{here.url}{PATH}/resp_1") as response:
            assert response.status == 400
        assert (await ask(here, "one")).store is False


async def test_a_key_sees_its_own_alone_in_every_worker(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    mine, other = (add_key(keys, name, limits=KeyLimits()) for name in ("mine", "other"))
    more = TTL + f'keys = "{keys}"\n'
    async with site(tmp_path, more=more) as here:
        second = Gateway(Settings(ladder=tmp_path / "suffice.toml"))
        async with running(second) as (address, _):

            async def create(secret: str, *, at: str, **fields: Any) -> Any:
                async with openai.AsyncOpenAI(
                    base_url=f"{at}/v1", api_key=secret, max_retries=0
                ) as client:
                    return await client.responses.create(model="big", **fields)

            first = await create(mine, at=here.url, input="one")
            await create(mine, at=address, input="two", previous_response_id=first.id)
            assert last_messages(here) == TURNS
            with pytest.raises(openai.NotFoundError):
                await create(other, at=here.url, input="two", previous_response_id=first.id)
            reference = [{"type": "item_reference", "id": first.output[0].id}]
            with pytest.raises(openai.NotFoundError):
                await create(other, at=here.url, input=reference)
            headers = {"authorization": f"Bearer {other}"}
            for ask_for in (here.http.get, here.http.delete):
                async with ask_for(f"{here.url}{PATH}/{first.id}", headers=headers) as response:
                    assert response.status == 404
            async with here.http.get(f"{here.url}{PATH}/{first.id}") as response:
                assert response.status == 401


async def test_an_answer_that_cannot_be_kept_is_given_and_says_so(here: Site) -> None:
    with Ledger.open(here.ledger) as ledger, ledger.writing() as connection:
        connection.exec_driver_sql("DROP TABLE suffice_states")
    first = await ask(here, "one")
    assert (first.output_text, first.store) == ("4", False)


async def test_text_in_the_books_does_not_depend_on_what_is_kept(here: Site) -> None:
    await ask(here, "a secret")
    row = await here.row()
    assert row["text"] is None


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(["text", "reference", "chain"]), min_size=1, max_size=5))
def test_all_ways_to_go_on_ask_the_engine_the_same(ways: list[str]) -> None:
    """Whole history, references and chains are one conversation to the engine."""
    import tempfile

    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with site(Path(folder), more=TTL) as here:
                plain: list[dict[str, Any]] = []
                last: Any = None
                for number, way in enumerate(ways):
                    new = {"type": "message", "role": "user", "content": f"turn {number}"}
                    if way == "chain" and last is not None:
                        last = await ask(here, [new], previous_response_id=last.id)
                    elif way == "reference" and last is not None:
                        held = [
                            {"type": "item_reference", "id": i["id"]} if "id" in i else i
                            for i in plain
                        ]
                        last = await ask(here, [*held, new])
                    else:
                        last = await ask(here, [*plain, new])
                    plain += [new, json.loads(last.output[0].model_dump_json())]
                    expected = [
                        (item["role"], item["content"])
                        if isinstance(item["content"], str)
                        else (item["role"], item["content"][0]["text"])
                        for item in plain[:-1]
                    ]
                    assert last_messages(here) == expected

    asyncio.run(play())

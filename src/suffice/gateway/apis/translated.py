"""An exchange in another API: what is read of it is a chat request, what is sent is translated."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec
from msgspec import Struct

from suffice.engines.stream import EventReader
from suffice.gateway.apis.api import Api, Reading, Writer, Writing
from suffice.gateway.apis.messages_request import Translated
from suffice.gateway.apis.state import Keeping, ResponseState
from suffice.gateway.exchange import Exchange, Headers, Receive, Scope, Send, beside_loop
from suffice.gateway.problems import Problem
from suffice.gateway.tags import without_tags
from suffice.gateway.wire import RUNG, json_object
from suffice.types import JSON, NativeBody, Rung

_BETAS = (b"anthropic-beta", b"openai-beta")
_BYTES_PER_TOKEN = 4


class Endpoint(Struct, frozen=True, kw_only=True):
    """A path of another API.

    `models` says what a name asks for, None for the policy. At one that is `counting` the answer is
    a number of tokens, which no writer changes. `keeping` returns where the client's state is kept,
    None where there is none. `has_native` says that an engine speaks this API too; the names of
    models in `native` lead to such engines alone, those in `caching` to engines that heed
    `cache_control`.
    """

    api: Api
    models: Mapping[str, Rung | None]
    counting: bool = False
    keeping: Callable[[], Keeping | None] = lambda: None
    has_native: bool = False
    native: frozenset[str] = frozenset()
    caching: frozenset[str] = frozenset()


class TranslatedExchange(Exchange):
    """Stands between a client of another API and the chat path, which knows nothing of it."""

    def __init__(self, endpoint: Endpoint, *, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self.api = endpoint.api
        self.keepalive = endpoint.api.keepalive
        self._endpoint = endpoint
        self._state: ResponseState | None = None
        self._names = dict(endpoint.api.names)
        self._prompt_tokens = 0
        self._translated_away: list[str] = []
        self._writer: Writer | None = None
        self._events = EventReader()
        for name in _BETAS:
            if name in self.headers:
                self.ignored.append(name.decode())

    async def body(self, *, limit: int) -> bytes:
        """Read the body and return the chat request that it stands for."""
        body = await super().body(limit=limit)
        self.fields = json_object(body)
        fields = without_tags(self.fields)
        keeping, history = self._endpoint.keeping(), None
        if keeping is not None:
            self._state = ResponseState(keeping)
            fields = await self._state.read(fields, limit=limit)
            self.fields = {**self.fields, "store": self._state.kept}
            history = tuple(self._state.history)
        model = str(self.fields.get("model"))
        policies = {name for name, rung in self._endpoint.models.items() if rung is None}
        by_policy = model in policies and RUNG not in self.headers
        rung = self.headers.get(RUNG, model.encode()).decode("utf-8", "replace")
        reading = Reading(
            by_policy=by_policy,
            counting=self._endpoint.counting,
            caches=rung in self._endpoint.caching,
            history=history,
        )
        if self.api.outline is not None and self._endpoint.has_native:
            self._read_native(fields)
        if self.api.outline is not None and rung in self._endpoint.native:
            translated = self.api.outline(fields, reading)
        else:
            translated = await beside_loop(partial(self._read, fields, reading), body=body)
        self._translated_away = [*self.ignored, *translated.ignored]
        self.ignored = list(self._translated_away)
        self._names["reasoning_effort"] = translated.effort_name
        self.custom_tools = translated.custom_tools
        chat = msgspec.json.encode(translated.chat)
        self._prompt_tokens = -(-len(chat) // _BYTES_PER_TOKEN)
        return chat

    def _read(self, fields: JSON, reading: Reading) -> Translated:
        """Translate the body; a Problem names the models that need no translation."""
        try:
            return self.api.read(fields, reading)
        except Problem as problem:
            if self._endpoint.native:
                names = ", ".join(sorted(self._endpoint.native))
                problem.hint = f"leave it out, or ask for a model that takes it as it is: {names}"
            raise

    def _read_native(self, fields: JSON) -> None:
        """Keep the body for engines of the same API."""
        betas = self.headers.get(b"anthropic-beta")
        self.native = NativeBody(
            body=self.api.native(fields),
            betas=None if betas is None else betas.decode("latin-1"),
        )

    def answer_natively(self) -> None:
        """Take notice that the body went out as it was: nothing was lost in a translation."""
        lost = set(self._translated_away)
        self.ignored = [name for name in self.ignored if name not in lost]

    def ignore(self, name: str) -> None:
        """Note a field of the chat request that was not kept, by this API's name for it."""
        super().ignore(self._names.get(name, name))

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the status; what follows a stream's is translated."""
        if (b"content-type", b"text/event-stream") in headers:
            self._writer = self._new_writer()
        await super().begin(status, headers)

    async def send(self, data: bytes, *, more: bool) -> None:
        """Send a part of the body, in a stream the events that it makes."""
        if self._writer is not None:
            comment = data if data.startswith(b":") else b""  # it keeps a line open
            events = [
                event
                for piece in self._events.feed(data)
                for event in await self._translate(piece, self._writer)
            ]
            data = b"".join(map(_written, events)) if events else comment
        if data or not more:
            await super().send(data, more=more)

    async def reply(
        self, body: bytes, *, status: int = 200, headers: Headers | None = None
    ) -> None:
        """Send a whole answer, or an error."""
        if status != 200:
            error = msgspec.json.decode(body)["error"]
            param = self._names.get(error["param"], error["param"])
            body = msgspec.json.encode(self.api.error(error | {"param": param}, status))
        elif not self._endpoint.counting:
            writer = self._new_writer()
            writer.feed(msgspec.json.decode(body))
            writer.end()
            result = writer.result()
            if self._state is not None and not isinstance(result, bytes):
                result = await self._state.keep(result, request_id=self.request_id)
            body = result if isinstance(result, bytes) else msgspec.json.encode(result)
        await super().reply(body, status=status, headers=headers)

    def _new_writer(self) -> Writer:
        return self.api.writer(
            Writing(
                body=self.fields,
                request_id=self.request_id,
                prompt_tokens=self._prompt_tokens,
                history=() if self._state is None else tuple(self._state.history),
            )
        )

    async def _translate(self, data: str, writer: Writer) -> Sequence[JSON | bytes]:
        if data == "[DONE]":
            *events, last = writer.end()
            if self._state is not None and not isinstance(last, bytes):
                whole = last["response"]  # kept before the client can go on from it
                kept = await self._state.keep(whole, request_id=self.request_id)
                last = {**last, "response": kept}
            return [*events, last]
        chunk = msgspec.json.decode(data)
        failed = "error" in chunk and "choices" not in chunk
        return writer.failed(chunk["error"]) if failed else writer.feed(chunk)


def _written(event: JSON | bytes) -> bytes:
    if isinstance(event, bytes):
        return event
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))

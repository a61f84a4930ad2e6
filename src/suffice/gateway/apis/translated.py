"""An exchange in another API: what is read of it is a chat request, what is sent is translated."""

from collections.abc import Mapping

import msgspec

from suffice.engines.stream import EventReader
from suffice.gateway.apis.api import Api, Writer
from suffice.gateway.exchange import Exchange, Headers, Receive, Scope, Send
from suffice.gateway.wire import REQUEST_ID, RUNG, json_object
from suffice.types import JSON, Rung

_BETAS = (b"anthropic-beta", b"openai-beta")


class TranslatedExchange(Exchange):
    """Stands between a client of another API and the chat path, which knows nothing of it.

    `models` says what a name asks for, None for the policy. A key in `x-api-key` counts as sent.
    """

    def __init__(
        self,
        door: Api,
        models: Mapping[str, Rung | None],
        *,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        super().__init__(scope, receive, send)
        self._door, self._models = door, models
        self._asked: JSON = {}
        self._ignored = [name.decode() for name in _BETAS if name in self.headers]
        self._writer: Writer | None = None
        self._events = EventReader()
        if b"x-api-key" in self.headers:
            self.headers.setdefault(b"authorization", b"Bearer " + self.headers[b"x-api-key"])

    async def body(self, *, limit: int) -> bytes:
        """Read the body and return the chat request that it stands for."""
        self._asked = json_object(await super().body(limit=limit))
        model = str(self._asked.get("model"))
        policies = {name for name, rung in self._models.items() if rung is None}
        translated = self._door.read(self._asked, model in policies and RUNG not in self.headers)
        self._ignored += translated.ignored
        return msgspec.json.encode(translated.chat)

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the status; what follows a stream's is translated."""
        if (b"content-type", b"text/event-stream") in headers:
            self._writer = self._written(headers)
        await super().begin(status, headers + self._passed_over())

    async def send(self, data: bytes, *, more: bool) -> None:
        """Send a part of the body, in a stream the events that it makes."""
        if self._writer is not None:
            passed = data if data.startswith(b":") else b""  # a comment keeps a line open
            told = [self._told(each, self._writer) for each in self._events.feed(data)]
            data = passed if not told else b"".join(told)
        if data or not more:
            await super().send(data, more=more)

    async def reply(
        self, body: bytes, *, status: int = 200, headers: Headers | None = None
    ) -> None:
        """Send a whole answer, or an error."""
        fields = msgspec.json.decode(body)
        if status == 200:
            writer = self._written(headers or [])
            writer.feed(fields)
            writer.end()
            made = writer.result()
        else:
            error = fields["error"]
            param = self._door.names.get(error["param"], error["param"])
            made = self._door.error(error | {"param": param}, status)
        await super().reply(msgspec.json.encode(made), status=status, headers=headers)

    def _written(self, headers: Headers) -> Writer:
        return self._door.writer(self._asked, dict(headers)[REQUEST_ID].decode())

    def _passed_over(self) -> Headers:
        names = ", ".join(self._ignored)
        return [(b"x-suffice-ignored", names.encode())] if names else []

    def _told(self, data: str, writer: Writer) -> bytes:
        if data == "[DONE]":
            events = writer.end()
        else:
            chunk = msgspec.json.decode(data)
            failed = "error" in chunk and "choices" not in chunk
            events = writer.failed(chunk["error"]) if failed else writer.feed(chunk)
        return b"".join(_event(event) for event in events)


def _event(event: JSON) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))

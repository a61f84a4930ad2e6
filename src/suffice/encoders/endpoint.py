"""An encoder behind an OpenAI-compatible `/v1/embeddings` endpoint."""

import http.client
from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import urlsplit

import msgspec
import numpy as np
from msgspec import Struct

from suffice.encoders.base import Vectors
from suffice.errors import EngineProtocolError, EngineRefused, EngineUnreachable, InputError

_SAMPLE = "The encoder is known by what it makes of this sentence."
_BATCH = 64  # texts in one call


class _Embedding(Struct):
    index: int
    embedding: list[float]


class _Reply(Struct):
    data: list[_Embedding]


class EndpointEncoder:
    """Embeds texts through `POST {url}/embeddings`; blocks while it waits.

    The fingerprint is the name of the model and a hash of its vector for a fixed sentence, to two
    decimals, so another model or quantisation of the same name changes it. Making one sends that
    sentence, and raises an EngineError if the call fails.
    """

    def __init__(
        self, url: str, *, model: str, api_key: str | None = None, timeout_s: float = 30.0
    ) -> None:
        self._url = urlsplit(url.rstrip("/") + "/embeddings")
        if self._url.scheme not in {"http", "https"} or not self._url.hostname:
            raise InputError(f"{url!r} is not an http address", hint="e.g. http://host:8000/v1")
        self._model = model
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        sample = self._embeddings([_SAMPLE])[0]
        self.dim = len(sample)
        rounded = np.round(sample / np.linalg.norm(sample), 2) + 0.0
        self.fingerprint = f"{model}:{sha256(rounded.tobytes()).hexdigest()[:16]}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return (texts, dim); zeros for a text without a word."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        worded = [row for row, text in enumerate(texts) if text.strip()]
        for start in range(0, len(worded), _BATCH):
            rows = worded[start : start + _BATCH]
            embedded = self._embeddings([texts[row] for row in rows])
            if embedded.shape[1] != self.dim:
                raise EngineProtocolError(
                    f"the embedding endpoint changed its width to {embedded.shape[1]}",
                    hint="fit and certify again if another model is served now",
                )
            vectors[rows] = embedded
        return vectors

    def _embeddings(self, texts: list[str]) -> Vectors:
        status, body = self._post(msgspec.json.encode({"model": self._model, "input": texts}))
        if status != http.client.OK:
            raise EngineRefused(
                f"the embedding endpoint answered {status}",
                status=status,
                body=body[:500].decode(errors="replace"),
                hint="check the address, the key and the model's name",
                retryable=status in {408, 429} or status >= 500,
            )
        try:
            items = sorted(msgspec.json.decode(body, type=_Reply).data, key=lambda i: i.index)
            vectors = np.array([item.embedding for item in items], np.float32)
        except (msgspec.MsgspecError, ValueError) as error:
            raise EngineProtocolError(
                f"the embedding endpoint's reply is wrong: {error}"
            ) from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise EngineProtocolError(
                f"the embedding endpoint answered {len(texts)} texts with {vectors.shape}"
            )
        return vectors

    def _post(self, body: bytes) -> tuple[int, bytes]:
        kind = (
            http.client.HTTPSConnection
            if self._url.scheme == "https"
            else http.client.HTTPConnection
        )
        connection = kind(str(self._url.hostname), self._url.port, timeout=self._timeout_s)
        try:
            connection.request("POST", self._url.path, body, self._headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnreachable(
                f"the embedding endpoint cannot be reached: {error}",
                hint="is the server running, and is the address right?",
                retryable=True,
            ) from error
        finally:
            connection.close()

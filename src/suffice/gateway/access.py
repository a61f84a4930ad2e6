"""Who may ask, and for how much: the key that a client presents, its rate and its budget."""

import asyncio
import binascii
import time
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal

from suffice.engines.dialects import output_limit
from suffice.gateway.keys import KeyRing, read_keys
from suffice.gateway.limits import Admission, KeyLimiter, Refused, spent_on
from suffice.gateway.problems import Problem
from suffice.gateway.wire import ChatRequest
from suffice.ledger import Ledger
from suffice.meter import max_usd
from suffice.pipeline import Pipeline
from suffice.types import Charge, Rung


class Access:
    """Admits requests by their keys; without a `limiter` anybody may ask, without limit."""

    def __init__(self, limiter: KeyLimiter | None = None) -> None:
        self.limiter = limiter

    def authenticate(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Return the name of the key that was sent, None where none is needed; Problem for none."""
        if self.limiter is None:
            return None
        key = self.limiter.ring.find(presented_key(headers))
        if key is None:
            raise Problem(
                "no such API key, or none was sent",
                status=401,
                code="invalid_api_key",
                hint="send the header: Authorization: Bearer KEY",
            )
        return key.name

    def admit(
        self, headers: Mapping[bytes, bytes], chat: ChatRequest, pipeline: Pipeline
    ) -> Admission | None:
        """Reserve a request's worst case for its key; raises Problem over a rate or a budget."""
        if self.limiter is None:
            return None
        admission = self.limiter.admit(
            presented_key(headers),
            worst_usd=worst_usd(chat, pipeline),
            now=datetime.now(UTC),
            now_s=time.monotonic(),
        )
        if isinstance(admission, Refused):
            raise Problem(
                admission.message,
                status=admission.status,
                code=admission.code,
                hint=admission.hint,
                retry_after_s=admission.retry_after_s,
            )
        return admission

    def settle(self, admission: Admission | None, charge: Charge | None) -> None:
        """Put the charge in the place of what was reserved; None means that no engine was asked."""
        if self.limiter is not None and admission is not None:
            self.limiter.settle(admission, charge)

    async def read_spending(self, ledger: Ledger) -> None:
        """Take in what other workers, or this one before a restart, have spent for each key."""
        if self.limiter is not None:
            day, before = datetime.now(UTC).date(), self.limiter.settled()
            spent = await asyncio.to_thread(spent_on, ledger, day)
            self.limiter.refresh(spent, before=before, day=day)

    def read_keys(self, path: str, *, assumed_usd: Decimal, workers: int) -> None:
        """Read a key file, new or changed; raises ConfigError, and then the old keys hold."""
        ring = KeyRing(read_keys(path))
        if self.limiter is None:
            self.limiter = KeyLimiter(ring, assumed_usd=assumed_usd, workers=workers)
        else:
            self.limiter.reload(ring)


def presented_key(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the key of an Authorization or x-api-key header, or None without one.

    Browsers, for the dashboard, send it as the password of a basic authentication.
    """
    kind, _, secret = headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"basic":
        with suppress(binascii.Error):
            return b64decode(secret, validate=True).partition(b":")[2].decode("utf-8", "replace")
    if kind.lower() == b"bearer":
        return secret.strip().decode("latin-1")
    plain = headers.get(b"x-api-key")
    return None if plain is None else plain.strip().decode("latin-1")


def worst_usd(chat: ChatRequest, pipeline: Pipeline) -> Decimal | None:
    """Price the largest answer that a request allows on the dearest rung; None if unknown."""
    rungs = pipeline.ladder if chat.rung is None else (chat.rung,)
    costs = [_worst_on(rung, chat, pipeline) for rung in rungs]
    known = [usd for usd in costs if usd is not None]
    return max(known) if known and len(known) == len(costs) else None


def _worst_on(rung: Rung, chat: ChatRequest, pipeline: Pipeline) -> Decimal | None:
    """Price the largest answer of one rung, twice where a second call may be made beside it.

    A rung that stops early reads its prompt anew for each piece and probe: it has no such price.
    """
    price, limit = pipeline.prices.get(rung.price or ""), output_limit(chat.request, rung)
    if price is None or limit is None or rung.early_stop is not None:
        return None
    usd = max_usd(
        price,
        input_tokens=len(chat.request.text.encode()),  # a token is hardly ever below a byte
        output_tokens=max(limit, 0) * (chat.request.params.get("n") or 1),
    )
    return usd * 2 if rung.name in pipeline.hedge_after_s else usd

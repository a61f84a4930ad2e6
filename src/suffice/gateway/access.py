"""Who may ask, and for how much: the key that a client presents, its rate and its budget."""

import binascii
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from typing import NamedTuple

from suffice.engines.dialects import output_limit
from suffice.engines.response_requests import FEWEST_TOKENS
from suffice.engines.surcharges import most_searches
from suffice.gateway.admissions import AdmissionDesk
from suffice.gateway.keys import Key, Scope
from suffice.gateway.limits import Admission, Settlement, Wish
from suffice.gateway.priced_fields import samples
from suffice.gateway.problems import Problem
from suffice.gateway.prompt_size import most_prompt_tokens, most_tokens
from suffice.gateway.wire import ChatRequest
from suffice.meter import max_usd
from suffice.pipeline import Pipeline
from suffice.types import Charge, Rung

# What is reserved at most: more than any limit allows, and no more than a column can hold.
_MOST_TOKENS, _MOST_USD = 10**12, Decimal(10**6)


class Access:
    """Admits requests by their keys; without a `desk` anybody may ask, without limit.

    `assumed_tokens` stands for the length of an answer that neither request nor rung limits.
    """

    def __init__(self, desk: AdmissionDesk | None = None, *, assumed_tokens: int = 0) -> None:
        self.desk = desk
        self.assumed_tokens = assumed_tokens

    def authenticate(self, headers: Mapping[bytes, bytes], scope: Scope | None) -> Key | None:
        """Return the key that was sent, None where none is needed.

        Raises Problem for no key, and for one that does not open `scope`; None opens to every key.
        """
        if self.desk is None:
            return None
        key = self.desk.limiter.ring.find(presented_key(headers))
        if key is None:
            raise Problem(
                "no such API key, or none was sent",
                status=401,
                code="invalid_api_key",
                hint="send the header: Authorization: Bearer KEY",
            )
        if scope is not None and not key.opens(scope):
            raise Problem(
                f"this key does not open {scope}",
                status=403,
                code="not_permitted",
                hint="ask the operator for a key with that scope",
            )
        return key

    async def enter(self, key: Key | None, *, request_id: str) -> Admission | None:
        """Take one of the minute's requests and a parallel place, before the body is read.

        Raises Problem over a rate, and LedgerError.
        """
        if self.desk is None or key is None:
            return None
        admission = Admission(key=key, request_id=request_id)
        if key.requests_per_minute is None and key.parallel_requests is None:
            return admission
        return await self._decide(Wish(admission=admission, enters=True))

    async def reserve(
        self,
        admission: Admission | None,
        chat: ChatRequest,
        pipeline: Pipeline,
        *,
        models: Mapping[str, Rung | None],
    ) -> Admission | None:
        """Reserve a request's worst case for its key.

        `models` says what every name asks for. Raises Problem for a model that the key may not ask
        for and over a limit, and LedgerError.
        """
        if self.desk is None or admission is None:
            return None
        key, usd, tokens = admission.key, None, None
        check_model(key, chat, models)
        if key.budget_usd_per_day is None and key.tokens_per_minute is None:
            return admission
        worst = worst_case(chat, assumed_tokens=self.assumed_tokens)
        if key.budget_usd_per_day is not None:
            known_usd = worst.usd(chat, pipeline)
            usd = self.desk.limiter.assumed_usd if known_usd is None else known_usd
        if key.tokens_per_minute is not None:
            tokens = worst.tokens(chat, pipeline)
        return await self._decide(Wish(admission=admission, usd=usd, tokens=tokens))

    def settle(
        self, admission: Admission | None, charge: Charge | None, *, tokens: int | None = None
    ) -> None:
        """Put the charge in the place of what was reserved; None means that no engine was asked.

        Call it after the ledger row is written. An unknown charge counts as the reserved one.
        """
        if self.desk is not None and admission is not None and admission.key.limited:
            self.desk.settle(Settlement(admission=admission, charge=charge, tokens=tokens))

    async def _decide(self, wish: Wish) -> Admission:
        assert self.desk is not None
        decision = await self.desk.decide(wish)
        if isinstance(decision, Admission):
            return decision
        raise Problem(
            decision.message,
            status=decision.status,
            code=decision.code,
            hint=decision.hint,
            retry_after_s=decision.retry_after_s,
        )

    async def close(self) -> None:
        """Settle what is left."""
        if self.desk is not None:
            await self.desk.close()


def check_model(key: Key, chat: ChatRequest, models: Mapping[str, Rung | None]) -> None:
    """Raise Problem where a key may not ask for what a request asks for."""
    if key.models is None:
        return
    allowed = [models[name] for name in key.models if name in models]
    if chat.rung not in allowed:
        raise Problem(
            f"this key may not ask for {chat.model!r}"
            + ("" if chat.rung is None else f" on the rung {chat.rung.name!r}"),
            status=403,
            code="not_permitted",
            param="model",
            hint=f"models of this key: {', '.join(key.models)}",
        )


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


class WorstCase(NamedTuple):
    """The largest answer that a request allows, after a prompt of so many tokens.

    `assumed_tokens` stands for the length of an answer that neither request nor rung limits.
    """

    prompt_tokens: int
    assumed_tokens: int

    def usd(self, chat: ChatRequest, pipeline: Pipeline) -> Decimal | None:
        """Price it; None if unknown. Raises Problem for searches that have no price.

        A policy that defers pays for each rung on its way up; otherwise the dearest rung answers.
        """
        costs = [self._usd_on(rung, chat, pipeline) for rung in _rungs(chat, pipeline)]
        known = [usd for usd in costs if usd is not None]
        if not known or len(known) < len(costs):
            return None
        usd = max(known) if pipeline.bundle is None else sum(known, Decimal(0))
        return min(usd, _MOST_USD)

    def tokens(self, chat: ChatRequest, pipeline: Pipeline) -> int:
        """Count the most tokens that it takes on one rung, in and out."""
        longest = max(self._answer_tokens(rung, chat) for rung in _rungs(chat, pipeline))
        return min(self.prompt_tokens + longest, _MOST_TOKENS)

    def _usd_on(self, rung: Rung, chat: ChatRequest, pipeline: Pipeline) -> Decimal | None:
        """Price it on one rung, twice where a second call may be made beside it.

        A rung that stops early reads its prompt anew for each piece and probe, and has no such
        price.
        """
        price = pipeline.prices.get(rung.price or "")
        if price is None or rung.early_stop is not None:
            return None
        searches = most_searches({**chat.request.params, **rung.params})
        if searches and not all("web_searches" in rates.kinds for rates in price.rates):
            raise Problem(
                f"rung {rung.name!r} has no price for a search of the web, and a budget pays for "
                "this request",
                status=400,
                hint="ask without a search, or have the operator state `web_searches` in the "
                "`kinds` of the price",
            )
        usd = max_usd(
            price,
            input_tokens=self.prompt_tokens,
            output_tokens=self._answer_tokens(rung, chat),
            searches=searches,
        )
        return usd * 2 if rung.name in pipeline.hedge_after_s else usd

    def _answer_tokens(self, rung: Rung, chat: ChatRequest) -> int:
        """Count the longest answer; OpenAI charges what it was predicted to be, used or not."""
        limit, params = output_limit(chat.request, rung), chat.request.params
        longest = self.assumed_tokens if limit is None else max(limit, FEWEST_TOKENS)
        return longest * samples(params) + most_tokens(params.get("prediction") or {})


def worst_case(chat: ChatRequest, *, assumed_tokens: int) -> WorstCase:
    """Return the largest answer that a request allows, after its prompt."""
    return WorstCase(prompt_tokens=most_prompt_tokens(chat.request), assumed_tokens=assumed_tokens)


def _rungs(chat: ChatRequest, pipeline: Pipeline) -> tuple[Rung, ...]:
    return tuple(pipeline.ladder) if chat.rung is None else (chat.rung,)

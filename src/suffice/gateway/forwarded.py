"""What clients send to /v1/completions and /v1/embeddings, and which rung it goes to."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from suffice.engines.dialects import detours, within_bounds
from suffice.gateway.exchange import Exchange
from suffice.gateway.priced_fields import check_samples, samples, unpriced_tiers
from suffice.gateway.problems import Problem
from suffice.gateway.serving import Serving
from suffice.gateway.wire import ChatRequest, rung_asked, unknown_model
from suffice.types import JSON, Request, Rung

_USUAL_LIMIT = 16  # tokens of a completion whose request sets no limit, by OpenAI's API
_FORWARDING = ("openai", "embedded")  # kinds of engines with such paths


class Forwarded(Struct, frozen=True, kw_only=True):
    """A request to be forwarded: `asked` is what limits and books see of it, `body` goes out."""

    path: str
    rung: Rung
    asked: ChatRequest
    body: JSON
    prompt_tokens: int | None = None


def read_completion(exchange: Exchange, fields: JSON, serving: Serving) -> Forwarded:
    """Read the body of POST /v1/completions; raises Problem."""
    prompt = fields.get("prompt")
    named = rung_asked(fields, exchange.headers, serving)
    rung = named or serving.pipeline.ladder.reference
    _check_kind(rung, serving, path="/v1/completions", others=serving.pipeline.ladder)
    asked = fields.get("max_tokens")
    if asked is not None and (not isinstance(asked, int) or isinstance(asked, bool) or asked < 0):
        wanted = "max_tokens must be a whole number of 0 or more"
        raise Problem(wanted, status=400, param="max_tokens", hint="or leave it out")
    most = _USUAL_LIMIT if asked is None else asked  # made explicit: engines differ in theirs
    most = min(most, most if rung.max_output_tokens is None else rung.max_output_tokens)
    check_samples(fields)
    body = {**_bounded(exchange, fields), "model": rung.model, "max_tokens": most}
    for name in unpriced_tiers(fields, (rung,), prices=serving.pipeline.prices):
        del body[name]
        exchange.ignore(name)
    streamed, options = fields.get("stream") is True, fields.get("stream_options")
    options = options if isinstance(options, dict) else {}
    if streamed:
        body["stream_options"] = {**options, "include_usage": True}
    prompts, text, tokens = _prompts(prompt, at="prompt")
    if isinstance(fields.get("suffix"), str):
        text += "\n\n" + fields["suffix"]
    answers = prompts * samples(fields)
    request = _request(exchange, text, params={"max_tokens": most, "n": answers, "logprobs": True})
    return Forwarded(
        path="/completions",
        rung=rung,
        body=body,
        prompt_tokens=tokens,
        asked=ChatRequest(
            request=request,
            model=str(fields["model"]),
            stream=streamed,
            wants_usage=options.get("include_usage") is True,
            rung=named,
        ),
    )


def read_embedding(exchange: Exchange, fields: JSON, serving: Serving) -> Forwarded:
    """Read the body of POST /v1/embeddings; raises Problem."""
    rung = _embedding_rung(fields.get("model"), serving)
    _, text, tokens = _prompts(fields.get("input"), at="input")
    request = _request(exchange, text, params={"max_tokens": 0, "n": 1})
    return Forwarded(
        path="/embeddings",
        rung=rung,
        body={**_bounded(exchange, fields), "model": rung.model, **rung.params},
        prompt_tokens=tokens,
        asked=ChatRequest(
            request=request,
            model=str(fields["model"]),
            stream=False,
            wants_usage=False,
            rung=rung,
        ),
    )


def _bounded(exchange: Exchange, fields: JSON) -> JSON:
    """Return the fields that may go out; what would lead past the rung is named."""
    for name in detours(fields):
        exchange.ignore(name)
    return within_bounds(fields)


def _embedding_rung(model: Any, serving: Serving) -> Rung:
    rung = serving.embeddings.get(model) if isinstance(model, str) else None
    if rung is not None:
        return rung
    if not isinstance(model, str):
        raise Problem("model must be a name", status=400, param="model", hint="GET /v1/models")
    if model not in serving.models:
        raise unknown_model(model, serving, param="model")
    rung = serving.models[model]
    if rung is None:
        raise Problem(
            f"model {model!r} leaves the choice to the policy, which chooses for chats alone",
            status=400,
            param="model",
            hint=_embedding_hint(serving),
        )
    _check_kind(rung, serving, path="/v1/embeddings", others=serving.config.embedding)
    return rung


def _embedding_hint(serving: Serving) -> str:
    names = ", ".join(serving.embeddings)
    return f"ask for one of: {names}" if names else "the operator may add an [[embedding]] section"


def _check_kind(rung: Rung, serving: Serving, *, path: str, others: Iterable[Rung]) -> None:
    """Refuse a rung whose engine has no such path, and name those that may have it."""
    kinds = {name: engine.kind for name, engine in serving.config.engine.items()}
    if kinds[rung.engine] in _FORWARDING:
        return
    able = [other.name for other in others if kinds[other.engine] in _FORWARDING]
    raise Problem(
        f"rung {rung.name!r} does not serve {path}: its engine is of the kind {kinds[rung.engine]}",
        status=400,
        param="model",
        hint=f"ask for one of: {', '.join(able)}" if able else f"no rung here serves {path}",
    )


def _prompts(value: Any, *, at: str) -> tuple[int, str, int | None]:
    """Return the number of prompts, their text, and the tokens where they are sent as tokens."""
    values = value if isinstance(value, list) else [value]
    if values and all(isinstance(text, str) for text in values):
        return len(values), "\n\n".join(values), None
    lists = [values] if values and isinstance(values[0], int) else values
    if not lists or not all(
        isinstance(tokens, list) and tokens and all(type(token) is int for token in tokens)
        for tokens in lists
    ):
        raise Problem(
            f"{at} must be a text, or a list of texts or of token ids",
            status=400,
            param=at,
            hint="see the API's own reference",
        )
    shown = msgspec.json.encode(lists).decode()
    return len(lists), shown, sum(map(len, lists))


def _request(exchange: Exchange, text: str, *, params: JSON) -> Request:
    message = {"role": "user", "content": text}
    return Request(request_id=exchange.request_id, messages=(message,), params=params)

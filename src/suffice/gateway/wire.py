"""What clients send and get: chat requests read strictly where we act on them, answers shaped."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from suffice.engines.dialects import detours
from suffice.engines.messages import without_native_effort
from suffice.engines.render import completion_body, completion_head, event, usage_chunk
from suffice.gateway.effort import AUTO, FIELD, effort_for
from suffice.gateway.priced_fields import check_limits, check_samples, unpriced_tiers
from suffice.gateway.problems import Problem
from suffice.gateway.sealed import MARK, unsealed_messages
from suffice.gateway.serving import Serving
from suffice.gateway.trim import Trim
from suffice.ledger import Entry
from suffice.types import JSON, Completion, CountSource, NativeBody, Request, Rung

RUNG, ALPHA, GROUP = b"x-suffice-rung", b"x-suffice-alpha", b"x-suffice-group"
REQUEST_ID = b"x-suffice-request-id"
DONE = b"data: [DONE]\n\n"
_OURS = frozenset({"model", "messages", "stream", "stream_options"})

Headers = list[tuple[bytes, bytes]]


class ChatRequest(Struct, frozen=True, kw_only=True):
    """A chat request as the client meant it; `rung` is None where the policy is to choose.

    `ignored` names fields that were not kept, whichever rung answers.
    """

    request: Request
    model: str
    stream: bool
    wants_usage: bool
    rung: Rung | None = None
    alpha: float | None = None
    ignored: tuple[str, ...] = ()


class BookedAnswer(Struct, frozen=True, kw_only=True):
    """An answer with the entry that is booked for it."""

    completion: Completion
    entry: Entry
    rung: Rung
    request: Request
    fallback: str | None = None
    trim: Trim | None = None


def read_chat(
    body: bytes,
    headers: Mapping[bytes, bytes],
    serving: Serving,
    *,
    request_id: str,
    native: NativeBody | None = None,
    custom_tools: dict[str, JSON] | None = None,
) -> ChatRequest:
    """Read the body of POST /v1/chat/completions; raises Problem for what cannot be meant.

    `native` is what it was translated from, and asks for no effort where the chat request may not;
    `custom_tools` are those of `Request`.
    """
    fields = _fields(body)
    if MARK.encode() in body:
        fields["messages"] = unsealed_messages(fields["messages"])
    options = fields.get("stream_options")
    params = {name: fields[name] for name in fields.keys() - _OURS}
    rung = rung_asked(fields, headers, serving)
    effort, ignored = params.pop(FIELD, None), []
    if effort not in (None, AUTO):
        kept = effort_for(effort, rung, rule=serving.config.gateway.effort)
        params |= {} if kept is None else {FIELD: kept}
        ignored = [] if kept == effort else [FIELD]
    rule = serving.config.gateway.effort
    if native is not None and (rung is None or rule == "ignore" or ignored):
        plain = without_native_effort(native.body)
        ignored = [FIELD] if plain != native.body else ignored
        native = replace(native, body=plain)
    asked = params if native is None else {**params, **native.body}
    rungs = serving.pipeline.ladder if rung is None else (rung,)
    for name in unpriced_tiers(asked, rungs, prices=serving.pipeline.prices):
        params.pop(name, None)
        ignored = [*ignored, name]
        if native is not None:
            native = replace(native, body={k: v for k, v in native.body.items() if k != name})
    ignored = [*ignored, *detours(asked)]
    group, bundle = headers.get(GROUP), serving.pipeline.bundle
    if group and rung is None and bundle is not None and bundle.policy.text_groups is not None:
        ignored = [*ignored, GROUP.decode()]
    return ChatRequest(
        request=Request(
            request_id=request_id,
            messages=tuple(fields["messages"]),
            group=group.decode("utf-8", "replace") if group else None,
            params=params,
            native=native,
            custom_tools=custom_tools or {},
        ),
        model=fields["model"],
        stream=fields.get("stream") is True,
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
        rung=rung,
        alpha=_alpha(headers, rung),
        ignored=tuple(ignored),
    )


def whole(answer: BookedAnswer) -> bytes:
    """Write the body of an answer: the engine's own, with our usage and our account added."""
    completion = answer.completion
    if completion.wire is None:
        body = completion_body(completion, request=answer.request, model=answer.rung.model)
        body = body if answer.trim is None else answer.trim.chunk(body)
        return msgspec.json.encode(body | {"usage": _usage({}, completion), **account_of(answer)})
    if answer.trim is not None:
        body = answer.trim.chunk(msgspec.json.decode(completion.wire))
        return msgspec.json.encode(_completed(body, answer))
    if not _counted(completion) and b'"suffice"' not in completion.wire:
        more = msgspec.json.encode(_missing(completion.wire, answer) | account_of(answer))
        return completion.wire.rstrip()[:-1] + b"," + more[1:]
    fields = msgspec.json.decode(completion.wire, type=dict[str, Raw])
    missing = _missing(completion.wire, answer)
    return msgspec.json.encode(_completed({**fields, **missing}, answer))


def _missing(wire: bytes, answer: BookedAnswer) -> JSON:
    """Return what strict clients look for at the head of a chat completion and do not find."""
    if b'"object"' in wire or b'"message"' not in wire:
        return {}
    fields = msgspec.json.decode(wire, type=dict[str, Raw])
    head = completion_head(answer.request, model=answer.rung.model, kind="chat.completion")
    return {name: value for name, value in head.items() if name not in fields}


def tail(answer: BookedAnswer, *, wants_usage: bool) -> bytes:
    """Write the end of a stream: the usage, where it was asked for, and [DONE]."""
    completion = answer.completion
    if completion.wire is None:
        if not wants_usage:
            return DONE
        chunk = usage_chunk(answer.request, model=answer.rung.model)
        return event(chunk | {"usage": _usage({}, completion), **account_of(answer)}) + DONE
    fields = msgspec.json.decode(completion.wire, type=dict[str, Raw])
    if wants_usage:
        return event(_completed(fields, answer)) + DONE
    if bytes(fields.get("choices", Raw(b"[]"))).strip() in (b"[]", b"null"):
        return DONE
    del fields["usage"]  # it came in a chunk that says more than that
    return event(fields) + DONE


def answer_head(rung: Rung, *, request_id: str, certificate_id: str | None) -> Headers:
    """Return the headers that every answer has."""
    return [
        (RUNG, rung.name.encode("ascii", "backslashreplace")),
        (b"x-suffice-certificate", (certificate_id or "none").encode()),
        (REQUEST_ID, request_id.encode()),
    ]


def costs(entry: Entry) -> Headers:
    """Return the headers that say what an answer cost and saved; absent where unknown."""
    amounts = ((b"x-suffice-cost-usd", entry.charge.usd), (b"x-suffice-saving-usd", saving(entry)))
    return [(name, plain(usd).encode()) for name, usd in amounts if usd is not None]


def plain(usd: Decimal) -> str:
    """Write dollars exactly, with no exponent and no idle zeros."""
    return f"{usd.normalize():f}"


def saving(entry: Entry) -> Decimal | None:
    """Return what the reference would have cost more; None when either is unknown."""
    spent = entry.charge.usd
    return None if spent is None or entry.reference_usd is None else entry.reference_usd - spent


def json_object(body: bytes) -> JSON:
    """Read a body that must be a JSON object; raises Problem."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(
            f"the body is not JSON: {error}", status=400, hint="send one JSON object as UTF-8"
        ) from error
    if not isinstance(fields, dict):
        raise Problem("the body is no JSON object", status=400, hint='send {"model": ..., ...}')
    return cast("JSON", fields)


def _fields(body: bytes) -> JSON:
    fields = json_object(body)
    messages = fields.get("messages")
    if not (isinstance(messages, list) and messages and all(isinstance(m, dict) for m in messages)):
        raise Problem(
            "messages must be a list of one message or more",
            status=400,
            param="messages",
            hint='such as [{"role": "user", "content": "Hello"}]',
        )
    for name in ("stream", "stream_options"):
        _check_type(name, fields.get(name))
    check_samples(fields)
    check_limits(fields)
    return fields


_TYPES: dict[str, tuple[type, str]] = {
    "stream": (bool, "true or false"),
    "stream_options": (dict, "an object"),
}


def _check_type(name: str, value: Any) -> None:
    kind, wanted = _TYPES[name]
    if value is not None and not isinstance(value, kind):
        raise Problem(f"{name} must be {wanted}", status=400, param=name, hint="or leave it out")


def rung_asked(fields: JSON, headers: Mapping[bytes, bytes], serving: Serving) -> Rung | None:
    """Find the rung that is asked for by model or header; None leaves it to the policy."""
    model = fields.get("model")
    if not isinstance(model, str):
        raise Problem("model must be a name", status=400, param="model", hint="GET /v1/models")
    rung = _named(model, serving, param="model")
    forced = headers.get(RUNG)
    if forced is not None:
        name = forced.decode("utf-8", "replace")
        chosen = _named(name, serving, param=RUNG.decode())
        if rung is not None and chosen != rung:
            raise Problem(
                f"model {model!r} and header x-suffice-rung {name!r} ask for two rungs",
                status=400,
                param="x-suffice-rung",
                hint="leave the header out, or ask for the model `suffice`",
            )
        rung = chosen
    if fields.get(FIELD) == AUTO and forced is None:
        return None
    return rung


def _named(name: str, serving: Serving, *, param: str) -> Rung | None:
    try:
        return serving.models[name]
    except KeyError:
        raise unknown_model(name, serving, param=param) from None


def unknown_model(name: str, serving: Serving, *, param: str) -> Problem:
    """Return the Problem of a name that nothing here has."""
    return Problem(
        f"there is no model {name!r}",
        status=404,
        code="model_not_found",
        param=param,
        hint=f"models here: {', '.join(serving.models)}",
    )


def _alpha(headers: Mapping[bytes, bytes], rung: Rung | None) -> float | None:
    text = headers.get(ALPHA)
    if text is None:
        return None
    try:
        alpha = float(text)
    except ValueError:
        alpha = 0.0
    if not 0 < alpha < 1:
        raise Problem(
            "x-suffice-alpha must lie between 0 and 1",
            status=400,
            param="x-suffice-alpha",
            hint="0.05 is a usual value",
        )
    if rung is not None:
        raise Problem(
            "x-suffice-alpha and a rung asked for by name contradict each other",
            status=400,
            param="x-suffice-alpha",
            hint="alpha is for the policy: ask for the model `suffice`, or leave the header out",
        )
    return alpha


def _counted(completion: Completion) -> dict[str, str]:
    """Name the counts of a reply's usage that its engine did not report, and how we know them."""
    usage = completion.usage
    named = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }
    return {
        name: count.source.value
        for name, count in named.items()
        if count is not None and count.source is not CountSource.REPORTED
    }


def _usage(reported: JSON, completion: Completion) -> JSON:
    """Complete the usage that an engine reports with what was counted or estimated here."""
    usage, shown = completion.usage, dict(reported)
    if usage.input_tokens is not None:
        shown["prompt_tokens"] = usage.input_tokens.tokens
    if usage.output_tokens is not None:
        shown["completion_tokens"] = usage.output_tokens.tokens
    if usage.reasoning_tokens is not None:
        details = shown.get("completion_tokens_details")
        details = dict(details) if isinstance(details, dict) else {}
        details["reasoning_tokens"] = usage.reasoning_tokens.tokens
        shown["completion_tokens_details"] = details
    if usage.input_tokens is not None and usage.output_tokens is not None:
        shown["total_tokens"] = usage.input_tokens.tokens + usage.output_tokens.tokens
    return shown


def _completed(fields: Mapping[str, Any], answer: BookedAnswer) -> JSON:
    body: JSON = dict(fields)
    if _counted(answer.completion):
        reported = fields.get("usage")
        reported = msgspec.json.decode(reported) if isinstance(reported, Raw) else reported
        body["usage"] = _usage(reported if isinstance(reported, dict) else {}, answer.completion)
    return body | account_of(answer)


def account_of(answer: BookedAnswer) -> JSON:
    """Write the `suffice` object: who answered, under which promise, at what cost."""
    entry = answer.entry
    spent, saved = entry.charge.usd, saving(entry)
    account: JSON = {
        "request_id": entry.request_id,
        "rung": entry.rung,
        "certificate": entry.certificate_id,
        "cost_usd": None if spent is None else plain(spent),
        "saving_usd": None if saved is None else plain(saved),
        "estimated": entry.charge.estimated,
        "counted_here": _counted(answer.completion),
    }
    return {"suffice": account | ({"fallback": answer.fallback} if answer.fallback else {})}

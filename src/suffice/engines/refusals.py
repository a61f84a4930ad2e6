"""Errors of an engine, by HTTP status or inside an answer, told with what to do about them."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeGuard

import msgspec

from suffice.engines.usage import read_usage
from suffice.errors import EngineRefused, ErrorDetail
from suffice.masking import masked
from suffice.types import JSON

if TYPE_CHECKING:
    import aiohttp

_RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_BODY_BYTES = 16_384
_SHORTEST_SECRET = 8
_BODY_CHARACTERS = 500
_WORDS_CHARACTERS = 4_000
_WORDS = ("message", "msg", "error_msg", "error_message", "detail", "errorMessage")
_TOO_LONG = (  # in small letters
    "exceed_context_size",  # llama.cpp
    "exceeds the available context size",  # llama.cpp of 2025
    "maximum context length",  # vLLM, OpenAI, OpenRouter
    "context length is only",  # vLLM, SGLang
    "maximum model length",  # vLLM
    "context_length_exceeded",  # OpenAI
    "longer than the model's context length",  # SGLang, Together
    "maximum allowed input length",  # Poolside
    "too large for model",  # Mistral
    "prompt is too long",  # Anthropic
    "prompt too long",  # Ollama
    "input is too long",  # Bedrock
    "exceeds the maximum number of tokens",  # Gemini
    "exceeds the context window",  # OpenAI Responses
    "context window exceeds limit",  # MiniMax
    "range of input length",  # DashScope
    "maximum prompt length",  # xAI
    "exceeded model token limit",  # Kimi
    "reduce the length of the messages",  # Groq
    "prompt exceeds max length",  # Zhipu
    "model_max_prompt_tokens_exceeded",  # Copilot
    "greater than the context length",  # LM Studio
    "context size has been exceeded",  # LM Studio
    "`inputs` tokens + `max_new_tokens`",  # TGI
)
# The HTTP status that a name in the body of an error stands for, where the status itself is 200.
# MiniMax's own codes, which other vendors use for other things:
# https://platform.minimax.io/docs/api-reference/errorcode.md
_MINIMAX = {
    1002: 429,  # too many requests
    1004: 401,
    1008: 402,  # no balance
    1026: 400,  # the prompt is not allowed
    1039: 429,  # too many tokens a minute
    1041: 429,  # too many connections
    1042: 400,
    2013: 400,
    2049: 401,
    2056: 429,  # the plan is used up
}
_STATUSES = {
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "exceed_context_size_error": 400,
    "BadRequestError": 400,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "InvalidParameter": 400,
    "BadRequest": 400,
    "bad_request_error": 400,
    "DataInspectionFailed": 400,  # DashScope, as those that begin with a capital
    "data_inspection_failed": 400,
    "content_policy_violation": 400,
    "content_filter": 400,
    "InvalidApiKey": 401,
    "Arrearage": 402,  # the account is in arrears
    "AccessDenied": 403,
    "Model.AccessDenied": 403,
    "ModelNotFound": 404,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "UNAUTHENTICATED": 401,
    "permission_error": 403,
    "PERMISSION_DENIED": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "NOT_FOUND": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "RESOURCE_EXHAUSTED": 429,
    "Throttling": 429,
    "1113": 429,  # Zhipu: the account is in arrears; 1302 to 1313: too much at once
    "1302": 429,
    "1303": 429,
    "1304": 429,
    "1305": 429,
    "1308": 429,
    "1310": 429,
    "1313": 429,
    "1210": 400,
    "1211": 404,
    "1213": 400,
    "1214": 400,
    "1261": 400,  # Zhipu: the prompt is too long
    "1301": 400,  # Zhipu: unsafe content
    "api_error": 500,
    "server_error": 500,
    "overloaded_error": 529,
    "UNAVAILABLE": 503,
    "timeout_error": 504,
    "DEADLINE_EXCEEDED": 504,
}
_WAIT = re.compile(
    r"(?:try again|retry) (?:in|after) (?:(\d{1,4})m)?(\d{1,6}(?:\.\d{1,9})?) ?(ms|s\b|seconds?\b)",
    flags=re.IGNORECASE | re.ASCII,
)
_PHRASES = {status.value: status.phrase for status in HTTPStatus}  # the server's may say anything
_HINTS = {
    400: "the body says what this server does not take; see the rung's params and the dialect",
    404: "does the url end in /v1, and does the server know the rung's model?",
    422: "the body says which field this server does not know; is the dialect right?",
    429: "the server is at its limit: lower the concurrency, or raise max_retries",
}


async def refused(
    response: "aiohttp.ClientResponse", *, key: str | None, key_env: str | None
) -> EngineRefused:
    """Turn an HTTP error into an EngineRefused; keys are blotted out of what the server says."""
    text = (await response.content.read(_BODY_BYTES)).decode(errors="replace")
    text = masked(_without(text, key))
    status, body = response.status, text[:_BODY_CHARACTERS]
    try:
        document = msgspec.json.decode(text)
        error = _error_of(document) or (document if isinstance(document, dict) else None)
    except (msgspec.DecodeError, RecursionError):
        error = None
    refusal = EngineRefused(
        f"{response.url} answered HTTP {status} {_PHRASES.get(status, '')}: {body}",
        status=status,
        body=body,
        hint=_hint(status, text, key_env=key_env),
        retryable=status in _RETRYABLE,
        retry_after_s=_wait_ms(response.headers.get("retry-after-ms"))
        or retry_after_s(response.headers.get("Retry-After"))
        or _retry_delay_s(error)
        or _wait_in_words(text, status=status),
    )
    refusal.detail = _detail(error, text=text)
    return refusal


def error_in(body: object, *, retry_after: str | None = None) -> EngineRefused | None:
    """Return the error that a body or an event of HTTP 200 tells; None where it tells none.

    It carries the usage that stands beside the error.
    """
    error = _error_of(body)
    if error is None:
        return None
    text = masked(str(body))
    detail = _detail(error, text=text)
    status = _status_of(error, words=detail.message)
    refusal = EngineRefused(
        f"the engine broke off with an error: {detail.message}"[:_BODY_CHARACTERS],
        status=status,
        body=text[:_BODY_CHARACTERS],
        hint=_hint(status, text, key_env=None) if status < 500 else "see the engine's log",
        retryable=status == 429 or status >= 500,
        retry_after_s=retry_after_s(retry_after)
        or _retry_delay_s(error)
        or _wait_in_words(text, status=status),
    )
    refusal.detail = detail
    usage = body.get("usage") if isinstance(body, dict) else None
    if isinstance(usage, dict) and usage:
        refusal.used = read_usage(usage, reasoning="")
    return refusal


def retry_after_s(header: str | None) -> float | None:
    """Read a Retry-After header, seconds or an HTTP date, as seconds from now; None if neither."""
    if header is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", header, flags=re.ASCII):
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _error_of(body: object) -> JSON | None:
    """Find the table that tells an error, in the form of any vendor."""
    if isinstance(body, list) and len(body) == 1:  # Gemini
        return _error_of(body[0])
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict) and error:
        return {**error, "request_id": body.get("request_id")}
    if error:
        return {**body, "message": error if isinstance(error, str) else str(error)}
    if "error" in (body.get("object"), body.get("type")) or body.get("success") is False:
        return body
    state = body.get("base_resp")
    if isinstance(state, dict) and state.get("status_code"):
        code = state["status_code"]
        status = _MINIMAX.get(code) if isinstance(code, int) else None
        return {"message": state.get("status_msg"), "code": code, "status": status}
    if body.get("choices") is not None or body.get("usage") is not None or "id" in body:
        return None
    values = [body.get(name) for name in _WORDS]
    return body if any(words and isinstance(words, str | list) for words in values) else None


def _without(text: str, key: str | None) -> str:
    """Blot out a key; a short one, which servers without keys are given, as a whole word alone."""
    if not key:
        return text
    if len(key) >= _SHORTEST_SECRET:
        return text.replace(key, "***")
    return re.sub(rf"(?<![\w-]){re.escape(key)}(?![\w-])", "***", text)


def _detail(error: JSON | None, *, text: str) -> ErrorDetail:
    error = error or {}
    words = next((error[name] for name in _WORDS if error.get(name)), text)
    if isinstance(words, dict) and isinstance(words.get("detail"), list):  # Mistral
        words = words["detail"]
    if isinstance(words, list):
        words = "; ".join(map(_fault, words))
    code, param, kind = error.get("code"), error.get("param"), error.get("type")
    if _is_too_long(text):
        code = "context_length_exceeded"
    return ErrorDetail(
        message=masked(str(words)[:_WORDS_CHARACTERS]),
        code=str(code) if isinstance(code, str | int) and not _is_status(code) else None,
        param=param if isinstance(param, str) else None,
        kind=kind if isinstance(kind, str) else None,
    )


def _fault(fault: object) -> str:
    """Read one of a list of faults, as FastAPI writes them: where it is, and what it is."""
    if not isinstance(fault, dict) or not isinstance(fault.get("msg"), str):
        return str(fault)
    place = fault.get("loc")
    at = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{at}: {fault['msg']}" if at else str(fault["msg"])


def _status_of(error: JSON, *, words: str) -> int:
    code = error.get("code")
    if _is_status(code):
        return int(code)
    for name in map(str, (code, error.get("type"), error.get("status"))):
        status = _STATUSES.get(name) or _STATUSES.get(name.partition(".")[0])
        if status is not None:
            return status
    for name in ("status", "http_code"):  # the second of MiniMax
        if _is_status(error.get(name)):
            return int(error[name])
    if _is_too_long(words):
        return 400
    if re.search(r"(?i)overloaded|at capacity", words):
        return 503
    return 429 if re.search(r"(?i)rate.?limit|too many requests|quota", words) else 500


def _is_too_long(words: str) -> bool:
    """Whether an error says that the prompt is too long; agents shorten their history then."""
    words = words.lower()
    return any(sign in words for sign in _TOO_LONG)


def _is_status(code: object) -> TypeGuard[int | str]:
    text = str(code)
    return text.isascii() and text.isdigit() and 400 <= int(text[:6]) < 600


def _retry_delay_s(error: JSON | None) -> float | None:
    """Read Gemini's advice: details of type RetryInfo with a retryDelay such as `17s`."""
    details = (error or {}).get("details")
    for detail in details if isinstance(details, list) else ():
        delay = str(detail.get("retryDelay")) if isinstance(detail, dict) else ""
        if re.fullmatch(r"\d{1,6}(\.\d{1,9})?s", delay):
            return float(delay[:-1])
    return None


def _wait_ms(header: str | None) -> float | None:
    """Read the header of OpenAI and Azure that tells milliseconds."""
    wait_ms = retry_after_s(header) if header and header.strip()[:1].isdecimal() else None
    return None if wait_ms is None else wait_ms / 1000


def _wait_in_words(text: str, *, status: int) -> float | None:
    """Read how long a limit lasts where only the words tell: `Please try again in 1m2.5s`."""
    told = _WAIT.search(text) if status == HTTPStatus.TOO_MANY_REQUESTS else None
    if told is None:
        return None
    minutes, number, unit = told.groups()
    return 60 * int(minutes or 0) + float(number) / (1000 if unit == "ms" else 1)


def _hint(status: int, body: str, *, key_env: str | None) -> str:
    if _is_too_long(body):
        return "shorten the prompt, or give the engine a longer context (embedded: context_tokens)"
    if status in (401, 403):
        return f"check the key in {key_env}" if key_env else "set api_key_env for this engine"
    return _HINTS.get(status, "see the engine's log")

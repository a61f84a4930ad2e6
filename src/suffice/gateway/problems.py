"""What a client is told when it gets no answer: the OpenAI error shape, with a hint."""

from math import ceil
from typing import Literal, get_args

import msgspec

from suffice.errors import (
    BudgetExceeded,
    EngineError,
    EngineRefused,
    EngineUnreachable,
    InputError,
    LedgerError,
    SufficeError,
)

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    426: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    500: "server_error",
    502: "upstream_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
_OF_THE_REQUEST = frozenset({400, 404, 409, 413, 415, 422, 429})  # upstream's word on the request


Code = Literal[
    "invalid_api_key",
    "not_permitted",
    "rate_limit_exceeded",
    "insufficient_quota",
    "model_not_found",
    "thread_not_found",
    "rung_busy",
    "deadline",
    "ledger_unavailable",
    "upstream_refused",
    "upstream_unreachable",
    "upstream_broken",
]
_CODES = frozenset(get_args(Code))


OF_REQUEST = frozenset({400, 404, 413, 415, 422})  # whose message may repeat what was sent


class Problem(SufficeError):
    """An HTTP error in the making: `status`, a short `code`, and the field `param` at fault."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        hint: str | None = None,
        code: Code | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retry_after_s is not None)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        self.allow: tuple[str, ...] = ()
        self.upgrade: str | None = None
        self.upstream_code: str | None = None  # the engine's own word, for programs

    @property
    def body(self) -> bytes:
        """The JSON that clients of the OpenAI API expect."""
        error = {
            "message": self.message,
            "type": _KINDS.get(self.status, "server_error"),
            "param": self.param,
            "code": self.upstream_code or self.code,
            "hint": self.hint,
        }
        return msgspec.json.encode({"error": error})

    @property
    def label(self) -> str:
        """Its code, or else its status, as one of the few values that a metric's label may have."""
        if self.code is None:
            return str(self.status) if self.status in _KINDS else "other"
        return self.code if self.code in _CODES else "other"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers that go with it."""
        headers = []
        if self.retry_after_s is not None:
            headers.append((b"retry-after", str(max(1, ceil(self.retry_after_s))).encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b'Basic realm="suffice", charset="UTF-8"'))
        if self.allow:
            headers.append((b"allow", ", ".join(self.allow).encode()))
        if self.upgrade:
            headers.append((b"upgrade", self.upgrade.encode()))
        return headers


def problem_of(error: BaseException) -> Problem:
    """Say what a client may know of an error: no address, no key, no traceback."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, EngineRefused):
        return _refused(error)
    if isinstance(error, EngineError):
        silent = isinstance(error, EngineUnreachable)
        what = "cannot be reached, or went silent" if silent else "did not give a whole answer"
        return Problem(
            f"the engine {what}",
            status=502,
            code="upstream_unreachable" if silent else "upstream_broken",
            hint="try again; the operator's ledger says what happened",
        )
    if isinstance(error, TimeoutError):
        return Problem(
            "the request took longer than its deadline",
            status=504,
            code="deadline",
            hint="ask for fewer tokens, or raise gateway.deadline_s",
        )
    if isinstance(error, LedgerError):
        return Problem(
            "the request cannot be booked, so it is not answered",
            status=503,
            code="ledger_unavailable",
            hint="the operator should see to the ledger's disk or database",
            retry_after_s=5,
        )
    if isinstance(error, BudgetExceeded):
        return Problem(error.message, status=429, code="insufficient_quota", hint=error.hint)
    if isinstance(error, InputError):
        return Problem(error.message, status=400, hint=error.hint)
    return Problem("an error inside the gateway", status=500, hint="the operator's log has more")


def _refused(error: EngineRefused) -> Problem:
    """Hand on what the upstream says about the request; the rest is between us and it."""
    if error.status not in _OF_THE_REQUEST:
        return Problem(
            f"the engine refused the call with HTTP {error.status}",
            status=502,
            code="upstream_refused",
            hint="the engine's own log has more, and the ledger too where store_text is true",
        )
    words = error.detail.message or error.body
    if error.detail.code == "context_length_exceeded" and "prompt is too long" not in words:
        words = f"prompt is too long: {words}"  # by these words Claude Code knows to compact
    problem = Problem(
        f"the engine refused the request with HTTP {error.status}: {words}",
        status=error.status,
        code="upstream_refused",
        param=error.detail.param,
        hint=error.hint,
        retry_after_s=(error.retry_after_s or 1) if error.status == 429 else None,
    )
    problem.upstream_code = error.detail.code
    return problem

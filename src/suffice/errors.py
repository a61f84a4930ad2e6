"""One error tree: each error says what happened, what to do, and whether a retry can help."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from msgspec import Struct


class SufficeError(Exception):
    """Base of every error that suffice raises on purpose.

    `hint` says what to do next; `retryable` whether the same call may succeed later;
    `exit_status` is what the command line returns for it.
    """

    exit_status = 2

    def __init__(self, message: str, *, hint: str | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retryable = retryable

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class InputError(SufficeError):
    """A value, a file or a row that the user gave cannot be used."""


class ConfigError(InputError):
    """The configuration names something unknown, or contradicts itself."""


class MissingExtra(SufficeError):
    """An optional dependency is not installed."""


# What each library belongs to; the core, which a gateway needs, comes without them.
_EXTRAS = {
    "altair": "charts",
    "duckdb": "logs",
    "scipy": "certify",
    "sklearn": "certify",
    "vl_convert": "charts",
    "xllamacpp": "embedded",
    "zstandard": "logs",
}


def missing_extra(error: ModuleNotFoundError) -> MissingExtra | None:
    """Name the extra that a module belongs to which cannot be imported; None for any other."""
    library = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(library)
    if extra is None:
        return None
    return MissingExtra(
        f"this needs {library}, which is not installed",
        hint=f"pip install 'suffice[{extra}]', or 'suffice[all]' for everything",
    )


class PriceError(SufficeError):
    """A price was asked for that no source gives."""


class BudgetExceeded(SufficeError):
    """The next call could pass the spending cap, so it was not made."""


class LedgerError(SufficeError):
    """The ledger cannot be read or written."""


class CertificateError(SufficeError):
    """A certificate was refused, has lapsed, or does not cover this use."""

    exit_status = 3


class EngineError(SufficeError):
    """An inference engine did not give a usable answer.

    `used` is the Usage that is known to be spent all the same: what the engine reported before it
    failed, or that of the calls before, where an answer takes several.
    """

    used: object = None

    @property
    def own_words(self) -> str:
        """The message without what the engine sent, which may repeat a prompt or an answer.

        That part comes after the first colon with a blank.
        """
        return self.message.partition(": ")[0]

    @property
    def unbilled(self) -> bool:
        """Whether this call cannot have generated anything."""
        return False


class EngineUnreachable(EngineError):
    """No connection to the engine (`unsent`: nothing was asked), or it was `silent` too long."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retryable: bool = False,
        unsent: bool = False,
        silent: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.unsent = unsent
        self.silent = silent

    @property
    def unbilled(self) -> bool:
        """Whether this call cannot have generated anything."""
        return self.unsent


class EngineUnusable(EngineError):
    """The engine can answer no request at all, now or later: its model is damaged, say."""

    @property
    def unbilled(self) -> bool:
        """Whether this call cannot have generated anything."""
        return True


_ABOUT_USE = frozenset({401, 402, 403, 407, 408, 429})  # of an account, not of a request


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """What an engine tells of an error: a message for people, and names for programs.

    `kind` is the error's type. A prompt that is too long always has the code
    `context_length_exceeded`. A name is None where the engine gives none.
    """

    message: str = ""
    code: str | None = None
    param: str | None = None
    kind: str | None = None


class EngineRefused(EngineError):
    """The engine answered with an error: its HTTP `status` and the start of its `body`.

    `detail` is what that body tells of the error.
    """

    detail = ErrorDetail()

    def __init__(
        self,
        message: str,
        *,
        status: int,
        body: str = "",
        hint: str | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.status = status
        self.body = body
        self.retry_after_s = retry_after_s

    @property
    def own_words(self) -> str:
        """The whole message, where the status says that the error is about the account.

        Any other may repeat the request, so its message is as for other errors.
        """
        return self.message if self.status in _ABOUT_USE else super().own_words

    @property
    def unbilled(self) -> bool:
        """Whether nothing was generated: from 500 on, the call may have been worked on."""
        return self.status < HTTPStatus.INTERNAL_SERVER_ERROR


class Abstained(EngineError):
    """A rung that may decline a request gave no answer to this one; the policy asks a dearer one.

    It is no failure: the call costs what an answer of that rung costs.
    """


class EngineProtocolError(EngineError):
    """The engine's reply is not what its API promises: bad JSON, a broken or truncated stream."""


class EffortRefused(ConfigError):
    """A model does not take the reasoning effort that a rung asks of it."""


class TrainingStopped(SufficeError):
    """Training cannot go on: the loss is not finite, or the run was interrupted."""


@contextmanager
def writing(path: object) -> Iterator[None]:
    """Turn what a disk refuses in a block into an InputError that names the file or folder."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}", hint="check the folder and the disk"
        ) from error


def describe(error: BaseException, *, text: bool) -> str:
    """Say in the books what went wrong; with `text`, in the engine's words too."""
    if isinstance(error, EngineError) and not text:
        return error.own_words
    return error.message if isinstance(error, SufficeError) else type(error).__name__

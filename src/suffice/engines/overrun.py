"""Notices servers that write on beyond the limit of tokens that they were given."""

import logging

from suffice.types import CountSource, Rung, Usage

_log = logging.getLogger("suffice.engines")
_SLACK_TOKENS = 8  # marks of the template, and what a server writes to close its reasoning


class OverrunNotice:
    """Warns once for each rung whose answers are longer than their limit.

    Reasoning is left out, since some servers do not count it against the limit.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._rungs: set[str] = set()

    def check(self, usage: Usage, rung: Rung, *, limit: int | None, samples: int) -> None:
        """Compare the tokens that a server reported with the limit that it was given."""
        output, reasoning = usage.output_tokens, usage.reasoning_tokens
        if limit is None or output is None or output.source is not CountSource.REPORTED:
            return
        text_tokens = output.tokens - (reasoning.tokens if reasoning is not None else 0)
        if text_tokens > samples * (limit + _SLACK_TOKENS) and rung.name not in self._rungs:
            self._rungs.add(rung.name)
            _log.warning(
                "%s answered rung %r with %d tokens, beyond the limit of %d: it reads another "
                "name of the limit. Set the engine's dialect to this kind of server.",
                self._url, rung.name, text_tokens, limit,
            )  # fmt: skip

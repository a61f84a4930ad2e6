"""What a rung asks for and its client did not: log-probabilities and further samples.

The policy looks at them; the client would get 150 kB for a word.
"""

import msgspec
from msgspec import Struct

from suffice.types import JSON, Request, Rung


class Trim(Struct, frozen=True, kw_only=True):
    """What to leave out of an answer: log-probabilities, and all samples from `samples` on."""

    logprobs: bool
    samples: int | None

    def chunk(self, body: JSON) -> JSON:
        """Leave it out of a reply, or of a chunk of a stream."""
        choices = [dict(choice) for choice in body.get("choices") or () if self._wanted(choice)]
        for choice in choices:
            if self.logprobs and choice.get("logprobs") is not None:
                choice["logprobs"] = None
        return {**body, "choices": choices}

    def events(self, data: bytes) -> bytes:
        """Leave it out of whole events of a stream."""
        return b"".join(self._event(event) for event in data.split(b"\n\n") if event)

    def _event(self, event: bytes) -> bytes:
        if not event.startswith(b"data:"):
            return event + b"\n\n"
        before = msgspec.json.decode(event[5:])
        after = self.chunk(before)
        if before.get("choices") and not after["choices"]:
            return b""
        return b"data: " + msgspec.json.encode(after) + b"\n\n"

    def _wanted(self, choice: JSON) -> bool:
        return self.samples is None or choice.get("index", 0) < self.samples


def trim_for(request: Request, rung: Rung) -> Trim | None:
    """Say what to leave out of a rung's answer to a request; None for nothing."""
    asked, added = request.params, rung.params
    logprobs = bool(added.get("logprobs")) and not asked.get("logprobs")
    samples = added.get("n") not in (None, asked.get("n"))
    if not logprobs and not samples:
        return None
    return Trim(logprobs=logprobs, samples=(asked.get("n") or 1) if samples else None)

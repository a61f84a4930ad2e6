"""Which requests are audited, and how answers are marked by the reference's alone."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import blake2b

from suffice.ledger import Label, Score
from suffice.scoring.labels import agreement

_DRAWS = 2**64


def is_drawn(request_id: str, *, share: float, seed: int) -> bool:
    """Draw by seed and id, so that neither order, content nor a restart decides who is audited.

    Whoever may choose request ids must not know the seed.
    """
    key = (seed % _DRAWS).to_bytes(8, "big")
    draw = blake2b(request_id.encode("utf-8", "replace"), digest_size=8, key=key).digest()
    return int.from_bytes(draw, "big") < share * _DRAWS


def agreement_scores(
    request_id: str, answers: Mapping[str, str], *, reference: str, scorer: str = "exact"
) -> Iterator[Score]:
    """Mark each rung's answer by whether it agrees with the reference's; none where that is empty.

    `scorer` is `exact`, `choice` or `numeric`, and must be the one behind the certificate.
    """
    for rung, text in answers.items():
        quality = agreement(text, answers.get(reference), scorer=scorer)
        if quality is not None:
            yield Score(
                request_id=request_id,
                time=datetime.now(UTC),
                quality=quality,
                label=Label.AGREEMENT,
                rung=rung,
            )

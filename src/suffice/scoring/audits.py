"""Which requests are audited, how their answers are marked, and what an audited answer lost."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b

from suffice.guarantee import Certificate, LabelSource, RiskKind
from suffice.ledger import Attempt, AuditedRequest, Label, Score
from suffice.scoring.audit_rule import AuditRule
from suffice.scoring.labels import WITH_TARGETS, agreement
from suffice.types import JSON, Finish

CALLS = "calls"  # the scorer that compares calls of tools, and answers as `exact` does
AGREEMENTS = frozenset({*WITH_TARGETS, CALLS})
_DRAWS = 2**64
_RIGHT_BY_RULE = frozenset({Label.AGREEMENT, Label.FEEDBACK})


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

    `scorer` is one of `AGREEMENTS`, and must be the one behind the certificate.
    """
    scorer = "exact" if scorer == CALLS else scorer
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


def compared_text(attempt: Attempt, *, scorer: str = "exact") -> str:
    """Return the text that agreement is about: words beside a call of a tool are no answer.

    For the scorer `calls` the calls stand in for such an answer: those of the same tools with the
    same arguments have the same text, in whatever order they are.
    """
    if attempt.finish is not Finish.TOOL_CALLS:
        return attempt.answer or ""
    if scorer != CALLS or not attempt.tool_calls:
        return ""
    calls = "\n".join(sorted(map(_canonical_call, attempt.tool_calls)))
    return f"calls of tools {blake2b(calls.encode('utf-8', 'replace'), digest_size=16).hexdigest()}"


def _canonical_call(call: JSON) -> str:
    """Write a call without its id; arguments as JSON with sorted keys, where they are JSON."""
    called = call.get("function") or call.get("custom") or {}
    arguments = called.get("arguments") or called.get("input") or "{}"
    with suppress(TypeError, ValueError, RecursionError):
        arguments = json.loads(arguments, parse_float=_number)
    return json.dumps([called.get("name"), arguments], sort_keys=True)


def _number(text: str) -> float | int:
    number = float(text)
    return int(number) if number.is_integer() else number


def watching_labels(certificate: Certificate) -> tuple[Label, ...]:
    """Say which labels watch a certificate unless the operator chooses.

    The gateway writes agreement and takes feedback; labels of other kinds come from elsewhere.
    Marks against a target depend on the final answer alone. Answers that agree get the same mark,
    so disagreement is at least the excess over the reference: it stands in, and can sound early but
    not late. A program or a judge may read more than the final answer, and an answer that agrees
    with the reference may still be wrong: there agreement bounds nothing, and feedback must do. A
    net loss needs marks of both answers, of the certificate's own kind: nothing stands in.
    Outcomes of sessions are no labels of audits: none watch such a certificate, its roll-out does.
    """
    source = certificate.terms.label_source
    if source is LabelSource.OUTCOME:
        return ()
    own = Label(source.value)
    if source is LabelSource.AGREEMENT or certificate.risk_kind is RiskKind.NET_LOSS:
        return (own,)
    excess = certificate.risk_kind is RiskKind.EXCESS_OVER_REFERENCE
    return (own, Label.AGREEMENT if excess and source is LabelSource.TARGET else Label.FEEDBACK)


def labels_of(certificate: Certificate, rule: AuditRule) -> tuple[Label, ...]:
    """Return the labels that watch a certificate under a rule."""
    return rule.labels or watching_labels(certificate)


def audited_loss(
    row: AuditedRequest, kind: RiskKind, *, labels: Iterable[Label], by: datetime, final: bool
) -> float | None:
    """Say what an audited answer lost by labels given in time; None while none of them tells.

    `final` says that no further label is waited for.
    """
    known = [score for score in row.scores if score.label in set(labels) and score.time <= by]
    if kind is RiskKind.ERROR_AMONG_ANSWERED:
        mine = (score for score in known if score.rung is None or score.rung == row.rung)
        return next((1.0 - score.quality for score in mine), None)
    if row.rung == row.reference_rung:
        return 0.0
    loss = _difference(row, known, final=final, only_feedback={*labels} == {Label.FEEDBACK})
    return loss if loss is None or kind is RiskKind.NET_LOSS else max(0.0, loss)


def _difference(
    row: AuditedRequest, known: list[Score], *, final: bool, only_feedback: bool
) -> float | None:
    """Compare the answer with the reference's, both by labels of one kind.

    The kind that is complete first counts, so that a later label changes nothing. The reference is
    right by rule where agreement with it is the label, and where feedback is: an application scores
    only the answer that it got. Feedback comes from those who care to give it, so it counts only
    where no other kind does in time. An answer that its scorer could not mark, while it marked the
    reference's, is worth nothing.
    """
    marks: dict[Label, dict[str, float]] = {score.label: {} for score in known}
    for label in _RIGHT_BY_RULE & marks.keys():
        marks[label][row.reference_rung] = 1.0
    for score in known:
        quality = marks[score.label]
        quality.setdefault(score.rung or row.rung, score.quality)
        early = score.label is not Label.FEEDBACK or only_feedback
        if early and row.rung in quality and row.reference_rung in quality:
            return quality[row.reference_rung] - quality[row.rung]
    if not final:
        return None
    for label, quality in marks.items():
        if label not in _RIGHT_BY_RULE and row.reference_rung in quality:
            return quality[row.reference_rung]
    feedback = marks.get(Label.FEEDBACK, {}).get(row.rung)
    return None if feedback is None else 1.0 - feedback

"""The latent rung: an engine that predicts the answers to closed-set requests, or abstains."""

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from suffice.engines.base import Engine
from suffice.engines.chunk import Chunk
from suffice.errors import Abstained
from suffice.guarantee import Certificate, check, content_hash
from suffice.latent.closed import ClosedSet, answerable, closed_set, free_of_format
from suffice.latent.predictor import Predictor
from suffice.latent.template import Template
from suffice.types import NO_TOKENS, Completion, Finish, Request, Rung

_NO_TEMPLATE = Template()


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentPolicy:
    """Everything that decides whether and what the rung answers; a certificate binds its hash.

    `groups` are the request groups of the training rows, None for requests without a group. Their
    requests need no schema. A request of another group must list its answers, and the list must be
    the predictor's answers with those in `rare`, which it never gives.
    """

    predictor: Predictor
    threshold: float
    template: Template = _NO_TEMPLATE
    groups: frozenset[str | None] = frozenset()
    rare: frozenset[str] = frozenset()

    @property
    def policy_hash(self) -> str:
        """The hash that the certificate must name."""
        parts = (self.predictor.fingerprint, repr(self.threshold), self.template)
        return content_hash([*parts, sorted(self.groups, key=str), sorted(self.rare)])


class LatentRung(Engine):
    """Answers the requests that its certificate covers, and raises `Abstained` for all others.

    The constructor raises CertificateError if the certificate has lapsed, or belongs to another
    predictor, encoder, quantisation or threshold. After the certificate lapses, the rung abstains.
    """

    def __init__(self, policy: LatentPolicy, certificate: Certificate) -> None:
        self._policy = policy
        self._certificate = certificate
        self._lapses_at = certificate.terms.lapses_at
        check(certificate, now=datetime.now(UTC), policy_hash=policy.policy_hash)

    def answer(self, request: Request) -> str:
        """Return the answer in the form that the request asks for; raises Abstained."""
        if datetime.now(UTC) >= self._lapses_at:
            raise Abstained("the certificate has lapsed", hint="certify the rung again")
        answer_set = self._answer_set(request)
        text = self._policy.template.variable(request.text)
        if text is None:
            raise Abstained("the prompt does not have the form of the training prompts")
        predictions = self._policy.predictor.predict([text])
        if not predictions.trust[0] >= self._policy.threshold:
            raise Abstained("the prediction is not sure enough")
        return answer_set.write(self._policy.predictor.answers[int(predictions.answers[0])])

    async def complete(self, request: Request, rung: Rung) -> Completion:  # noqa: ARG002
        """Answer in one piece; raises Abstained."""
        start_s = time.perf_counter()
        text = self.answer(request)
        return Completion(
            text=text,
            finish=Finish.STOP,
            usage=NO_TOKENS,
            duration_s=time.perf_counter() - start_s,
        )

    async def stream(
        self, request: Request, rung: Rung
    ) -> AsyncGenerator[Chunk | Completion, None]:
        """Yield the answer as one chunk, then the Completion; raises Abstained."""
        completion = await self.complete(request, rung)
        yield Chunk(text=completion.text)
        yield completion

    async def close(self) -> None:
        """Do nothing: the rung holds no resource."""

    async def __aenter__(self) -> Self:
        return self

    def _answer_set(self, request: Request) -> ClosedSet:
        """Return the answer set of a request; raises Abstained if the rung may not answer it."""
        answers = self._policy.predictor.answers
        covered = self._certificate.terms.scope.groups
        if covered and request.group not in covered:
            raise Abstained(f"group {request.group!r} is not covered by the certificate")
        if not answerable(request):
            raise Abstained("the request asks for more than one answer from a list")
        answer_set = closed_set(request)
        if answer_set is None:
            if request.group in self._policy.groups and free_of_format(request):
                return ClosedSet(answers=answers)
            raise Abstained("the request is not a closed-set request")
        if set(answer_set.answers) != {*answers, *self._policy.rare}:
            raise Abstained("the request's answer set is not the one that was certified")
        return answer_set

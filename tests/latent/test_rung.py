"""The latent rung: which requests it answers, in what form, under which promise."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from latent_toys import INTENTS, WordEncoder, rows

from suffice.errors import Abstained, CertificateError, InputError
from suffice.guarantee import Certificate, LabelSource, RiskKind, Scope, Splits, Terms, issue
from suffice.latent import fitting
from suffice.latent.certify import CertifiedThreshold, certify, feasibility
from suffice.latent.closed import ClosedSet, closed_set
from suffice.latent.rung import LatentPolicy, LatentRung
from suffice.latent.template import Template, learn_template
from suffice.types import Completion, Request, Rung

RUNG = Rung(name="latent", engine="latent", model="latent")
LIST = sorted(INTENTS)
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def fitted() -> fitting.FittedPredictor:
    return fitting.fit(rows(400, seed=1, strange=0.1), encoder=WordEncoder())


def grid(fitted: fitting.FittedPredictor) -> np.ndarray:
    return fitted.grid(600, alpha=0.05, delta=0.1).thresholds


@pytest.fixture(scope="module")
def certified(fitted: fitting.FittedPredictor) -> CertifiedThreshold:
    sample = rows(600, seed=2, strange=0.1)
    return certify(fitted.predictor, sample, grid=grid(fitted), alpha=0.05, delta=0.1)


def certificate(policy: LatentPolicy, found: CertifiedThreshold, **changes: Any) -> Certificate:
    terms = {
        "policy_hash": policy.policy_hash,
        "reference": "reference",
        "label_source": LabelSource.AGREEMENT,
        "splits": Splits(fit="fit", certify="certify"),
        "scope": Scope(out_of_scope_share=found.out_of_scope_share),
        "created": NOW - timedelta(days=1),
        "lapses_at": NOW + timedelta(days=1),
    }
    return issue(found.calibration, Terms(**(terms | changes)))


@pytest.fixture(scope="module")
def policy(fitted: fitting.FittedPredictor, certified: CertifiedThreshold) -> LatentPolicy:
    assert certified.threshold is not None
    return LatentPolicy(
        predictor=fitted.predictor, threshold=certified.threshold, groups=frozenset({"banking"})
    )


@pytest.fixture
def rung(policy: LatentPolicy, certified: CertifiedThreshold) -> LatentRung:
    return LatentRung(policy, certificate(policy, certified))


def ask(text: str, *, group: str | None = None, **params: Any) -> Request:
    messages = ({"role": "user", "content": text},)
    return Request(request_id="r", messages=messages, group=group, params=params)


def enum_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "intent", "schema": schema}}


# -- which requests are closed ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "written"),
    [
        ({"guided_choice": LIST}, "card_lost"),
        ({"structured_outputs": {"choice": LIST}}, "card_lost"),
        ({"grammar": 'root ::= "card_lost" | "check_balance" | "send_money"'}, "card_lost"),
        ({"response_format": enum_schema({"type": "string", "enum": LIST})}, '"card_lost"'),
        (
            {
                "response_format": enum_schema(
                    {"type": "object", "properties": {"intent": {"enum": LIST}}}
                )
            },
            '{"intent":"card_lost"}',
        ),
    ],
)
async def test_it_answers_in_the_form_the_client_asked_for(
    rung: LatentRung, params: dict[str, Any], written: str
) -> None:
    request = ask("lost my card stolen", **params)
    completion = await rung.complete(request, RUNG)
    assert completion.text == written
    wanted = closed_set(request)
    assert wanted is not None
    assert wanted.read(completion.text) == "card_lost"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"guided_choice": []},
        {"guided_choice": ["a", 1]},
        {"guided_choice": ["a", "a"]},
        {"response_format": {"type": "json_object"}},
        {"response_format": enum_schema({"type": "string"})},
        {
            "response_format": enum_schema(
                {"type": "object", "properties": {"a": {"enum": ["x"]}, "b": {"type": "string"}}}
            )
        },
        {"grammar": 'root ::= "a" other\nother ::= [0-9]+'},
        {"grammar": r'root ::= "a" | "\x62"'},
        {"grammar": 'root ::= "a" | "a"'},
        {"grammar": ["a", "b"]},
    ],
)
def test_an_open_request_is_not_taken_for_a_closed_set(params: dict[str, Any]) -> None:
    assert closed_set(ask("lost my card", **params)) is None


def test_an_answer_of_another_form_reads_as_none() -> None:
    wanted = ClosedSet(answers=("a", "b"), json=True, key="x")
    assert wanted.read('{"x":"a"}') == "a"
    assert [wanted.read(text) for text in ("a", '{"x":"c"}', '{"y":"a"}', '["a"]', "{")] == [
        None
    ] * 5


# -- abstention ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        ask("lost my card stolen"),
        ask("lost my card stolen", group="other"),
        ask("lost my card stolen", guided_choice=["card_lost", "send_money"]),
        ask("lost my card stolen", guided_choice=[*LIST, "open_account"]),
        ask("lost my card stolen", guided_choice=LIST, n=2),
        ask("lost my card stolen", guided_choice=LIST, tools=[{"type": "function"}]),
        ask("lost my card stolen", guided_choice=LIST, logprobs=True),
        ask("lost my card stolen", group="banking", response_format={"type": "json_object"}),
        ask("", guided_choice=LIST),
        ask("потерял карту", guided_choice=LIST),
        ask("weather recipe volcano poem", guided_choice=LIST),
        Request(
            request_id="r",
            messages=(
                {"role": "user", "content": "lost card"},
                {"role": "assistant", "content": "card_lost"},
                {"role": "user", "content": "lost card"},
            ),
            params={"guided_choice": LIST},
        ),
        Request(
            request_id="r",
            messages=({"role": "user", "content": [{"type": "image_url", "image_url": {}}]},),
            params={"guided_choice": LIST},
        ),
    ],
)
async def test_it_abstains_on_everything_else(rung: LatentRung, request_: Request) -> None:
    with pytest.raises(Abstained):
        await rung.complete(request_, RUNG)


async def test_requests_of_a_learned_group_need_no_schema(rung: LatentRung) -> None:
    completion = await rung.complete(ask("lost my card stolen", group="banking"), RUNG)
    assert completion.text == "card_lost"


async def test_it_costs_no_tokens_and_streams_one_chunk(rung: LatentRung) -> None:
    items = [item async for item in rung.stream(ask("lost card", guided_choice=LIST), RUNG)]
    assert len(items) == 2
    completion = items[-1]
    assert isinstance(completion, Completion)
    assert completion.usage.output_tokens is not None
    assert completion.usage.output_tokens.tokens == 0
    assert items[0].text == completion.text


# -- the promise --------------------------------------------------------------------------------


def test_the_promise_holds_on_fresh_requests(
    fitted: fitting.FittedPredictor, certified: CertifiedThreshold
) -> None:
    assert certified.threshold is not None
    assert certified.calibration.risk_kind is RiskKind.ERROR_AMONG_ANSWERED
    assert certified.calibration.tests == len(grid(fitted))
    fresh = rows(2000, seed=3, strange=0.1)
    predictions = fitted.predictor.predict(fresh.texts)
    given = predictions.trust >= certified.threshold
    wrong = ~fitting.is_right(predictions, fresh.answers, fitted.predictor.answers)
    assert wrong[given].mean() <= 0.05
    assert given.mean() > 0.7


@pytest.mark.parametrize(
    "risk_kind", [RiskKind.ERROR_AMONG_ANSWERED, RiskKind.EXCESS_OVER_REFERENCE]
)
def test_copies_of_a_request_certify_no_more_than_one(
    fitted: fitting.FittedPredictor, risk_kind: RiskKind
) -> None:
    once = rows(120, seed=2, strange=0.1)
    five = fitting.LabelledTexts(texts=[*once.texts] * 5, answers=[*once.answers] * 5)
    promise = {"grid": grid(fitted), "alpha": 0.05, "delta": 0.1, "risk_kind": risk_kind}
    alone = certify(fitted.predictor, once, **promise)
    copied = certify(fitted.predictor, five, **promise)
    assert copied.calibration.n == alone.calibration.n <= 120
    assert copied.calibration.p_values == alone.calibration.p_values
    assert copied.feasibility.rows == alone.feasibility.rows


def test_the_marginal_risk_counts_all_requests(fitted: fitting.FittedPredictor) -> None:
    sample = rows(600, seed=2, strange=0.1)
    found = certify(
        fitted.predictor,
        sample,
        grid=grid(fitted),
        alpha=0.05,
        delta=0.1,
        risk_kind=RiskKind.EXCESS_OVER_REFERENCE,
    )
    assert found.calibration.risk_kind is RiskKind.EXCESS_OVER_REFERENCE
    assert found.calibration.n == len({*sample.texts})


def test_feasibility_comes_first_and_is_printed(fitted: fitting.FittedPredictor) -> None:
    few = rows(40, seed=4, strange=0.3)
    first = feasibility(fitted.predictor, few, alpha=0.01, delta=0.1, tests=15)
    assert first.rows < first.rows_needed
    assert 0.0 < first.abstain_at_least < first.error_if_all_answered < 1.0
    assert "must go to the next rung" in str(first)
    found = certify(fitted.predictor, few, grid=grid(fitted), alpha=0.01, delta=0.1)
    assert found.threshold is None


def test_without_out_of_scope_rows_the_certificate_is_void_for_them(
    fitted: fitting.FittedPredictor, policy: LatentPolicy
) -> None:
    inside = certify(fitted.predictor, rows(600, seed=5), grid=grid(fitted), alpha=0.05, delta=0.1)
    assert inside.out_of_scope_share is None
    assert any("Void for out-of-scope" in line for line in certificate(policy, inside).limits)


def test_rows_that_cannot_be_judged_are_refused(fitted: fitting.FittedPredictor) -> None:
    thresholds = grid(fitted)
    with pytest.raises(InputError, match="no calibration rows"):
        certify(
            fitted.predictor,
            fitting.LabelledTexts(texts=[], answers=[]),
            grid=thresholds,
            alpha=0.05,
            delta=0.1,
        )
    new = fitting.LabelledTexts(texts=["open account"], answers=["open_account"])
    with pytest.raises(InputError, match="cannot give"):
        certify(fitted.predictor, new, grid=thresholds, alpha=0.05, delta=0.1)


def test_a_certificate_of_another_policy_or_a_lapsed_one_is_refused(
    fitted: fitting.FittedPredictor, policy: LatentPolicy, certified: CertifiedThreshold
) -> None:
    looser = LatentPolicy(predictor=fitted.predictor, threshold=policy.threshold - 1.0)
    with pytest.raises(CertificateError, match="another policy"):
        LatentRung(looser, certificate(policy, certified))
    past = certificate(policy, certified, lapses_at=NOW - timedelta(hours=1))
    with pytest.raises(CertificateError, match="lapsed"):
        LatentRung(policy, past)


def test_groups_outside_the_certificate_are_not_answered(
    policy: LatentPolicy, certified: CertifiedThreshold
) -> None:
    scope = Scope(groups=("banking",), out_of_scope_share=0.1)
    narrow = LatentRung(policy, certificate(policy, certified, scope=scope))
    assert narrow.answer(ask("lost card", group="banking", guided_choice=LIST)) == "card_lost"
    with pytest.raises(Abstained, match="not covered"):
        narrow.answer(ask("lost card", group="travel", guided_choice=LIST))


# -- templates ----------------------------------------------------------------------------------


def test_the_shared_part_of_prompts_is_cut_off() -> None:
    texts = [f"Classify the request.\nRequest: {t}\nAnswer:" for t in rows(20, seed=6).texts]
    template = learn_template(texts)
    assert template == Template(prefix="Classify the request.\nRequest: ", suffix="\nAnswer:")
    assert template.variable("Classify the request.\nRequest: lost card\nAnswer:") == "lost card"
    assert template.variable("Something else: lost card") is None
    assert template.variable("Classify the request.\nRequest: \nAnswer") is None


def test_few_prompts_or_prompts_with_nothing_in_common_have_no_template() -> None:
    assert learn_template(["a b c", "a b d"]) == Template()
    assert learn_template([f"{i} words {i}" for i in range(20)]) == Template()
    with pytest.raises(InputError):
        learn_template([])


def test_a_prompt_without_the_template_is_left_to_the_ladder(
    fitted: fitting.FittedPredictor, certified: CertifiedThreshold
) -> None:
    assert certified.threshold is not None
    template = Template(prefix="Request: ")
    policy = LatentPolicy(
        predictor=fitted.predictor, threshold=certified.threshold, template=template
    )
    rung = LatentRung(policy, certificate(policy, certified))
    assert rung.answer(ask("Request: lost card", guided_choice=LIST)) == "card_lost"
    with pytest.raises(Abstained, match="form of the training prompts"):
        rung.answer(ask("lost card", guided_choice=LIST))


def test_trust_at_minus_infinity_never_passes_a_threshold(fitted: fitting.FittedPredictor) -> None:
    assert not fitted.predictor.predict([""]).trust[0] >= -np.finfo(float).max

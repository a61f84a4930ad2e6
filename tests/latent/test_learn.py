"""A rung from trials: fitted, certified, written, read back, and used from a ladder."""

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from latent_toys import asked, rows, trials
from msgspec.structs import replace

from suffice.config import parse_config
from suffice.deployment import build_engines, request_fields
from suffice.encoders.base import default_encoder
from suffice.errors import Abstained, CertificateError, ConfigError, InputError
from suffice.guarantee import LabelSource, RiskKind
from suffice.latent.closed import plain_answer
from suffice.latent.learn import (
    LatentFit,
    LatentTarget,
    LearnedRung,
    _split,
    learn_rung,
)
from suffice.latent.rung import LatentRung
from suffice.latent.rung_folder import RUNG, EncoderName, load_rung, save_rung, watch_rung
from suffice.types import NO_TOKENS, Finish, Request, Rung, Trial, TrialStatus

WANTED = LatentTarget(reference="big", alpha=0.1, delta=0.1, lapses_after_s=86400.0)
LATENT = Rung(name="latent", engine="latent", model="latent")


def quiet(_stage: str) -> None: ...


def learn(given: list[Trial], **changes: object) -> LatentFit:
    wanted = replace(WANTED, **changes)
    return learn_rung(given, wanted, encoder=default_encoder(), say=quiet)


def request(text: str, *, group: str | None = "bank", **params: object) -> Request:
    messages = ({"role": "user", "content": text},)
    return Request(request_id="r", messages=messages, group=group, params=params)


@pytest.fixture(scope="module")
def outcome() -> LatentFit:
    return learn(trials(900))


@pytest.fixture
def folder(outcome: LatentFit, tmp_path: Path) -> Path:
    assert outcome.policy is not None
    assert outcome.learned.certificate is not None
    save_rung(
        tmp_path / "rung",
        outcome.policy,
        outcome.learned.certificate,
        encoder=EncoderName.WORDLLAMA,
    )
    return tmp_path / "rung"


def test_it_certifies_agreement_with_the_reference_on_requests_like_these(
    outcome: LatentFit,
) -> None:
    learned = outcome.learned
    assert learned.certified
    assert (learned.answers, learned.group) == (3, "bank")
    assert learned.rows == {"fit": 450, "certify": 360, "report": 90}
    assert learned.answered > 0.5
    assert learned.error_among_answered is not None
    assert learned.error_among_answered <= 0.15
    assert learned.out_of_scope_share == pytest.approx(0.1, abs=0.04)
    assert learned.decision_s > 0
    terms = learned.certificate.terms
    assert (terms.reference, terms.label_source) == ("big", LabelSource.AGREEMENT)
    assert terms.scope.groups == ("bank",)
    assert len({terms.splits.fit, terms.splits.certify, terms.splits.report}) == 3


async def test_a_saved_rung_is_loaded_and_answers(folder: Path) -> None:
    rung = load_rung(folder)
    fresh, right = rows(60, seed=9), []
    for text, answer in zip(fresh.texts, fresh.answers, strict=True):
        with suppress(Abstained):
            found = await rung.complete(request(asked(text)), LATENT)
            assert (found.finish, found.usage) == (Finish.STOP, NO_TOKENS)
            right.append(found.text == answer)
    assert len(right) >= 20
    assert sum(right) >= 0.85 * len(right)
    with pytest.raises(Abstained, match="form of the training prompts"):
        await rung.complete(request("my card was stolen please block"), LATENT)
    with pytest.raises(Abstained, match="not covered by the certificate"):
        await rung.complete(request(asked("my card was stolen"), group="other"), LATENT)


@pytest.mark.parametrize("change", [{"threshold": -50.0}, {"groups": ["bank", None]}])
def test_a_rung_that_was_changed_after_it_was_certified_is_refused(
    folder: Path, change: dict[str, object]
) -> None:
    stored = msgspec.json.decode((folder / RUNG).read_bytes())
    (folder / RUNG).write_bytes(msgspec.json.encode(stored | change))
    with pytest.raises(CertificateError, match="another policy"):
        load_rung(folder)


def test_a_folder_without_a_rung_or_with_a_damaged_one_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="holds no latent rung") as caught:
        load_rung(tmp_path)
    assert "suffice latent fit" in str(caught.value.hint)
    (folder / RUNG).write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        load_rung(folder)


def test_it_is_an_engine_of_a_configuration(folder: Path) -> None:
    text = f"""
    reference = "big"
    [engine.intents]
    kind = "latent"
    model_path = "{folder}"
    [engine.llm]
    kind = "openai"
    url = "http://127.0.0.1:9/v1"
    [[ladder]]
    name = "intents"
    engine = "intents"
    model = "latent"
    vector = "paradigm"
    [[ladder]]
    name = "big"
    engine = "llm"
    model = "m"
    """
    config = parse_config(text)
    assert isinstance(build_engines(config)["intents"], LatentRung)
    assert request_fields(config.ladder[0], config.engine["intents"]) == {}
    with pytest.raises(ConfigError, match="names no folder"):
        build_engines(parse_config(text.replace(f'model_path = "{folder}"', "")))


def test_the_marginal_promise_is_named(outcome: LatentFit) -> None:
    whole = learn(trials(900), risk_kind=RiskKind.EXCESS_OVER_REFERENCE, alpha=0.05).learned
    assert whole.risk_kind is RiskKind.EXCESS_OVER_REFERENCE
    assert whole.certificate.risk_kind is RiskKind.EXCESS_OVER_REFERENCE
    assert outcome.learned.risk_kind is RiskKind.ERROR_AMONG_ANSWERED


def test_without_a_certificate_there_is_no_rung_and_a_reason() -> None:
    found = learn(trials(120), alpha=0.01)
    assert found.policy is None
    assert found.learned.certificate is None
    feasibility = found.learned.feasibility
    assert feasibility.rows < feasibility.rows_needed
    assert found.learned.answered == 0.0
    assert found.learned.error_among_answered is None


@pytest.mark.slow
def test_a_longer_list_than_was_seen_is_certified_only_as_it_was_given() -> None:
    listed = ("card_lost", "check_balance", "send_money", "never_seen")
    policy = learn(trials(900), answers=listed).policy
    assert policy is not None
    assert policy.rare == {"never_seen"}
    without = learn(trials(900), answers=listed[:2]).learned
    assert without.answers == 2
    assert without.out_of_scope_share > 0.3


# -- which requests ---------------------------------------------------------------------------


def test_the_closed_group_is_found_among_open_ones() -> None:
    chat = [replace(t, answer=f"a tale of {i}") for i, t in enumerate(trials(50, group="chat"))]
    assert learn([*trials(900), *chat]).learned.group == "bank"
    with pytest.raises(InputError, match="no group of requests has few distinct answers"):
        learn(chat)


def test_several_closed_groups_need_a_name() -> None:
    both = [*trials(900), *trials(60, group="shop")]
    with pytest.raises(InputError, match="2 groups have few distinct answers: bank, shop"):
        learn(both)
    assert learn(both, group="bank").learned.group == "bank"
    with pytest.raises(InputError, match="no group 'house'") as caught:
        learn(both, group="house")
    assert "bank, shop" in str(caught.value.hint)


def test_requests_without_groups_are_one_group() -> None:
    found = learn(trials(900, group=None))
    assert found.learned.group is None
    assert found.policy is not None
    assert found.policy.groups == {None}
    assert found.learned.certificate.terms.scope.groups == ()


def test_trials_without_a_whole_answer_are_left_out_and_counted() -> None:
    given = trials(900)
    given[0] = replace(given[0], answer=None, status=TrialStatus.FAILED)
    given[1] = replace(given[1], finish=Finish.LENGTH)
    learned: LearnedRung = learn(given).learned
    assert (learned.left_out, sum(learned.rows.values())) == (2, 898)
    assert learned.certificate.terms.scope.unscored == 2
    with pytest.raises(InputError, match="no trial of the reference rung 'huge'"):
        learn(given, reference="huge")


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("card_lost\n", "card_lost"),
        ('"card_lost"', "card_lost"),
        ('{"intent": "card_lost"}', "card_lost"),
        ('{"intent": "card_lost", "sure": true}', '{"intent": "card_lost", "sure": true}'),
        ("17", "17"),
        ("", ""),
    ],
)
def test_the_answer_inside_a_reply(reply: str, answer: str) -> None:
    assert plain_answer(reply) == answer


def test_copies_of_a_request_go_into_one_split_and_count_once() -> None:
    copies = [replace(t, request_id=f"{t.request_id}-{i}") for t in trials(200) for i in range(5)]
    target = replace(WANTED, alpha=0.2)
    parts = _split(copies, target)
    texts = [{*part.texts} for part in (parts.fit, parts.certify, parts.report)]
    assert not texts[0] & texts[1]
    assert not texts[1] & texts[2]
    learned = learn_rung(copies, target, encoder=default_encoder(), say=quiet).learned
    assert learned.n <= len(texts[1])
    assert learned.feasibility.rows == len(texts[1])


def test_audits_end_a_rung_that_went_wrong_and_leave_a_good_one_alone(folder: Path) -> None:
    fresh = trials(400, seed=11)
    good = watch_rung(folder, fresh)
    assert not good.alarm
    assert 200 < good.monitor.audits <= 400
    assert watch_rung(folder, fresh) == good  # an audit counts once
    load_rung(folder)
    drifted = [
        replace(t, request_id=f"new-{i}", answer='{"intent": "card_lost"}')
        for i, t in enumerate(trials(400, seed=12))
    ]
    assert watch_rung(folder, drifted).alarm
    with pytest.raises(CertificateError, match="alarm"):
        load_rung(folder)
    assert watch_rung(folder, fresh).alarm  # for good


def test_audits_without_a_label_are_ignored_and_a_damaged_watch_is_refused(folder: Path) -> None:
    unlabelled = [replace(t, answer=None) for t in trials(50, seed=11)]
    with pytest.raises(InputError, match="no answer of 'big'"):
        watch_rung(folder, unlabelled)
    watch_rung(folder, trials(50, seed=11))
    (folder / "watch.json").write_text("{")
    with pytest.raises(InputError, match="no state of a watch"):
        load_rung(folder)

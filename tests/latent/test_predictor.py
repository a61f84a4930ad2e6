"""Predictors: what they learn, when they abstain, and that a copy on disk is the same one."""

from pathlib import Path

import numpy as np
import pytest
from latent_toys import INTENTS, NOISE, WordEncoder, rows

from suffice.errors import CertificateError, InputError
from suffice.latent import fitting
from suffice.latent.joint import Joint, fit_joint, sigreg
from suffice.latent.predictor import JoinedEncoder, Predictor, hashed_ngrams, select_columns
from suffice.latent.rung_folder import load_predictor, predictor_bytes

KINDS = list(fitting.PredictorKind)


@pytest.fixture(scope="module")
def fits() -> dict[fitting.PredictorKind, fitting.FittedPredictor]:
    given = rows(240, seed=1)
    return {kind: fitting.fit(given, encoder=WordEncoder(), kind=kind) for kind in KINDS}


@pytest.fixture(scope="module")
def strange() -> fitting.FittedPredictor:
    return fitting.fit(rows(300, seed=1, strange=0.2), encoder=WordEncoder())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_the_toy_language(
    fits: dict[fitting.PredictorKind, fitting.FittedPredictor], kind: fitting.PredictorKind
) -> None:
    predictor, fresh = fits[kind].predictor, rows(200, seed=2)
    right = fitting.is_right(predictor.predict(fresh.texts), fresh.answers, predictor.answers)
    assert right.mean() > 0.95


def test_trust_is_lower_where_words_say_nothing(
    fits: dict[fitting.PredictorKind, fitting.FittedPredictor],
) -> None:
    predictor = fits[fitting.PredictorKind.HEAD].predictor
    clear = predictor.predict(["lost stolen card", "transfer euros friend"]).trust
    vague = predictor.predict([" ".join(NOISE), "card euros balance"]).trust
    assert clear.min() > vague.max()


@pytest.mark.parametrize("text", ["", "   ", "потерял карту"])
def test_a_text_the_encoder_knows_nothing_of_is_never_answered(
    fits: dict[fitting.PredictorKind, fitting.FittedPredictor], text: str
) -> None:
    predictions = fits[fitting.PredictorKind.HEAD].predictor.predict([text, "lost card"])
    assert predictions.trust[0] == -np.inf
    assert np.isfinite(predictions.trust[1])


def test_out_of_scope_rows_teach_it_to_abstain(strange: fitting.FittedPredictor) -> None:
    predictions = strange.predictor.predict(["weather recipe", "poem guitar football", "lost card"])
    assert predictions.trust[:2].max() < predictions.trust[2]


def test_an_encoder_that_returns_nan_is_an_error(
    fits: dict[fitting.PredictorKind, fitting.FittedPredictor],
) -> None:
    class Broken(WordEncoder):
        def embed(self, texts):  # type: ignore[no-untyped-def]
            return super().embed(texts) * np.nan

    fitted = fits[fitting.PredictorKind.EMBEDDING].predictor
    broken = Predictor(
        answers=fitted.answers, encoder=Broken(), voters=fitted.voters, trust=fitted.trust
    )
    with pytest.raises(InputError, match="not finite"):
        broken.predict(["lost card"])
    with pytest.raises(InputError, match="not finite"):
        fitting.fit(rows(40, seed=3), encoder=Broken())


def test_one_class_is_nothing_to_predict() -> None:
    with pytest.raises(InputError, match="nothing to predict"):
        fitting.fit(
            fitting.LabelledTexts(texts=["a", "b"], answers=["x", "x"]), encoder=WordEncoder()
        )


def test_two_classes_are_enough() -> None:
    given = rows(120, seed=4)
    pairs = [(t, a) for t, a in zip(given.texts, given.answers, strict=True) if a != "send_money"]
    two = fitting.LabelledTexts(texts=[t for t, _ in pairs], answers=[a for _, a in pairs])
    predictor = fitting.fit(two, encoder=WordEncoder()).predictor
    assert [
        predictor.answers[i] for i in predictor.predict(["lost stolen", "money left"]).answers
    ] == [
        "card_lost",
        "check_balance",
    ]


def test_the_grid_is_fixed_by_training_alone_and_runs_from_strict_to_loose(
    fits: dict[fitting.PredictorKind, fitting.FittedPredictor],
) -> None:
    grid = fits[fitting.PredictorKind.HEAD].grid(400, alpha=0.05, delta=0.1)
    assert (np.diff(grid.thresholds) <= 0).all()
    assert 0.0 < grid.expected_share <= 1.0


def from_predictions(right: np.ndarray) -> fitting.FittedPredictor:
    """Make a fit whose predictions are those given, from the highest trust to the lowest."""
    trust = np.arange(len(right), 0, -1.0)
    return fitting.FittedPredictor(predictor=None, trust=trust, right=right)  # type: ignore[arg-type]


def test_few_certifying_rows_get_few_thresholds() -> None:
    rng = np.random.default_rng(0)
    fit = from_predictions(rng.random(2000) > np.linspace(0.0, 0.02, 2000) ** 0.5)
    sizes = [len(fit.grid(n, alpha=0.05, delta=0.1).thresholds) for n in (60, 400, 20_000)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1
    assert sizes[-1] == max(fitting.GRID_SIZES)
    assert fit.grid(20, alpha=0.05, delta=0.1).expected_share == 0.0  # too few for any threshold


def test_the_predictor_that_certifies_more_may_be_the_less_accurate_one() -> None:
    spread = np.arange(1000) % 25 != 0  # 4 % wrong, whatever the trust
    ranked = np.arange(1000) < 900  # 10 % wrong, all of them where the trust is least
    promise = {"alpha": 0.05, "delta": 0.1}
    accurate, certifiable = from_predictions(spread), from_predictions(ranked)
    assert accurate.right.mean() > certifiable.right.mean()
    shares = [fit.grid(200, **promise).expected_share for fit in (accurate, certifiable)]
    assert shares[0] < 0.5 < shares[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_predictor_read_back_predicts_the_same(
    fits: dict[fitting.PredictorKind, fitting.FittedPredictor],
    kind: fitting.PredictorKind,
    tmp_path: Path,
) -> None:
    predictor, path = fits[kind].predictor, tmp_path / "p.npz"
    path.write_bytes(predictor_bytes(predictor))
    again = load_predictor(path, encoder=WordEncoder())
    assert again.fingerprint == predictor.fingerprint
    texts = rows(20, seed=5).texts
    np.testing.assert_array_equal(again.predict(texts).trust, predictor.predict(texts).trust)


def test_another_encoder_or_a_damaged_file_is_refused(
    fits: dict[fitting.PredictorKind, fitting.FittedPredictor], tmp_path: Path
) -> None:
    class Quantised(WordEncoder):
        fingerprint = "toy-words:int8"

    path = tmp_path / "p.npz"
    path.write_bytes(predictor_bytes(fits[fitting.PredictorKind.EMBEDDING].predictor))
    with pytest.raises(CertificateError, match="fitted on encoder"):
        load_predictor(path, encoder=Quantised())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="is not a predictor"):
        load_predictor(path, encoder=WordEncoder())


def test_the_fingerprint_covers_encoder_answers_and_weights(
    fits: dict[fitting.PredictorKind, fitting.FittedPredictor],
) -> None:
    prints = {fitted.predictor.fingerprint for fitted in fits.values()}
    joined = JoinedEncoder(WordEncoder(), WordEncoder())
    one = fits[fitting.PredictorKind.EMBEDDING].predictor
    other = Predictor(answers=one.answers, encoder=joined, voters=one.voters, trust=one.trust)
    assert len(prints | {other.fingerprint}) == 4


def test_an_answer_can_be_added_to_the_joint_predictor_without_training() -> None:
    encoder, given = WordEncoder(), rows(200, seed=6)
    known = sorted(INTENTS)
    targets = np.array([known.index(str(a)) for a in given.answers])
    joint: Joint = fit_joint(encoder.embed(given.texts), targets, known, encoder=encoder)
    wider = joint.with_answer("open_account", encoder=encoder)
    before = joint.logits([], encoder.embed(given.texts[:5]))
    after = wider.logits([], encoder.embed(given.texts[:5]))
    assert after.shape == (5, 4)
    np.testing.assert_allclose(after[:, :3], before, rtol=1e-6)


def test_sigreg_is_small_for_a_normal_cloud_and_large_for_a_collapsed_one() -> None:
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((8, 64))
    directions /= np.linalg.norm(directions, axis=0)
    cloud = rng.standard_normal((2000, 8))
    assert sigreg(cloud, directions) < 0.01 < 0.1 < sigreg(np.zeros((2000, 8)), directions)


def test_the_penalty_spreads_predictions_out() -> None:
    encoder, given = WordEncoder(), rows(200, seed=6)
    vectors = encoder.embed(given.texts)
    targets = np.array([sorted(INTENTS).index(str(a)) for a in given.answers])
    directions = np.eye(encoder.dim)
    spread = [
        sigreg(vectors @ j.weights + j.bias, directions)
        for weight in (0.0, 5.0)
        for j in [fit_joint(vectors, targets, sorted(INTENTS), encoder=encoder, sigreg=weight)]
    ]
    assert spread[1] < spread[0]


def test_selected_columns_equal_slicing() -> None:
    counts = hashed_ngrams(["my card is lost", "", "lost lost card", "weather"])
    seen = np.unique(counts.indices)
    columns = np.sort(np.append(seen[::2], [counts.shape[1] - 1]))
    picked = select_columns(counts, columns)
    np.testing.assert_array_equal(picked.toarray(), counts.tocsc()[:, columns].toarray())
    assert not select_columns(counts[1:2], columns).nnz

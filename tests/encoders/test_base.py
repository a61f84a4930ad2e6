import logging
import subprocess
import sys

import numpy as np
import pytest

from suffice.encoders.base import Encoder, default_encoder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return default_encoder()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_a_text_has_one_vector_whatever_comes_with_it(encoder: Encoder) -> None:
    texts = ["short", "a much longer text that would pad the others " * 9, "", "Zürich 東京"]
    together = encoder.embed(texts)
    assert together.shape == (4, encoder.dim)
    assert together.dtype == np.float32
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_array_equal(encoder.embed([text])[0], vector)


@pytest.mark.parametrize("text", ["", " ", "\n", "\x00", "\ud800", "\ud800 half a pair", "🙂"])
def test_odd_texts_have_finite_vectors(encoder: Encoder, text: str) -> None:
    assert np.isfinite(encoder.embed([text])).all()


def test_no_token_means_zeros_and_no_text_means_no_row(encoder: Encoder) -> None:
    assert not encoder.embed([""]).any()
    assert encoder.embed([]).shape == (0, encoder.dim)


def test_near_meanings_lie_nearer_than_far_ones(encoder: Encoder) -> None:
    cat, kitten, bond = encoder.embed(
        ["the cat sat on the mat", "a kitten lay on the rug", "bond yields rose in March"]
    )
    assert cosine(cat, kitten) > cosine(cat, bond) + 0.2


def test_the_fingerprint_names_encoder_and_weights(encoder: Encoder) -> None:
    name, _, digest = encoder.fingerprint.partition(":")
    assert name == f"wordllama-{encoder.dim}"
    assert len(digest) == 16
    assert int(digest, 16) >= 0


def test_loading_leaves_the_root_logger_alone() -> None:
    code = (
        "import logging; from suffice.encoders.base import default_encoder; default_encoder();"
        "print(len(logging.root.handlers), logging.root.level)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", str(logging.WARNING)]

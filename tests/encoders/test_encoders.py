"""Encoders: MiniLM and EfficientNet from their files, and a served embedding endpoint."""

import io
import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from tools.encoders.weights import WeightFile, read_safetensors, read_torch_legacy

from suffice.encoders.base import default_encoder
from suffice.encoders.endpoint import EndpointEncoder
from suffice.encoders.onnx import EFFICIENTNET, MINILM, EfficientNet, MiniLM, encoder_folder
from suffice.errors import (
    EngineProtocolError,
    EngineRefused,
    EngineUnreachable,
    InputError,
    MissingExtra,
)
from suffice.latent.predictor import JoinedEncoder


@pytest.fixture
def minilm() -> MiniLM:
    pytest.importorskip("onnxruntime")
    if not (encoder_folder() / MINILM).is_file():
        pytest.skip("python -m tools.encoders minilm was not run")
    return MiniLM()


def test_minilm_gives_the_published_likenesses(minilm: MiniLM) -> None:
    """The example of the model's own page: 0.695, 0.943 and 0.257, here within int8's error."""
    happy = ["That is a happy person", "That is a happy dog", "That is a very happy person"]
    vectors = minilm.embed([*happy, "Today is a sunny day"])
    np.testing.assert_allclose(vectors @ vectors[0], [1.0, 0.695, 0.943, 0.257], atol=0.03)


def test_minilm_is_the_same_alone_and_in_company(minilm: MiniLM) -> None:
    texts = ["a", "", "a much longer text " * 30, "short text"]
    together = minilm.embed(texts)
    assert not together[1].any()
    for row in (0, 2, 3):
        cosine = float(together[row] @ minilm.embed([texts[row]])[0])
        assert cosine > 0.97  # int8 scales are chosen for each batch


def test_efficientnet_encodes_images() -> None:
    pytest.importorskip("onnxruntime")
    if not (encoder_folder() / EFFICIENTNET).is_file():
        pytest.skip("python -m tools.encoders efficientnet was not run")
    encoder = EfficientNet()
    images = np.zeros((2, 224, 224, 3), np.uint8)
    images[1, :112] = 255
    vectors = encoder.embed(images)
    assert vectors.shape == (2, encoder.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    assert vectors[0] @ vectors[1] < 0.95
    with pytest.raises(InputError):
        encoder.embed(images[:, :100])


def test_a_file_not_built_yet_names_the_command(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(MissingExtra, match="has not been built") as caught:
        MiniLM(tmp_path)
    assert "tools.encoders minilm" in str(caught.value.hint)


def test_joined_encoders_lie_side_by_side_at_unit_length() -> None:
    one = default_encoder()
    both = JoinedEncoder(one, one)
    vectors = both.embed(["hello world", ""])
    assert vectors.shape == (2, both.dim) == (2, 2 * one.dim)
    assert np.linalg.norm(vectors[0]) == pytest.approx(2**0.5, rel=1e-5)
    assert not vectors[1].any()


# -- weights ------------------------------------------------------------------------------------


def test_safetensors_are_read() -> None:
    array = np.arange(6, dtype=np.float32)
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    found = read_safetensors(len(header).to_bytes(8, "little") + header + array.tobytes())
    np.testing.assert_array_equal(found["w"], array.reshape(2, 3))


def test_old_pytorch_files_execute_nothing() -> None:
    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (print, ("executed",))

    start = b"".join(pickle.dumps(part) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    with pytest.raises(InputError, match="which no state dictionary needs"):
        read_torch_legacy(io.BytesIO(start + pickle.dumps(Evil())))
    with pytest.raises(InputError, match="not a PyTorch file"):
        read_torch_legacy(io.BytesIO(pickle.dumps(1)))


def test_weights_that_are_not_the_published_ones_are_refused() -> None:
    source = WeightFile(package="pytest", module="pytest", path="__init__.py", sha256="0" * 64)
    with pytest.raises(InputError, match="SHA-256"):
        source.checked()
    absent = WeightFile(package="no-such-thing", module="no_such_thing", path="x", sha256="0")
    with pytest.raises(MissingExtra, match="not installed"):
        absent.checked()


# -- a served endpoint --------------------------------------------------------------------------


class Server(BaseHTTPRequestHandler):
    """Embeds a text as its length and its number of words; `state` changes how it behaves."""

    state = ""

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        items = [
            {"index": i, "embedding": [float(len(t)), float(len(t.split())), 1.0]}
            for i, t in enumerate(texts)
        ]
        body = json.dumps({"data": items[::-1]})
        body = {"broken": "{", "short": '{"data": []}', "wide": body.replace("[", "[9.0, ")}.get(
            self.state, body
        )
        self.send_response(503 if self.state == "busy" else 200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    Server.state = ""
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_embeds_in_order_and_sends_no_empty_text(url: str) -> None:
    encoder = EndpointEncoder(url, model="m")
    vectors = encoder.embed(["one two", "", "three"])
    np.testing.assert_array_equal(vectors, [[7, 2, 1], [0, 0, 0], [5, 1, 1]])
    assert encoder.dim == 3
    assert encoder.fingerprint == EndpointEncoder(url, model="m").fingerprint
    assert encoder.fingerprint != EndpointEncoder(url, model="n").fingerprint


@pytest.mark.parametrize(
    ("state", "error"),
    [("broken", EngineProtocolError), ("short", EngineProtocolError), ("busy", EngineRefused)],
)
def test_an_endpoint_that_fails_is_an_error(url: str, state: str, error: type[Exception]) -> None:
    encoder = EndpointEncoder(url, model="m")
    Server.state = state
    with pytest.raises(error):
        encoder.embed(["text"])


def test_an_endpoint_that_is_not_there_or_not_http() -> None:
    with pytest.raises(EngineUnreachable):
        EndpointEncoder("http://127.0.0.1:9", model="m", timeout_s=1.0)
    with pytest.raises(InputError):
        EndpointEncoder("file:///etc", model="m")

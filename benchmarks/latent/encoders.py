"""The MiniLM encoder for benchmarks, built from its package the first time."""

import sys

from tools.encoders.__main__ import build_minilm

from suffice.encoders.onnx import MINILM, MiniLM, encoder_folder
from suffice.errors import SufficeError


def minilm(*, threads: int) -> MiniLM:
    """Return MiniLM, or stop with exit status 2 and say what is not installed."""
    try:
        if not (encoder_folder() / MINILM).is_file():
            print("building the MiniLM encoder, once", file=sys.stderr)
            build_minilm(encoder_folder())
        return MiniLM(threads=threads)
    except SufficeError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error

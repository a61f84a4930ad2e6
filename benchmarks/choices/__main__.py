"""Accuracy and speed of choosing the action between two states without decoding.

The questions that ship, five folds of whole things, with each text encoder.

python -m benchmarks.choices [--json]
"""

import json
from typing import Any

from benchmarks.inputs import benchmark_parser
from benchmarks.latent.encoders import minilm
from suffice.encoders.base import Encoder, default_encoder
from suffice.latent.inverse import measure_choices
from suffice.latent.predictor import JoinedEncoder
from suffice.latent.transitions import packaged_transitions


def main() -> None:
    parser = benchmark_parser(__package__, __doc__, data=False)
    arguments = parser.parse_args()
    static = default_encoder()
    report = {
        "wordllama": measure(static),
        "minilm": measure(JoinedEncoder(minilm(threads=2), static)),
    }
    print(json.dumps(report) if arguments.json else json.dumps(report, indent=2))


def measure(encoder: Encoder) -> dict[str, Any]:
    """Return the figures of one encoder."""
    result = measure_choices(packaged_transitions(), encoder=encoder)
    return {
        "questions": result.questions,
        "accuracy": result.accuracy.value,
        "interval": result.accuracy.interval,
        "controls": result.controls,
        "decodes": result.decodes,
        "decodes_saved": result.decodes_saved,
        "choices_per_s": result.choices_per_s,
    }


if __name__ == "__main__":
    main()

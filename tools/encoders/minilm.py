"""all-MiniLM-L6-v2 as an int8 ONNX file, built from the published weights without torch."""

from pathlib import Path

import numpy as np

from tools.encoders.graph import Graph
from tools.encoders.weights import Weights

LAYERS, HEADS, WIDTH = 6, 12, 384
EPSILON = 1e-12


def write_fp32(weights: Weights, path: Path) -> None:
    """Write the encoder: token ids and mask (batch, length) to unit vectors (batch, 384)."""
    graph = Graph()
    hidden = _embed(graph, weights)
    bias = _attention_bias(graph)
    for layer in range(LAYERS):
        hidden = _layer(graph, weights, hidden, bias=bias, prefix=f"encoder.layer.{layer}.")
    shape = ["batch", "length"]
    graph.save(
        path,
        inputs={"input_ids": (np.int64, shape), "attention_mask": (np.int64, shape)},
        output=_pool(graph, hidden),
    )


def _embed(graph: Graph, weights: Weights) -> str:
    tables = {
        part: weights[f"embeddings.{part}_embeddings.weight"] for part in ("word", "position")
    }
    kind = weights["embeddings.token_type_embeddings.weight"][0]  # all text is of the first kind
    words = graph.add("Gather", graph.weight(tables["word"], name="words"), "input_ids")
    length = graph.add("Shape", "input_ids", start=1, end=2)
    places = graph.add(
        "Slice", graph.weight(tables["position"] + kind), graph.ints(0), length, graph.ints(0)
    )
    return _norm(graph, weights, graph.add("Add", words, places), name="embeddings.LayerNorm")


def _attention_bias(graph: Graph) -> str:
    """Return 0 for tokens and a large negative number for padding, (batch, 1, 1, length)."""
    mask = graph.add("Cast", "attention_mask", to=1)
    absent = graph.add("Sub", mask, graph.weight(np.float32(1.0)))
    scaled = graph.add("Mul", absent, graph.weight(np.float32(1e4)))
    return graph.add("Unsqueeze", scaled, graph.ints(1, 2))


def _layer(graph: Graph, weights: Weights, hidden: str, *, bias: str, prefix: str) -> str:
    attended = _attend(graph, weights, hidden, bias=bias, prefix=prefix + "attention.self.")
    out = _dense(graph, weights, attended, name=prefix + "attention.output.dense")
    hidden = _norm(
        graph, weights, graph.add("Add", out, hidden), name=prefix + "attention.output.LayerNorm"
    )
    wide = graph.add("Gelu", _dense(graph, weights, hidden, name=prefix + "intermediate.dense"))
    out = _dense(graph, weights, wide, name=prefix + "output.dense")
    return _norm(graph, weights, graph.add("Add", out, hidden), name=prefix + "output.LayerNorm")


def _attend(graph: Graph, weights: Weights, hidden: str, *, bias: str, prefix: str) -> str:
    """Multi-head self-attention, its three projections joined into one matrix."""
    scale = np.float32((WIDTH // HEADS) ** -0.5)
    parts = [
        (weights[f"{prefix}{p}.weight"], weights[f"{prefix}{p}.bias"])
        for p in ("query", "key", "value")
    ]
    parts[0] = (parts[0][0] * scale, parts[0][1] * scale)
    joined = graph.add("MatMul", hidden, graph.weight(np.concatenate([w for w, _ in parts]).T))
    joined = graph.add("Add", joined, graph.weight(np.concatenate([b for _, b in parts])))
    heads = graph.ints(0, 0, HEADS, WIDTH // HEADS)
    query, key, value = (
        graph.add("Transpose", graph.add("Reshape", part, heads), perm=perm)
        for part, perm in zip(
            graph.split("Split", joined, outputs=3, axis=-1, num_outputs=3),
            ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]),
            strict=True,
        )
    )
    share = graph.add("Softmax", graph.add("Add", graph.add("MatMul", query, key), bias), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", share, value), perm=[0, 2, 1, 3])
    return graph.add("Reshape", mixed, graph.ints(0, 0, WIDTH))


def _dense(graph: Graph, weights: Weights, hidden: str, *, name: str) -> str:
    product = graph.add("MatMul", hidden, graph.weight(weights[name + ".weight"].T))
    return graph.add("Add", product, graph.weight(weights[name + ".bias"]))


def _norm(graph: Graph, weights: Weights, hidden: str, *, name: str) -> str:
    scale, bias = (graph.weight(weights[f"{name}.{part}"]) for part in ("weight", "bias"))
    return graph.add("LayerNormalization", hidden, scale, bias, epsilon=EPSILON)


def _pool(graph: Graph, hidden: str) -> str:
    """Average over the tokens that are not padding, then scale to unit length."""
    mask = graph.add("Unsqueeze", graph.add("Cast", "attention_mask", to=1), graph.ints(2))
    total = graph.add("ReduceSum", graph.add("Mul", hidden, mask), graph.ints(1), keepdims=0)
    return graph.add("LpNormalization", total, axis=-1, p=2)

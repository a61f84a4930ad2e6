"""A builder of ONNX graphs, so that a network reads as a sequence of operations."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 20  # the first with Gelu; LayerNormalization came with 17


class Graph:
    """An ONNX graph under construction; each call adds a node and returns its output's name."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def weight(self, array: NDArray[Any] | np.generic, *, name: str | None = None) -> str:
        """Add a constant, named after its position unless `name` is given."""
        from onnx import numpy_helper

        name = name or f"constant_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def ints(self, *values: int) -> str:
        """Add a constant vector of integers, the form in which ONNX takes shapes and axes."""
        return self.weight(np.array(values, dtype=np.int64))

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.split(op, *inputs, outputs=1, **attributes)[0]

    def split(self, op: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        from onnx import helper

        stem = f"{op.lower()}_{len(self._nodes)}"
        names = [f"{stem}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, name=stem, **attributes))
        return names

    def save(self, path: Path, *, inputs: dict[str, tuple[Any, list[Any]]], output: str) -> None:
        """Check the graph and write it; `inputs` maps a name to its numpy type and shape."""
        import onnx
        from onnx import TensorProto, helper

        input_info = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape
            )
            for name, (kind, shape) in inputs.items()
        ]
        self._nodes.append(helper.make_node("Identity", [output], ["embedding"]))
        output_info = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", None])
        graph = helper.make_graph(self._nodes, "encoder", input_info, [output_info], self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 10
        onnx.checker.check_model(model)
        onnx.save(model, path)

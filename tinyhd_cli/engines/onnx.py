"""Convert networks to ONNX, and run them in ONNX Runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from . import graph
from .graph import Array, Node

OPSET = 18
IR_VERSION = 10
"""Version of the ONNX format; ONNX Runtime 1.20 and later read it."""


class Builder:
    """The nodes and weights of an ONNX graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, values: Any) -> str:
        """Add a constant. Return its name."""
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation. Return the name of its result."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def operation(self, node: Node, inputs: list[str]) -> str:
        """Add the operation of a node. Return the name of its result."""
        match node:
            case graph.Input():
                return "clip"
            case graph.Conv():
                pads = [*node.padding, *node.padding]
                groups = node.shape[0] if node.depthwise else 1
                weights = self.constant(node.weight), self.constant(node.bias)
                return self.add("Conv", inputs[0], *weights, strides=node.stride, pads=pads, group=groups)
            case graph.PixelShuffle():
                return self.add("ConvTranspose", inputs[0], self.constant(node.weight), strides=[1, 2, 2])
            case graph.Interpolate():
                sizes = self.constant(np.array([1, *node.shape]))
                how = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
                return self.add("Resize", inputs[0], "", "", sizes, **how)
            case graph.Relu6():
                return self.add("Clip", inputs[0], self.constant(np.float32(0)), self.constant(np.float32(6)))
            case graph.Sigmoid():
                return self.add("Sigmoid", inputs[0])
            case graph.Add():
                return self.add("Add", *inputs)
            case graph.Concat():
                return self.add("Concat", *inputs, axis=1)
            case graph.Scale():
                y = self.add("Mul", inputs[0], self.constant(np.float32(node.factor)))
                return self.add("Add", y, self.constant(np.float32(node.offset))) if node.offset else y
        raise TypeError(f"unknown operation: {type(node).__name__}")


def to_onnx(result: Node, metadata: Mapping[str, str] | None = None) -> Any:
    """Convert a graph to ONNX.

    Args:
        result: the graph's output.
        metadata: entries of the model's metadata.

    Returns:
        A checked model with the input ``clip`` ``(1, 3, 16, H, W)`` and the output ``saliency`` ``(1, T, H, W)``.
    """
    builder, names = Builder(), dict[Node, str]()
    for node in graph.operations(result):
        names[node] = builder.operation(node, [names[source] for source in node.inputs])
    squeezed = helper.make_node("Squeeze", [names[result], builder.constant(np.array([1]))], ["saliency"])
    clip = next(node for node in names if isinstance(node, graph.Input))
    model = helper.make_model(
        helper.make_graph(
            [*builder.nodes, squeezed],
            "tinyhd",
            [helper.make_tensor_value_info("clip", onnx.TensorProto.FLOAT, [1, *clip.shape])],
            [helper.make_tensor_value_info("saliency", onnx.TensorProto.FLOAT, list(result.shape))],
            builder.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="tinyhd",
    )
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    return model


class OnnxRuntime:
    """A network in ONNX Runtime.

    Args:
        model: the serialized ONNX model.
        threads: number of CPU threads; 0 for all cores.
    """

    name = "onnx"
    precision = "float32"

    def __init__(self, model: bytes, threads: int) -> None:
        import onnxruntime

        self.graph = hashlib.sha256(model).hexdigest()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Spinning threads would compete with the video encoder for cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def infer(self, clip: Array) -> Array:
        """Return the saliency ``(T, H, W)`` of a clip ``(3, 16, H, W)``."""
        saliency: Array = self._session.run(["saliency"], {"clip": clip[np.newaxis]})[0][0]
        return saliency

"""ONNX: files that many programs read, and ONNX Runtime as an engine."""

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
"""What ONNX Runtime reads since 1.20."""


class Builder:
    """Collects the nodes and weights of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, values: Any) -> str:
        """The name of a constant."""
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The name of an operation's result."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def operation(self, node: Node, inputs: list[str]) -> str:
        """One operation of the graph."""
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
                corners = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
                return self.add("Resize", inputs[0], "", "", sizes, **corners)
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
        raise TypeError(f"no such operation: {type(node).__name__}")


def to_onnx(result: Node, about: Mapping[str, str] | None = None) -> Any:
    """The graph as an ONNX model: input ``clip`` ``(1, 3, 16, H, W)``, output ``saliency`` ``(1, T, H, W)``.

    Args:
        result: the graph.
        about: what to say in the model's metadata.
    """
    builder, names = Builder(), dict[Node, str]()
    for node in graph.operations(result):
        names[node] = builder.operation(node, [names[one] for one in node.inputs])
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
    helper.set_model_props(model, dict(about or {}))
    onnx.checker.check_model(model)
    return model


class OnnxRuntime:
    """A graph in ONNX Runtime.

    Args:
        model: the serialized ONNX model.
        threads: how many processor cores to use; 0 for all.
    """

    name = "onnx"
    precision = "float32"

    def __init__(self, model: bytes, threads: int) -> None:
        import onnxruntime

        self.graph = hashlib.sha256(model).hexdigest()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait by spinning would take the encoder's cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def infer(self, clip: Array) -> Array:
        """Saliency ``(T, H, W)`` of a clip ``(3, 16, H, W)``."""
        saliency: Array = self._session.run(["saliency"], {"clip": clip[np.newaxis]})[0][0]
        return saliency

"""EfficientNet-Lite0 as an ONNX graph, which ONNX Runtime runs in a third of the time that PyTorch takes.

There, padding, convolution and clamping are one operation, and no tensor is laid out anew between them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

_OPERATIONS, _FORMAT = 13, 8
"""Versions of ONNX's set of operations and of its files; every ONNX Runtime since 1.17 knows them."""


def session(net: Any) -> Any:
    """The network up to its averaged last feature map, for one thread of the processor.

    Input ``pixels`` is (B, 3, 224, 224), output (B, 1280), both float32.

    Args:
        net: EfficientNet of efficientnet_lite_pytorch, normalisations folded into its convolutions.

    Raises:
        ImportError: onnx or onnxruntime is not installed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph_file(net), options, providers=["CPUExecutionProvider"])


def graph_file(net: Any) -> bytes:
    """Content of the ONNX file of the network, for ``session``.

    A test holds it against ONNX's rules: to do so at each opening would take as long as all the rest of it.
    """
    graph = _Graph()
    x = graph.convolution("pixels", net._conv_stem, clamps=True)
    for block in net._blocks:
        before = x
        if block._block_args.expand_ratio != 1:
            x = graph.convolution(x, block._expand_conv, clamps=True)
        x = graph.convolution(x, block._depthwise_conv, clamps=True)
        x = graph.convolution(x, block._project_conv, clamps=False)
        if _is_residual(block):
            x = graph.node("Add", x, before)
    x = graph.convolution(x, net._conv_head, clamps=True)
    graph.node("Flatten", graph.node("GlobalAveragePool", x), output="features")
    return graph.file()


def _is_residual(block: Any) -> bool:
    of = block._block_args
    return block.id_skip and of.stride in (1, [1]) and of.input_filters == of.output_filters


class _Graph:
    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        for value in (0, 6):
            self._constant(f"limit {value}", np.array(value, np.float32))

    def _constant(self, name: str, values: NDArray[np.float32]) -> None:
        from onnx import numpy_helper

        self._constants.append(numpy_helper.from_array(values, name))

    def node(self, operation: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add an operation; return the name of its output."""
        from onnx import helper

        output = output or f"{operation} {len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def convolution(self, x: str, layer: nn.Conv2d, *, clamps: bool) -> str:
        """Add a convolution and, where it ``clamps``, ReLU6."""
        named = {}
        for kind in ("weight", "bias"):
            named[kind] = f"{kind} {len(self._nodes)}"
            self._constant(named[kind], getattr(layer, kind).detach().cpu().numpy())
        left, right, top, bottom = _padding(layer)
        strides, shape = list(layer.stride), list(layer.kernel_size)
        x = self.node(
            *("Conv", x, *named.values()),
            pads=[top, left, bottom, right],
            strides=strides,
            kernel_shape=shape,
            group=layer.groups,
        )
        return self.node("Clip", x, "limit 0", "limit 6") if clamps else x

    def file(self) -> bytes:
        """Content of an ONNX file."""
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self._nodes,
            "efficientnet-lite0",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["B", 3, 224, 224])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 1280])],
            self._constants,
        )
        versions = [helper.make_opsetid("", _OPERATIONS)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=_FORMAT)
        content: bytes = model.SerializeToString()
        return content


def _padding(layer: Any) -> tuple[int, int, int, int]:
    """Left, right, top, bottom; the package pads before the convolution."""
    padding = layer.static_padding
    left, right, top, bottom = padding.padding if isinstance(padding, nn.ZeroPad2d) else (0, 0, 0, 0)
    return left, right, top, bottom

"""Make the tiny networks that stand in for OpenCV's YuNet and SFace and for CenterFace in tests, Testing/data/opencv.

They have the inputs and outputs of the real ones, whose weights are not in the repository, and take the brightest
place of a picture for a face. ``pip install onnx``, then ``python Testing/make_opencv_networks.py``.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

FOLDER = Path(__file__).parent / "data" / "opencv"
STRIDES = (8, 16, 32)
FACE_PIXELS = 160
"""Side of every face that is found."""
WINDOW_PIXELS = 96
"""Side of what has to be bright for that."""


class Graph:
    """Nodes and constants of a network."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, values, dtype=np.float32):
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def add(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolved(self, source, output, weights, bias):
        """A 1×1 convolution: weights (channels out, channels in), bias (channels out)."""
        weights = np.asarray(weights, np.float32)[..., None, None]
        return self.add(
            "Conv", [source, self.constant(f"{output}_w", weights), self.constant(f"{output}_b", bias)], output
        )

    def save(self, name, picture, size, outputs, rank):
        inputs = [helper.make_tensor_value_info(picture, TensorProto.FLOAT, [1, 3, size, size])]
        wanted = [helper.make_tensor_value_info(one, TensorProto.FLOAT, [None] * rank) for one in outputs]
        graph = helper.make_graph(self.nodes, "stand_in", inputs, wanted, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
        checker.check_model(model)
        save(model, FOLDER / name)


def brightness(graph, picture, stride):
    """Mean of the channels around each place, and how sure that is a face, from 0 to 1."""
    before, after = (WINDOW_PIXELS - stride) // 2, -((stride - WINDOW_PIXELS) // 2)
    pooled = graph.add(
        "AveragePool",
        [picture],
        f"pool_{stride}",
        kernel_shape=[WINDOW_PIXELS] * 2,
        strides=[stride, stride],
        pads=[before, before, after, after],
        count_include_pad=1,
    )
    level = graph.convolved(pooled, f"level_{stride}", np.full((1, 3), 0.05 / 3.0), [-8.0])
    return pooled, graph.add("Sigmoid", [level], f"sure_{stride}")


def yunet():
    graph, outputs = Graph(), []
    for stride in STRIDES:
        pooled, sure = brightness(graph, "input", stride)
        marks = np.array([[-1, -1], [1, -1], [0, 0], [-1, 1], [1, 1]], np.float32) * FACE_PIXELS / 4.0 / stride
        heads = {
            "cls": (sure, 1),
            "obj": (sure, 1),
            "bbox": (
                graph.convolved(pooled, f"b_{stride}", np.zeros((4, 3)), [0, 0, *[np.log(FACE_PIXELS / stride)] * 2]),
                4,
            ),
            "kps": (graph.convolved(pooled, f"k_{stride}", np.zeros((10, 3)), marks.ravel()), 10),
        }
        for name, (source, channels) in heads.items():
            last = graph.add("Transpose", [source], f"{name}_t{stride}", perm=[0, 2, 3, 1])
            shape = graph.constant(f"{name}_s{stride}", [1, -1, channels], np.int64)
            outputs.append(graph.add("Reshape", [last, shape], f"{name}_{stride}"))
    # In the order of the real ones: cls of all strides, obj, …
    graph.save(
        "face_detection_yunet_2023mar.onnx", "input", 640, sorted(outputs, key=lambda name: name.split("_")[0]), 3
    )


def sface():
    graph = Graph()
    grey = graph.convolved("data", "grey", np.full((1, 3), 1.0 / 3.0), [-128.0])
    small = graph.add("AveragePool", [grey], "small", kernel_shape=[14, 7], strides=[14, 7])
    graph.add("Flatten", [small], "fc1", axis=1)
    graph.save("face_recognition_sface_2021dec.onnx", "data", 112, ["fc1"], 2)


def centerface():
    graph = Graph()
    pooled, sure = brightness(graph, "input.1", 4)
    graph.add("Identity", [sure], "537")
    graph.convolved(pooled, "538", np.zeros((2, 3)), [np.log(FACE_PIXELS / 4.0)] * 2)
    graph.convolved(pooled, "539", np.zeros((2, 3)), [0.0, 0.0])
    marks = [[0.25, 0.25], [0.25, 0.75], [0.5, 0.5], [0.75, 0.25], [0.75, 0.75]]  # y, x in parts of the box
    graph.convolved(pooled, "540", np.zeros((10, 3)), np.ravel(marks))
    graph.save("centerface.onnx", "input.1", 32, ["537", "538", "539", "540"], 4)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    yunet()
    sface()
    centerface()

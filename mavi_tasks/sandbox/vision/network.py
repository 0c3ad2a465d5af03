"""EfficientNet-Lite0 forwards, in numpy: 224x224 pixels in, a thousand probabilities out.

Architecture: Tan and Le's EfficientNet, the "lite" variant of the TensorFlow TPU repository: no
squeeze-and-excite, ReLU6, stem and head of fixed width. Batch norms are folded into the convolutions when the
weights are loaded. Pictures are height x width x channels, so that a 1x1 convolution is one matrix product.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from .weights import Floats

SIDE_PX = 224
EPSILON = 1e-3
_BAND_FLOATS = 1 << 17  # half a megabyte: measured best of 32 KB to 4 MB

# repeats, kernel, stride of the first, expansion
_STAGES = ((1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6))


@dataclass(frozen=True, slots=True)
class _Pointwise:
    """A 1x1 convolution with its norm: inputs x outputs."""

    weight: Floats
    bias: Floats

    def __call__(self, x: Floats) -> Floats:
        rows = x.reshape(-1, x.shape[2]) @ self.weight
        rows += self.bias
        return rows.reshape(*x.shape[:2], -1)


@dataclass(frozen=True, slots=True)
class _Depthwise:
    """A convolution of each channel by itself: kernel x kernel x channels."""

    weight: Floats
    bias: Floats
    stride: int

    def __call__(self, x: Floats) -> Floats:
        kernel, stride = self.weight.shape[0], self.stride
        x = _padded(x, kernel, stride)
        height, width = ((size - kernel) // stride + 1 for size in x.shape[:2])
        out = np.empty((height, width, x.shape[2]), np.float32)
        # A band of rows at a time stays in the cache while all taps pass over it (a fifth faster).
        band = max(1, _BAND_FLOATS // (width * x.shape[2]))
        product = np.empty((min(band, height), width, x.shape[2]), np.float32)
        for top in range(0, height, band):
            part = out[top : top + band]
            part[:] = self.bias
            term = product[: len(part)]
            for row in range(kernel):
                first = top * stride + row
                rows = x[first : first + (len(part) - 1) * stride + 1 : stride]
                for column in range(kernel):
                    taken = rows[:, column : column + (width - 1) * stride + 1 : stride]
                    np.multiply(taken, self.weight[row, column], out=term)
                    part += term
        return out


@dataclass(frozen=True, slots=True)
class _Block:
    """An inverted residual: widen, filter, narrow; `skip` adds what came in."""

    expand: _Pointwise | None
    depthwise: _Depthwise
    project: _Pointwise
    skip: bool

    def __call__(self, x: Floats) -> Floats:
        y = x if self.expand is None else _relu6(self.expand(x))
        y = self.project(_relu6(self.depthwise(y)))
        if self.skip:
            y += x
        return y


class Network:
    """The whole classifier; immutable after construction, so threads may share it."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self._stem, self._stem_bias = _folded(weights, "_conv_stem", "_bn0")
        self._blocks = tuple(_blocks(weights))
        self._head = _pointwise(weights, "_conv_head", "_bn1")
        self._classes = np.ascontiguousarray(weights["_fc.weight"].T)
        self._classes_bias = weights["_fc.bias"]
        self._lock = threading.Lock()
        self._one_thread = _one_thread()

    def logits(self, picture: Floats) -> Floats:
        """One number for each class. `picture`: 224 x 224 x 3, RGB from 0 to 255."""
        x = _relu6(self._stemmed((picture - 127.0) / 128.0))
        for block in self._blocks:
            x = block(x)
        features = _relu6(self._head(x)).mean(axis=(0, 1))
        logits: Floats = features @ self._classes + self._classes_bias
        return logits

    def probabilities(self, pictures: Sequence[Floats]) -> Floats:
        """The mean of the pictures' probabilities; they sum to one."""
        total = np.zeros(len(self._classes_bias), np.float32)
        # One picture at a time, on one thread: on two shared cores, BLAS threads wait for each other
        # (33 ms a picture alone, 102 with its threads, 254 with several callers beside).
        with self._lock, self._one_thread():
            for picture in pictures:
                logits = self.logits(picture)
                raised = np.exp(logits - logits.max())
                total += raised / raised.sum()
        return total / np.float32(len(pictures))

    def _stemmed(self, x: Floats) -> Floats:
        """The first convolution, 3x3 with stride 2, as one matrix product over its patches."""
        x = _padded(x, 3, 2)
        size = (x.shape[0] - 3) // 2 + 1
        taps = [x[r : r + 2 * size - 1 : 2, c : c + 2 * size - 1 : 2] for r in range(3) for c in range(3)]
        patches = np.concatenate(taps, axis=2).reshape(size * size, -1)
        kernel = self._stem.transpose(2, 3, 1, 0).reshape(patches.shape[1], -1)
        rows = patches @ kernel + self._stem_bias
        return rows.reshape(size, size, -1)


def _one_thread() -> Callable[[], AbstractContextManager[object]]:
    """Makes blocks in which BLAS uses one thread, if this installation can set that."""
    try:
        from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]
    except ImportError:
        return nullcontext
    controller = ThreadpoolController()
    return lambda: controller.limit(limits=1, user_api="blas")


def _blocks(weights: Mapping[str, Floats]) -> list[_Block]:
    found: list[_Block] = []
    for repeats, kernel, first_stride, expansion in _STAGES:
        for repeat in range(repeats):
            name = f"_blocks.{len(found)}"
            stride = first_stride if repeat == 0 else 1
            expand = _pointwise(weights, f"{name}._expand_conv", f"{name}._bn0") if expansion > 1 else None
            filters, bias = _folded(weights, f"{name}._depthwise_conv", f"{name}._bn1")
            depthwise = _Depthwise(np.ascontiguousarray(filters[:, 0].transpose(1, 2, 0)), bias, stride)
            assert depthwise.weight.shape[0] == kernel
            project = _pointwise(weights, f"{name}._project_conv", f"{name}._bn2")
            found.append(_Block(expand, depthwise, project, skip=repeat > 0))
    return found


def _folded(weights: Mapping[str, Floats], conv: str, norm: str) -> tuple[Floats, Floats]:
    """A convolution's weight and bias with its batch norm multiplied in."""
    scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + EPSILON)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    return weights[f"{conv}.weight"] * scale[:, None, None, None], bias


def _pointwise(weights: Mapping[str, Floats], conv: str, norm: str) -> _Pointwise:
    weight, bias = _folded(weights, conv, norm)
    return _Pointwise(np.ascontiguousarray(weight[:, :, 0, 0].T), bias)


def _padded(x: Floats, kernel: int, stride: int) -> Floats:
    """Zero padding like TensorFlow's SAME: an odd row or column is added at the bottom or right."""
    height, width, channels = x.shape
    tall, wide = (max(0, (-(-size // stride) - 1) * stride + kernel - size) for size in (height, width))
    if not tall and not wide:
        return x
    out = np.zeros((height + tall, width + wide, channels), np.float32)
    out[tall // 2 : tall // 2 + height, wide // 2 : wide // 2 + width] = x
    return out


def _relu6(x: Floats) -> Floats:
    return np.clip(x, 0.0, 6.0, out=x)

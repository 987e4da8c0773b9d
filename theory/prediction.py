"""Prediction: five readings of a denoiser's answer (x0, eps, v, score, velocity) through one 2x2 solve."""

from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from theory.process import Level, Scalar


class Kind(Enum):
    """What a model predicts. Each is p x_0 + q eps with the row (p, q) that ``row`` gives."""

    X0 = "x0"
    EPS = "eps"
    V = "v"
    SCORE = "score"
    VELOCITY = "velocity"

    def row(self, at: Level) -> tuple[Scalar, Scalar]:
        match self:
            case Kind.X0:
                return 1.0, 0.0
            case Kind.EPS:
                return 0.0, 1.0
            case Kind.V:
                return -at.sigma, at.alpha
            case Kind.SCORE:
                return 0.0, -1.0 / at.sigma
            case Kind.VELOCITY:
                return at.alpha_dot, at.sigma_dot


@dataclass(frozen=True, eq=False)
class Prediction:
    r"""What a model says at state x and level ``at``, readable as x0, eps, v, score or velocity.

    value = p x_0 + q eps and x = alpha x_0 + sigma eps give, with det = p sigma - q alpha,

        x0 = (sigma value - q x) / det,   eps = (p x - alpha value) / det.

    The kind asked for is returned untouched if it is the kind predicted. det = 0 says where a kind is blind: an eps
    prediction at alpha = 0 and an x0 prediction at sigma = 0 raise ValueError on any other reading. The readings are
    the conditional expectations E[.|x] when the value is. score is grad log p_t(x) = -eps / sigma, v is
    alpha eps - sigma x_0, velocity is dx/dt of the probability-flow ODE, alpha' x_0 + sigma' eps.

    value, x: (..., dim) or images; level entries are numbers, or tensors of the batch shape.
    Source: salimans2022progressive, appendix D (v); karras2022edm, eq. 3; lipman2022flow, eq. 9 (velocity).
    """

    kind: Kind
    value: Tensor
    x: Tensor
    at: Level

    @property
    def x0(self) -> Tensor:
        return self._read(Kind.X0)

    @property
    def eps(self) -> Tensor:
        return self._read(Kind.EPS)

    @property
    def v(self) -> Tensor:
        return self._read(Kind.V)

    @property
    def score(self) -> Tensor:
        return self._read(Kind.SCORE)

    @property
    def velocity(self) -> Tensor:
        return self._read(Kind.VELOCITY)

    def _read(self, kind: Kind) -> Tensor:
        if kind is self.kind:
            return self.value
        at = self.at
        if isinstance(at.alpha, Tensor) or isinstance(at.sigma, Tensor):
            at = Level(*(entry.unsqueeze(-1) if isinstance(entry, Tensor) else entry for entry in at))
        (p, q), (a, b) = self.kind.row(at), kind.row(at)
        det = p * at.sigma - q * at.alpha
        if not isinstance(det, Tensor) and det == 0:
            raise ValueError(
                f"a {self.kind.value} prediction at alpha={at.alpha}, sigma={at.sigma} does not determine "
                f"{kind.value}; use another prediction kind there, or stop the grid before it."
            )
        # a x0 + b eps, with the two solves folded into one combination of value and x
        return ((a * at.sigma - b * at.alpha) / det) * self.value + ((b * p - a * q) / det) * self.x

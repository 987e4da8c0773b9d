r"""The direction of a point on a sphere, seen through noise: Bessel functions as the moments and mass they stand for.

A unit vector u of R^d with density proportional to exp(kappa u_1) has, with nu = d/2 - 1,

    E u_1 = I_{nu+1}(kappa) / I_nu(kappa),      E exp(kappa (u_1 - 1)) = Gamma(nu+1) (2/kappa)^nu e^{-kappa} I_nu(kappa)

(the second mean over the uniform law). Everything here is within a few dozen units of the last place for every
kappa in [0, 1e24] and every d, in float64 and float32, vectorised over kappa, on any device, and differentiable.

Route. With h = sqrt(mu^2 + kappa^2) and p = mu / h, Debye's uniform expansion (DLMF 10.41.3) is a series in 1/h,

    log I_mu(kappa) = h + mu log(kappa / (mu + h)) - (1/2) log(2 pi h) + log U,    U = sum_k h^{-k} P_k(p^2),

where p^k P_k(p^2) = u_k(p) are Debye's polynomials. Their coefficients are made exactly, with fractions. The series
serves at order nu itself wherever h is large; where neither nu nor kappa is, it is taken at an order nu + N and
carried down by recursions that are sums of positive terms, hence stable.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

TERMS = 17
"""Terms of the series; the first one left out is below 1e-17 for every h >= LARGE."""

LARGE = 30.0
"""From this value of nu or kappa on, the series serves at order nu itself."""


PIECE = 4096
"""Values of kappa taken together."""


class Direction(NamedTuple):
    """Moments of u under the density proportional to exp(kappa u_1) on the unit sphere, each of kappa's shape."""

    pull: Tensor
    """E u_1 / kappa, which is also the variance of every other coordinate of u; 1/d at kappa = 0."""
    radial: Tensor
    """Var u_1, which is the derivative of E u_1 with respect to kappa; 1/d at kappa = 0."""


def pull(dim: int, kappa: Tensor) -> Tensor:
    """E u_1 / kappa on the unit sphere of R^dim, for kappa >= 0; see ``Direction``."""
    return _in_pieces(lambda kappa: _moments(dim, kappa, radial=False), kappa)[0]


def direction(dim: int, kappa: Tensor) -> Direction:
    """E u_1 / kappa and Var u_1 on the unit sphere of R^dim, for kappa >= 0."""
    return Direction(*_in_pieces(lambda kappa: _moments(dim, kappa, radial=True), kappa))


def log_mass(dim: int, kappa: Tensor) -> Tensor:
    """log E exp(kappa (u_1 - 1)) for u uniform on the unit sphere of R^dim: zero at kappa = 0, negative beyond."""
    return _in_pieces(lambda kappa: (_log_mass(dim, kappa),), kappa)[0]


def _in_pieces(formula: Callable[[Tensor], tuple[Tensor, ...]], kappa: Tensor) -> tuple[Tensor, ...]:
    """The formula over the flattened kappa in pieces whose temporaries stay in the cache."""
    pieces = [formula(piece) for piece in kappa.reshape(-1).split(PIECE)] or [formula(kappa.reshape(-1))]
    return tuple(torch.cat(parts).reshape(kappa.shape) for parts in zip(*pieces, strict=True))


def _moments(dim: int, kappa: Tensor, *, radial: bool) -> tuple[Tensor, ...]:
    if dim == 1:
        return _moments_of_a_sign(kappa)
    nu = dim / 2 - 1
    mu, steps, near = _order(nu, kappa)
    out = _pull_and_radial_at(mu, kappa) if radial else (_pull_at(mu, kappa),)
    small = kappa.clamp_max(LARGE)
    for j in _orders(nu, steps):
        out = tuple(
            torch.where(near, down, now) for down, now in zip(_one_order_down(j, small, *out), out, strict=True)
        )
    return out


def _moments_of_a_sign(kappa: Tensor) -> tuple[Tensor, Tensor]:
    """d = 1, where u = +-1: E u = tanh kappa."""
    safe = kappa.where(kappa > 1e-4, 1.0)
    fade = torch.exp(-2 * kappa)
    return torch.where(kappa > 1e-4, safe.tanh() / safe, 1 - kappa**2 / 3), 4 * fade / (1 + fade) ** 2


def _order(nu: float, kappa: Tensor) -> tuple[Tensor, int, Tensor]:
    """The order at which the series is taken for each kappa, the steps from there down to nu, and who takes them."""
    near = kappa < LARGE
    steps = max(0, math.ceil(LARGE - nu))
    return torch.where(near, kappa.new_full((), nu + steps), kappa.new_full((), nu)), steps, near


def _orders(nu: float, steps: int) -> Sequence[float]:
    return [nu + i for i in range(steps, 0, -1)]


def _one_order_down(j: float, kappa: Tensor, ratio: Tensor, slope: Tensor | None = None) -> tuple[Tensor, ...]:
    """From I_{j+1}/(kappa I_j) and (I_{j+1}/I_j)' to the same at j - 1: I_{j-1} = I_{j+1} + (2j/kappa) I_j.

    With r_j = I_{j+1}/I_j that is r_{j-1} = 1/(2j/kappa + r_j) and r_{j-1}' = r_{j-1}^2 (2j/kappa^2 - r_j').
    """
    down = 1 / (2 * j + kappa**2 * ratio)
    if slope is None:
        return (down,)
    return down, down**2 * (2 * j - kappa**2 * slope)


def _pull_at(mu: Tensor, kappa: Tensor) -> Tensor:
    h = torch.hypot(kappa, mu)
    U, Q = _series(mu / h, h, ("U", "Q"))
    return (1 / (1 + mu / h) - (0.5 + Q) / (1 + U) / h) / h


def _pull_and_radial_at(mu: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
    r"""r/kappa and r' for r = I_{mu+1}/I_mu, with G = Q/U and D = p d/dp:

    r/kappa = [1/(1+p) - G/h] / h,      r' = [mu/(1+p) - G + (1 - p^2)(2G + DG)] / h^2.
    """
    h = torch.hypot(kappa, mu)
    p = mu / h
    U, Q, DU, DQ = _series(p, h, ("U", "Q", "DU", "DQ"))
    G = (0.5 + Q) / (1 + U)
    DG = (DQ - G * DU) / (1 + U)
    return (1 / (1 + p) - G / h) / h, (mu / (1 + p) - G + (kappa / h) ** 2 * (2 * G + DG)) / h / h


def _log_mass(dim: int, kappa: Tensor) -> Tensor:
    """Debye's expansion with the constants and kappa taken out, so that nothing large cancels.

    Where the order is large, Gamma's Stirling series is taken out as well: what is left are terms <= 0.
    """
    if dim == 1:
        return torch.log1p(torch.exp(-2 * kappa)) - math.log(2)
    nu = dim / 2 - 1
    mu, steps, near = _order(nu, kappa)
    h = torch.hypot(kappa, mu)
    U, Q = _series(mu / h, h, ("U", "Q"))
    top = nu + steps
    excess = kappa * (kappa / (h + mu))  # h - mu
    first = -top * (kappa + excess) / (h + kappa)  # h - mu - kappa
    low = first - top * (excess / (2 * top)).log1p() - 0.5 * (excess / top).log1p() + U.log1p() + _stirling(top)
    if not steps:
        return low
    ratio, small = (1 / (1 + mu / h) - (0.5 + Q) / (1 + U) / h) / h, kappa.clamp_max(LARGE)
    for j in _orders(nu, steps):
        grow = small**2 * ratio  # kappa I_{j+1} / I_j
        low = low + torch.log1p(grow / (2 * j))
        ratio = 1 / (2 * j + grow)
    constant = math.lgamma(nu + 1) + nu * math.log(2) - 0.5 * math.log(2 * math.pi)
    high = constant + nu**2 / (h + kappa) - nu * (nu + h).log() - 0.5 * h.log() + U.log1p()
    return torch.where(near, low, high)


def _series(p: Tensor, h: Tensor, names: Sequence[str]) -> tuple[Tensor, ...]:
    """The sums over k >= 1 of h^{-k} c_k(p^2), for the polynomials of each name, for p and h of shape (n,)."""
    table = torch.tensor([_coefficients()[name] for name in names], dtype=h.dtype, device=h.device)
    powers = (p**2).expand(TERMS, -1).clone()
    powers[0] = 1
    each = (table.reshape(-1, TERMS) @ powers.cumprod(0)).reshape(len(names), TERMS - 1, -1)
    total = each[:, -1] / h
    for k in range(TERMS - 3, -1, -1):
        total = (total + each[:, k]) / h
    return total.unbind(0)


@cache
def _coefficients() -> dict[str, list[list[float]]]:
    r"""For k = 1 .. TERMS-1 the coefficients in t = p^2 of the polynomials that accompany h^{-k}.

    U: P_k, from u_{k+1} = (1/2) p^2 (1 - p^2) u_k' + (1/8) int_0^p (1 - 5 s^2) u_k ds      (DLMF 10.41.9);
    Q: (k + 1/2) P_k + 2 t P_k', that is u_k/2 + p u_k', which turns U into I_{mu+1} (DLMF 10.41.10);
    DU, DQ: p d/dp of U and Q at fixed mu.
    """
    rows: dict[str, list[list[float]]] = {"U": [], "Q": [], "DU": [], "DQ": []}
    P = [Fraction(1)]
    for k in range(TERMS):
        D = [(k + 2 * a) * c for a, c in enumerate(P)]
        Q = [c / 2 + d for c, d in zip(P, D, strict=True)]
        DQ = [(k + 2 * a) * c for a, c in enumerate(Q)]
        if k:
            for name, row in (("U", P), ("Q", Q), ("DU", D), ("DQ", DQ)):
                rows[name].append([float(c) for c in row] + [0.0] * (TERMS - len(row)))
        following = [Fraction(0)] * (k + 2)
        for a, c in enumerate(P):
            following[a] += c * (Fraction(k + 2 * a, 2) + Fraction(1, 8 * (k + 2 * a + 1)))
            following[a + 1] -= c * (Fraction(k + 2 * a, 2) + Fraction(5, 8 * (k + 2 * a + 3)))
        P = following
    return rows


def _stirling(mu: float) -> float:
    """log Gamma(mu + 1) - mu log mu + mu - (1/2) log(2 pi mu), for mu >= LARGE (DLMF 5.11.1)."""
    return sum(c / mu ** (2 * k + 1) for k, c in enumerate((1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)))

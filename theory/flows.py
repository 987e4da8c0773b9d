"""Trajectories of probability-flow ODEs, and how straight they are.

In z = x / sqrt(alpha^2 + sigma^2) and lambda = log(alpha / sigma) a law has one family of flow lines, whatever the
process; a process only says how fast they are run and how they are scaled. So one run serves every process.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
import torch
from scipy.integrate import DOP853
from torch import Tensor

from theory.estimate import Estimate
from theory.process import NoiseProcess
from toy_distributions.base import Distribution


class Rule(NamedTuple):
    """A quadrature rule on an interval that is also a grid: both ends are nodes, of weight zero."""

    nodes: Tensor
    weights: Tensor


def gauss_panels(edges: Sequence[float], order: int = 8) -> Rule:
    """``order`` Gauss-Legendre nodes on every panel between consecutive edges, which may rise or fall.

    Exact for piecewise polynomials of degree 2 order - 1. The weights carry the sign of the direction, so that
    sum w f is the integral from the first edge to the last.
    """
    unit, weight = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(order))
    ends = torch.tensor(edges, dtype=torch.float64)
    half, middle = 0.5 * ends.diff()[:, None], 0.5 * (ends[1:] + ends[:-1])[:, None]
    zero = ends.new_zeros(1)
    return Rule(
        torch.cat([ends[:1], (middle + half * unit).reshape(-1), ends[-1:]]),
        torch.cat([zero, (half * weight).reshape(-1), zero]),
    )


def even_panels(start: float, end: float, panels: int, order: int = 8) -> Rule:
    """``gauss_panels`` of equal width."""
    return gauss_panels(torch.linspace(start, end, panels + 1, dtype=torch.float64).tolist(), order)


def time_panels(parts: int = 1, *, halvings: int = 5, order: int = 8) -> Rule:
    """Panels on [0, 1] from 1 down to 0 whose width halves towards both ends, each cut into ``parts``.

    A Gaussian interpolation is singular at t / (1 - t) = +-i r, r a ratio of standard deviations: near an end, at a
    distance that these panels keep proportional to their width as long as r and 1 / r are above 2^-halvings.
    """
    left = [0.0, *(2.0 ** -(halvings + 1 - j) for j in range(halvings + 1))]
    return gauss_panels(_cut([1 - edge for edge in left[:-1]] + left[::-1], parts), order)


def lambda_panels(parts: int = 1, *, order: int = 8) -> Rule:
    """Panels on lambda in [-16, 16], narrow in the middle where laws of unit size change, each cut into ``parts``.

    Beyond, alpha / sigma or sigma / alpha is under 2e-7, and ``along(..., whole=True)`` adds the rest to its square.
    """
    half = [0.8, 1.6, 2.4, 3.2, 4.2, 5.5, 8.0, 16.0]
    return gauss_panels(_cut([-lam for lam in half[::-1]] + [0.0, *half], parts), order)


def _cut(edges: list[float], parts: int) -> list[float]:
    cuts = [a + (b - a) * j / parts for a, b in itertools.pairwise(edges) for j in range(parts)]
    return [*cuts, edges[-1]]


class Run(NamedTuple):
    """States (T, ...) and slopes (T, ...) of an ODE at the nodes of a grid."""

    states: Tensor
    slopes: Tensor


def integrate(slope: Callable[[float, Tensor], Tensor], y: Tensor, nodes: Tensor) -> Run:
    """y' = slope(tau, y) from y at nodes[0] through all nodes, one step of the 8th order a gap.

    The tableau is DOP853's, with the given steps and no control: rows of y do not influence each other, and the error
    is judged by running again on a finer grid, which divides it by 2^8.
    """
    a, b, c = torch.from_numpy(DOP853.A), torch.from_numpy(DOP853.B), DOP853.C.tolist()
    states, slopes = [y], []
    stages = y.new_empty(len(c), *y.shape)
    ends = nodes.tolist()
    for s, t in itertools.pairwise(ends):
        h = t - s
        stages[0] = slope(s, y)
        slopes.append(stages[0].clone())
        for i in range(1, len(c)):
            stages[i] = slope(s + c[i] * h, y + h * torch.tensordot(a[i, :i], stages[:i], 1))
        y = y + h * torch.tensordot(b, stages, 1)
        states.append(y)
    slopes.append(slope(ends[-1], y))
    return Run(torch.stack(states), torch.stack(slopes))


@dataclass(frozen=True, eq=False)
class Points:
    """Points x (n, d) that stand for a law: a quadrature rule if they have weights (n,), a sample if not."""

    x: Tensor
    weights: Tensor | None = None

    @classmethod
    def of_ranks(
        cls, law: Distribution, n: int = 301, *, guide: Distribution | None = None, reach: float = 7.5
    ) -> Self:
        """A 1-D law at the ranks of n equidistant points of the law ``guide`` (by default itself), weighted by it.

        The trapezoid rule converges like exp(-2 pi w / h), w the width of the strip in which the integrand is
        analytic. A flow line maps the valley between two modes to a short stretch of the noise, where w is small: as
        guide take the law at a level in between. The mass beyond the reach, in standard normal units, is 6e-14 at 7.5.
        """
        guide = law if guide is None else guide
        low, high = guide.quantile(torch.special.ndtr(torch.tensor([-reach, reach], dtype=torch.float64))).tolist()
        x = torch.linspace(low, high, n, dtype=torch.float64)
        weights = guide.log_prob(x[:, None]).exp()
        return cls(law.quantile(guide.cdf(x))[:, None], weights / weights.sum())

    @classmethod
    def of_grid(cls, law: Distribution, n: int = 41, *, reach: float = 5.0) -> Self:
        """A law in the plane at the n x n points of a square grid, n odd, weighted by its density.

        Spectral like ``of_ranks``; what ``expect`` leaves out is every second point, like the fields of one colour on
        a chessboard. reach: in standard deviations along each axis; the mass beyond is 1e-6 at 5.
        """
        if law.dim != 2 or n % 2 == 0:
            raise ValueError(f"a grid needs a law in the plane and an odd n; got a law on R^{law.dim} and n={n}.")
        line = torch.linspace(-reach, reach, n, dtype=torch.float64)
        x = law.mean + torch.cartesian_prod(line, line) * law.cov.diagonal().sqrt()
        weights = law.log_prob(x).exp()
        return cls(x, weights / weights.sum())

    @classmethod
    def of_sample(cls, law: Distribution, n: int, *, seed: int) -> Self:
        """n independent points of the law."""
        return cls(law.sample(n, generator=torch.Generator(device=law.device).manual_seed(seed)))

    def expect(self, values: Tensor) -> Estimate:
        """E f from the values f(x) (n,).

        Error: for a rule, the change when every second node is dropped; for a sample, 4 standard errors.
        """
        if self.weights is None:
            n = len(values)
            return Estimate(values.mean().item(), 4 * values.std().item() / n**0.5, f"monte carlo n={n}")
        full = (self.weights @ values).item()
        half = (self.weights[::2] @ values[::2] / self.weights[::2].sum()).item()
        return Estimate(full, abs(full - half) + 1e-15 * abs(full), "quadrature")


@dataclass(frozen=True, eq=False)
class Curves:
    r"""n curves x(tau) at the nodes of a quadrature rule: clock, weights (T,), x and velocity dx/dtau (T, n, d).

    ``straightness`` is a number a curve: with the clock run from 0 to 1, and so in units of x^2,

        S = int_0^1 | dx/ds - (x(1) - x(0)) |^2 ds.

    S = 0 iff the curve is straight and run at constant speed; it depends on the coordinates and on the clock.
    ``turning``, the angle in radians by which the velocity turns (geometric curvature integrated over length), depends
    on the coordinates alone. Source: liu2022rectified, theorem 3.7; trajectory curvature in lee2023curvature.
    """

    clock: Tensor
    weights: Tensor
    x: Tensor
    velocity: Tensor

    @property
    def chord(self) -> Tensor:
        return self.x[-1] - self.x[0]

    @property
    def straightness(self) -> Tensor:
        duration = self.clock[-1] - self.clock[0]
        miss = ((duration * self.velocity - self.chord) ** 2).sum(-1)
        return self.weights @ miss / duration

    @property
    def energy(self) -> Tensor:
        """int_0^1 |dx/ds|^2 ds, (n,): S + |chord|^2 if the velocity is the derivative of x, which is a check."""
        duration = self.clock[-1] - self.clock[0]
        return duration * (self.weights @ (self.velocity**2).sum(-1))

    @property
    def turning(self) -> Tensor:
        """Sum of the angles between consecutive velocities, (n,): from below, with an error of order 2 in the gaps.

        Velocities that are all rounding, 1e-12 of |x| over the duration, have no direction and count as no turn.
        """
        speed = self.velocity.norm(dim=-1, keepdim=True)
        floor = 1e-12 * self.x.norm(dim=-1).max() / (self.clock[-1] - self.clock[0]).abs()
        unit = torch.where(speed > floor, self.velocity / speed.clamp_min(1e-300), 0.0)
        half_chord = 0.5 * (unit[1:] - unit[:-1]).norm(dim=-1)
        return 2 * torch.asin(half_chord.clamp(max=1.0)).sum(0)


def follow(velocity: Callable[[Tensor, float], Tensor], x: Tensor, rule: Rule) -> Curves:
    """The curves dx/dt = velocity(x, t) from x (n, d) at the first node of a rule in t."""
    run = integrate(lambda t, x: velocity(x, t), x, rule.nodes)
    return Curves(rule.nodes, rule.weights, run.states, run.slopes)


@dataclass(frozen=True, eq=False)
class FlowLines:
    """Flow lines of a law at the nodes of a rule in lambda, from noise to data: z and D = E[x_0 | z], (T, n, d).

    z = x / sqrt(alpha^2 + sigma^2). Made by ``flow_lines``.
    """

    rule: Rule
    z: Tensor
    x0: Tensor

    def along(self, process: NoiseProcess, *, whole: bool = False) -> Curves:
        """The lines as curves x(t) of a process. Time falls from noise to data.

        whole: continue to both ends of time, beyond the lambda window, at the velocities of its ends. For a window
        whose ends are at distances delta in time from those of the process this errs by O(delta^2).
        """
        at = process.level_at(self.rule.nodes[:, None])
        alpha, sigma, alpha_dot, sigma_dot = (torch.as_tensor(entry)[..., None] for entry in at[1:])
        x = torch.hypot(alpha, sigma) * self.z
        velocity = alpha_dot * self.x0 + sigma_dot * (x - alpha * self.x0) / sigma
        clock = torch.as_tensor(at.t)[:, 0]
        weights = self.rule.weights / torch.as_tensor(at.lam_dot)[:, 0]
        if whole:
            lead, trail = process.t_max - clock[0], clock[-1]
            x = torch.cat([x[:1] + lead * velocity[:1], x[1:-1], x[-1:] - trail * velocity[-1:]])
            weights = torch.cat([weights[:1] - lead, weights[1:-1], weights[-1:] - trail])
            clock = torch.cat([clock[:1] + lead, clock[1:-1], clock[-1:] - trail])
        return Curves(clock, weights, x, velocity)

    def scaled(self) -> Curves:
        """The lines as curves of x / alpha in the clock k = sigma / alpha: dy/dk = eps, straight iff D is constant."""
        k = torch.exp(-self.rule.nodes)[:, None, None]
        y = self.z * torch.sqrt(1 + k * k)
        return Curves(k[:, 0, 0], -self.rule.weights * k[:, 0, 0], y, (y - self.x0) / k)


def flow_lines(law: Distribution, z: Tensor, rule: Rule) -> FlowLines:
    r"""The flow lines of a law through z (n, d) at the first node of a rule in lambda, which rises.

    With a = alpha / sqrt(alpha^2 + sigma^2) the probability-flow ODE reads  dz/dlambda = a (D - a z),  bounded and
    smooth on the whole line, and without stiffness at either end. The error falls by 2^8 when the panels are halved.
    """

    def slope(lam: float, z: Tensor) -> Tensor:
        a, b = _direction(lam)
        return a * (law.posterior_mean(z, a, b) - a * z)

    run = integrate(slope, z, rule.nodes)
    a = torch.sigmoid(2 * rule.nodes).sqrt()[:, None, None]
    return FlowLines(rule, run.states, run.slopes / a + a * run.states)


def flow_jacobians(law: Distribution, z: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """End points (n, d) and Jacobians (n, d, d) of the map that ``flow_lines`` follows, by the variational equation.

    dJ/dlambda = a (dD/dz - a) J with dD/dz = (alpha / sigma^2) Cov[x_0 | z].
    """
    n, d = z.shape

    def slope(lam: float, state: Tensor) -> Tensor:
        a, b = _direction(lam)
        z, jacobian = state[..., 0], state[..., 1:]
        gain = (a / b**2) * law.posterior_cov(z, a, b) - a * torch.eye(d, dtype=z.dtype)
        return a * torch.cat([(law.posterior_mean(z, a, b) - a * z)[..., None], gain @ jacobian], -1)

    start = torch.cat([z[..., None], torch.eye(d, dtype=z.dtype).expand(n, d, d)], -1)
    end = integrate(slope, start, rule.nodes).states[-1]
    return end[..., 0], end[..., 1:]


def _direction(lam: float) -> tuple[float, float]:
    """alpha and sigma on the unit circle at log(alpha / sigma) = lam."""
    return 1 / math.sqrt(1 + math.exp(-2 * lam)), 1 / math.sqrt(1 + math.exp(2 * lam))


@lru_cache(maxsize=8)  # laws are immutable, and several numbers are read off the same lines
def line_flow(law: Distribution, *, parts: int = 1, n: int = 301) -> tuple[Points, FlowLines]:
    """All flow lines of a 1-D law, from noise at lambda = -16 to data at 16, at n ranks with their weights.

    The ranks are equidistant at lambda = 1.5, where a mixture of unit size is neither one mode nor narrow ones.
    """
    rule = lambda_panels(parts)
    points = Points.of_ranks(law.noised(*_direction(-16.0)), n, guide=law.noised(*_direction(1.5)))
    return points, flow_lines(law, points.x, rule)

r"""Couplings of data and noise that are jointly Gaussian, and their rectification, exactly.

A coupling is a joint law of (x_0, x_1). Its rectified flow is  dz/dt = v(z, t),  v(x, t) = E[x_1 - x_0 | x_t = x],  for
the interpolation x_t = (1 - t) x_0 + t x_1; the flow line through z_1 = x_1 ends at z_0, and (z_0, z_1) is the
rectified coupling. Two numbers go with it:

    S = int_0^1 E |(z_1 - z_0) - dz_t/dt|^2 dt        straightness; trajectory curvature
    V = int_0^1 E |(x_1 - x_0) - v(x_t, t)|^2 dt      degree of intersection
    E |x_1 - x_0|^2 - E |z_1 - z_0|^2 = S + V         if the flow is well posed

Time is the project's: t = 0 data, t = 1 noise, as in lee2023curvature. liu2022rectified has the source (noise) at its
time 0: its time is 1 - t, its (X_0, X_1) our (x_1, x_0), its velocity -v; S, V and even costs do not notice.
Source: liu2022rectified, theorems 3.3 to 3.7; lee2023curvature, section 3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from theory.estimate import Estimate
from theory.flows import time_panels
from theory.process import NoiseProcess
from toy_distributions.mixture import GaussianMixture

Interpolation = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(t, d) -> (P, P') for times t (n,), both (n, d, 2 d), with x_t = P (x_0, x_1) and P' = dP/dt.

P = (I, 0) at t = 0 and (0, I) at t = 1.
"""


def linear(t: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """x_t = (1 - t) x_0 + t x_1."""
    return _scalar(1 - t, t, d), _scalar(torch.full_like(t, -1.0), torch.ones_like(t), d)


def of_process(process: NoiseProcess) -> Interpolation:
    """x_t = alpha_t x_0 + sigma_t x_1, for a process with alpha = 1, sigma = 0 at t = 0 and reversed at t = 1."""

    def at(t: Tensor, d: int) -> tuple[Tensor, Tensor]:
        alpha, sigma, alpha_dot, sigma_dot = (torch.as_tensor(entry) for entry in process.level(t)[1:])
        return _scalar(alpha, sigma, d), _scalar(alpha_dot, sigma_dot, d)

    return at


def turning(angle: float) -> Interpolation:
    """x_t = (1 - t) R(t angle) x_0 + t R((t - 1) angle) x_1 in the plane: linear in a frame that turns by ``angle``."""

    def at(t: Tensor, d: int) -> tuple[Tensor, Tensor]:
        state, speed = linear(t, d)
        turn = torch.stack([rotation(angle * s) for s in t.tolist()])
        # the second half of the frame is turned back, so that it arrives upright
        frame = torch.block_diag(torch.eye(d, dtype=t.dtype), rotation(-angle))
        spin = angle * rotation(0.5 * math.pi)  # dR(s angle)/ds = spin R
        return turn @ state @ frame, turn @ (spin @ state + speed) @ frame

    return at


def _scalar(a: Tensor, b: Tensor, d: int) -> Tensor:
    """(a I, b I) for numbers a, b (n,)."""
    eye = torch.eye(d, dtype=a.dtype)
    return torch.cat([a[:, None, None] * eye, b[:, None, None] * eye], -1)


def rotation(angle: float) -> Tensor:
    """The rotation of the plane by ``angle``, in radians, counterclockwise."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def ellipse(first: float, second: float, angle: float) -> GaussianMixture:
    """N(0, C) in the plane: variances ``first`` and ``second`` along axes turned by ``angle``."""
    turn = rotation(angle)
    cov = turn @ torch.diag(torch.tensor([first, second], dtype=torch.float64)) @ turn.T
    return GaussianMixture.gaussian([0.0, 0.0], _symmetric(cov))


@dataclass(frozen=True, eq=False)
class GaussianCoupling:
    r"""(x_0, x_1) jointly Gaussian on R^d x R^d: the velocity is affine and every number a matrix integral.

    With x_t = P (x_0, x_1), J the joint covariance and m the joint mean,

        v(x, t) = P' m + K Sigma^{-1} (x - P m),    Sigma = P J P^T = Cov x_t,    K = P' J P^T = Cov(dx_t/dt, x_t).

    The flow map solves M' = K Sigma^{-1} M from t = 1 to t = 0 by Gauss collocation, of order 16 at the ends of panels
    that narrow towards both ends of time, cut until M carries Cov x_1 into Cov x_t to 1e-9 at every node, as theorem
    3.3 of liu2022rectified says it must. Every Estimate carries the change that halving all panels once more makes.

    mean (2 d,), cov (2 d, 2 d): of (x_0, x_1). Raises ValueError if cov is not positive semi-definite, or if Cov x_t is
    singular on the way or very nearly so: there the flow is not well posed and the coupling not rectifiable.
    """

    mean: Tensor
    cov: Tensor
    interpolation: Interpolation = linear

    def __post_init__(self):
        least = torch.linalg.eigvalsh(self.cov).min().item()
        if least < -1e-12 * self.cov.abs().max().item():
            raise ValueError(
                f"the covariance of (x_0, x_1) must be positive semi-definite; got an eigenvalue {least:.6g}."
            )

    @classmethod
    def independent(cls, law_0: GaussianMixture, law_1: GaussianMixture) -> Self:
        """Two Gaussian laws, coupled independently."""
        for law in (law_0, law_1):
            if law.components != 1:
                raise ValueError(f"a Gaussian coupling needs one Gaussian at each end; got {law!r}.")
        cov = torch.block_diag(law_0.full_covs()[0], law_1.full_covs()[0])
        return cls(torch.cat([law_0.mean, law_1.mean]), cov)

    @classmethod
    def of_line(cls, std: float, *, correlation: float = 0.0, shift: float = 0.0) -> Self:
        """On the line: x_0 ~ N(shift, std^2) and x_1 ~ N(0, 1) with the given correlation."""
        mean = torch.tensor([shift, 0.0], dtype=torch.float64)
        return cls(mean, torch.tensor([[std**2, correlation * std], [correlation * std, 1.0]], dtype=torch.float64))

    @classmethod
    def of_map(cls, matrix: Tensor, law_1: GaussianMixture) -> Self:
        """Deterministic: x_0 = matrix x_1 for a Gaussian x_1."""
        both = torch.cat([matrix, torch.eye(len(matrix), dtype=torch.float64)])
        return cls(both @ law_1.mean, both @ law_1.full_covs()[0] @ both.T)

    @classmethod
    def optimal(cls, law_0: GaussianMixture, law_1: GaussianMixture) -> Self:
        """Two Gaussian laws, coupled by the optimal (Brenier) map of the quadratic cost; ``cost`` is then W2^2."""
        cov_0, cov_1 = law_0.full_covs()[0], law_1.full_covs()[0]
        root = _power(cov_1, 0.5)
        inverse = _power(cov_1, -0.5)
        coupled = cls.of_map(inverse @ _power(root @ cov_0 @ root, 0.5) @ inverse, law_1)
        return replace(coupled, mean=torch.cat([law_0.mean, law_1.mean]))

    @property
    def dim(self) -> int:
        return len(self.mean) // 2

    def shuffled(self) -> Self:
        """The same two marginals, coupled independently."""
        d = self.dim
        return replace(self, cov=torch.block_diag(self.cov[:d, :d], self.cov[d:, d:]))

    def with_interpolation(self, interpolation: Interpolation) -> Self:
        return replace(self, interpolation=interpolation)

    def law(self, t: float) -> GaussianMixture:
        """The law of x_t."""
        (state,), _ = self.interpolation(_times(t), self.dim)
        return GaussianMixture.gaussian(state @ self.mean, _symmetric(state @ self.cov @ state.T))

    @property
    def _step(self) -> Tensor:
        """x_1 - x_0 as a matrix on (x_0, x_1)."""
        eye = torch.eye(self.dim, dtype=torch.float64)
        return torch.cat([-eye, eye], 1)

    def difference(self) -> GaussianMixture:
        """The law of x_1 - x_0. Smaller covariance, same mean: every convex cost is smaller."""
        values, basis = torch.linalg.eigh(_symmetric(self._step @ self.cov @ self._step.T))
        # a variance that should be 0 may come out negative by rounding
        cov = _symmetric((basis * values.clamp_min(0)) @ basis.T)
        return GaussianMixture.gaussian(self._step @ self.mean, cov)

    @property
    def cost(self) -> float:
        """E |x_1 - x_0|^2."""
        return (torch.trace(self._step @ self.cov @ self._step.T) + ((self._step @ self.mean) ** 2).sum()).item()

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """v(x, t) for x (..., d)."""
        (state,), (speed,) = self.interpolation(_times(t), self.dim)
        return speed @ self.mean + (x - state @ self.mean) @ self._gains(_times(t))[0].T

    def flow(self, *, parts: int | None = None) -> "AffineFlow":
        """The flow from t = 1 to t = 0. parts: into how many each panel is cut; by default as many as are needed."""
        rule = time_panels(self._parts if parts is None else parts, order=ORDER)
        times, weights = rule.nodes[1:-1], rule.weights[1:-1].reshape(-1, ORDER)
        d, eye = self.dim, torch.eye(self.dim, dtype=torch.float64)
        gains = self._gains(times).reshape(-1, ORDER, d, d)
        # dM/dt = G M at the nodes of a panel, for M a polynomial of degree ORDER there that starts at I
        width = weights.sum(1)[:, None, None, None, None]
        blocks = (width * _COLLOCATION[:, :, None, None] * gains[:, None]).transpose(2, 3)
        system = torch.eye(ORDER * d, dtype=torch.float64) - blocks.reshape(-1, ORDER * d, ORDER * d)
        inside = torch.linalg.solve(system, eye.repeat(ORDER, 1)).reshape(-1, ORDER, d, d)
        across = eye + torch.einsum("po,poij->pij", weights, gains @ inside)
        starts = [eye]
        for panel in across:
            starts.append(panel @ starts[-1])
        maps = inside @ torch.stack(starts[:-1])[:, None]
        flat = maps.reshape(-1, d, d)
        return AffineFlow(times, rule.weights[1:-1], flat, gains.reshape(-1, d, d) @ flat, starts[-1])

    def rectified(self) -> Self:
        """The coupling (z_0, z_1) that the flow makes, to be interpolated linearly."""
        d = self.dim
        both = torch.cat([self.flow().end, torch.eye(d, dtype=torch.float64)])
        return replace(self, cov=_symmetric(both @ self.cov[d:, d:] @ both.T), interpolation=linear)

    def straightness(self) -> Estimate:
        """S of the flow."""
        d = self.dim

        def value(parts: int) -> float:
            flow = self.flow(parts=parts)
            miss = torch.eye(d, dtype=torch.float64) - flow.end - flow.slopes
            _, speeds = self.interpolation(flow.times, d)
            drift = (self._step - speeds) @ self.mean
            density = torch.einsum("tij,jk,tik->t", miss, self.cov[d:, d:], miss) + (drift**2).sum(-1)
            return -(flow.weights @ density).item()  # the weights run from 1 down to 0

        return self._refined(value)

    def intersection(self) -> Estimate:
        """V = int E |dx_t/dt - v(x_t, t)|^2 dt = int tr Cov(dx_t/dt | x_t) dt, dx_t/dt = x_1 - x_0 if linear."""

        def value(parts: int) -> float:
            rule = time_panels(parts, order=ORDER)
            times = rule.nodes[1:-1]  # at the ends of a degenerate coupling Cov x_t may be singular
            sigma, cross = self._moments(times)
            _, speeds = self.interpolation(times, self.dim)
            covs = speeds @ self.cov @ speeds.mT - cross @ torch.linalg.solve(sigma, cross.mT)
            return -(rule.weights[1:-1] @ covs.diagonal(dim1=1, dim2=2).sum(-1)).item()

        return self._refined(value)

    @cached_property
    def _parts(self) -> int:
        d = self.dim
        # at every node: where the problem is the same read backwards in time, the far end comes out right by symmetry
        for parts in (1, 2, 4, 8, 16, 32, 64):
            flow = self.flow(parts=parts)
            miss = flow.maps @ self.cov[d:, d:] @ flow.maps.mT - self._moments(flow.times)[0]
            if miss.norm(dim=(1, 2)).max() <= 1e-9 * self.cov.norm():
                return parts
        raise ValueError(
            "Cov x_t must stay away from singular for a well-posed flow, and 768 panels in time do not resolve this "
            "one; avoid couplings close to x_1 = -x_0."
        )

    def _refined(self, value: Callable[[int], float]) -> Estimate:
        """value with twice the panels needed; its error is the change, and at least the rounding of all the nodes."""
        coarse, fine = value(self._parts), value(2 * self._parts)
        return Estimate(fine, abs(fine - coarse) + 1e-14 * (1 + abs(fine)), "quadrature")

    def _moments(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Sigma = Cov x_t and K = Cov(dx_t/dt, x_t), each (n, d, d)."""
        states, speeds = self.interpolation(times, self.dim)
        half = self.cov @ states.mT
        return states @ half, speeds @ half

    def _gains(self, times: Tensor) -> Tensor:
        """K Sigma^{-1}, (n, d, d)."""
        sigma, cross = self._moments(times)
        gains, failed = torch.linalg.solve_ex(sigma, cross.mT)
        if bool(failed.any()):
            raise ValueError(
                f"Cov x_t must be invertible for a well-posed flow; it is singular at t={times[failed > 0][0]:.6g}. "
                "Give both ends full covariances, and avoid x_1 = -x_0."
            )
        return gains.mT


def _times(t: float) -> Tensor:
    return torch.tensor([t], dtype=torch.float64)


class AffineFlow(NamedTuple):
    """The matrices M (n, d, d) with z_t - E z_t = M (z_1 - E z_1), and dM/dt, at the nodes of a rule from t = 1 to 0.

    end: M at t = 0. The weights are negative: time falls.
    """

    times: Tensor
    weights: Tensor
    maps: Tensor
    slopes: Tensor
    end: Tensor


def _collocation_matrix(order: int) -> Tensor:
    """a_ij = int_0^{c_i} of the Lagrange polynomial of node c_j: the tableau of the Gauss method on [0, 1]."""
    nodes, _ = np.polynomial.legendre.leggauss(order)
    values = np.polynomial.legendre.legvander(nodes, order - 1)
    integrals = np.stack(
        [np.polynomial.legendre.legval(nodes, np.polynomial.legendre.legint(unit, lbnd=-1)) for unit in np.eye(order)],
        1,
    )
    return torch.from_numpy(0.5 * integrals @ np.linalg.inv(values))


ORDER = 8
_COLLOCATION = _collocation_matrix(ORDER)


def _power(cov: Tensor, exponent: float) -> Tensor:
    values, basis = torch.linalg.eigh(_symmetric(cov))
    return (basis * values**exponent) @ basis.T


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.T)

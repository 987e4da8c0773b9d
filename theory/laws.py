"""The exact law of a sampler's output, by running the real solver code on probes. No Monte Carlo.

Three routes, chosen by ``law_of``:
- Gaussian data: every solver is an affine map of (start, noises), so unit vectors reveal it: a Gaussian law;
- 1-D, deterministic solver: a monotone map transports quantiles: a ``Transported`` law;
- 1-D, Gaussian steps: each step is a Gaussian kernel, summed by quadrature: a many-component GaussianMixture.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from theory.grid import TimeGrid
from theory.models import Exact, Model
from theory.process import Level, NoiseProcess, VPLinear
from theory.solvers.base import Solver, solve
from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture

Last = Literal["stop", "denoise"]


@dataclass(frozen=True, eq=False)
class AffineMap:
    """x_end = matrix x_start + offset + sum_j noises[j] z_j: what a solver does where every model call is affine.

    matrix (d, d), offset (d,), noises (calls, d, d), one block for each time the solver drew noise. draws: the levels
    (s, t) of the interval that it drew each for.
    """

    matrix: Tensor
    offset: Tensor
    noises: Tensor
    draws: tuple[tuple[Level, Level], ...] = ()

    def pushed(self, start: GaussianMixture) -> GaussianMixture:
        """The law of x_end for x_start ~ start and independent standard normals z_j."""
        means = start.means @ self.matrix.T + self.offset
        covs = self.matrix @ start.full_covs() @ self.matrix.T + torch.einsum("jab,jcb->ac", self.noises, self.noises)
        return GaussianMixture(start.weights, means, 0.5 * (covs + covs.mT))


class _Rows:
    """A noise source that gives chosen rows of the batch unit vectors, one block of rows a call, and counts calls."""

    def __init__(self, dim: int, calls: int):
        self.dim, self.calls, self.seen = dim, calls, 0
        self.draws: list[tuple[Level, Level]] = []

    def __call__(self, s: Level, t: Level, like: Tensor) -> Tensor:
        self.draws.append((s, t))
        z = torch.zeros_like(like)
        if self.calls:
            first = 1 + self.dim * (1 + self.seen)
            z[first : first + self.dim] = torch.eye(self.dim, dtype=like.dtype)
            z[-1] = torch.cos(torch.arange(self.dim, dtype=like.dtype) + 1.7 * self.seen)
        self.seen += 1
        return z


def affine_map(solver: Solver, model: Model, grid: TimeGrid, dim: int, *, last: Last = "stop") -> AffineMap:
    """Read off the affine map that the solver applies, from one run on unit vectors.

    Raises ValueError if the run is not affine: one extra row with all probes at once must be the sum of its parts.
    """
    dry = _Rows(dim, 0)
    solve(solver, model, torch.zeros(1, dim, dtype=torch.float64), grid, noise=dry, last=last, keep=False)
    calls = dry.seen
    x = torch.zeros(2 + dim * (1 + calls), dim, dtype=torch.float64)
    x[1 : 1 + dim] = torch.eye(dim, dtype=torch.float64)
    x[-1] = torch.sin(1.0 + torch.arange(dim, dtype=torch.float64))
    out = solve(solver, model, x, grid, noise=_Rows(dim, calls), last=last, keep=False).end
    offset = out[0]
    blocks = (out[1:-1] - offset).reshape(1 + calls, dim, dim).mT  # a row of out is a column of the map
    checks = (
        torch.stack([torch.cos(torch.arange(dim, dtype=x.dtype) + 1.7 * j) for j in range(calls)])
        if calls
        else (x.new_zeros(0, dim))
    )
    parts = blocks[0] @ x[-1] + torch.einsum("jab,jb->a", blocks[1:], checks)
    size = offset.abs().max() + (blocks.abs().sum((0, 2))).max()
    gap = (out[-1] - offset - parts).abs().max()
    if gap > 1e-9 * size:
        raise ValueError(
            f"{solver!r} must act affinely to be probed by unit vectors; the probes miss additivity by {gap:.3g}. "
            "Affine probing needs Gaussian data."
        )
    return AffineMap(blocks[0], offset, blocks[1:], tuple(dry.draws))


class Transported:
    """The law of map(y), y ~ base, for an increasing map of the line: how a deterministic sampler moves a 1-D law.

    Has what 1-D laws have: quantile, cdf, log_prob (density base(y) / slope(y) at y = map^-1(x), the slope by
    automatic differentiation through the solver), mean, cov and sample.

    map: tensors (n, 1) -> (n, 1), elementwise and differentiable. Raises ValueError if it does not increase between
    the quantiles 1e-15 and 1 - 1e-15 of the base law.
    """

    dim = 1
    singular = False

    def __init__(self, base: Distribution, map: Callable[[Tensor], Tensor]):
        self.base, self._map = base, map
        low, high = base.quantile(torch.tensor([1e-15, 1 - 1e-15], dtype=torch.float64)).tolist()
        ranks = torch.special.ndtr(torch.linspace(-6, 6, 1025, dtype=torch.float64))
        self._y = torch.cat([torch.linspace(low, high, 1025, dtype=torch.float64), base.quantile(ranks)]).unique()
        self._x = self._run(self._y)
        if not bool((self._x.diff() > 0).all()):
            at = self._y[:-1][self._x.diff() <= 0][0].item()
            raise ValueError(
                f"quantile transport needs an increasing map; this one falls near {at:.6g}. Use more steps, or samples."
            )

    def _run(self, y: Tensor) -> Tensor:
        return self._map(y.reshape(-1, 1)).reshape(y.shape)

    def _slope(self, y: Tensor) -> Tensor:
        y = y.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self._run(y).sum(), y)[0]

    def _preimage(self, x: Tensor) -> Tensor:
        """map^-1(x) by Newton's method kept inside a shrinking bracket, extended linearly beyond the table."""
        index = torch.searchsorted(self._x, x.contiguous()).clamp(1, len(self._x) - 1)
        low, high = self._y[index - 1], self._y[index]
        reach = (self._y[-1] - self._y[0]).clamp_min(1e-300)
        for _ in range(60):  # points beyond the table: widen until bracketed
            under, over = self._run(low) > x, self._run(high) < x
            if not bool((under | over).any()):
                break
            low, high = torch.where(under, low - reach, low), torch.where(over, high + reach, high)
            reach = 2 * reach
        y = 0.5 * (low + high)
        for _ in range(100):
            gap = self._run(y) - x
            low, high = torch.where(gap <= 0, y, low), torch.where(gap >= 0, y, high)
            newton = y - gap / self._slope(y)
            inside = (newton > low) & (newton < high)
            step = torch.where(inside, newton, 0.5 * (low + high))
            if bool(((step - y).abs() <= 4e-16 * y.abs() + 1e-300).all()):
                break
            y = step
        return y

    def quantile(self, u: Tensor) -> Tensor:
        return self._run(self.base.quantile(u))

    def cdf(self, x: Tensor) -> Tensor:
        return self.base.cdf(self._preimage(x))

    def log_prob(self, x: Tensor) -> Tensor:
        """x (..., 1) -> (...)."""
        y = self._preimage(x[..., 0])
        return self.base.log_prob(y.unsqueeze(-1)) - self._slope(y).log()

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        return self._map(self.base.sample(n, generator=generator))

    @property
    def mean(self) -> Tensor:
        return self._moment(lambda x: x).reshape(1)

    @property
    def cov(self) -> Tensor:
        mean = self._moment(lambda x: x)
        return self._moment(lambda x: (x - mean) ** 2).reshape(1, 1)

    def _moment(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        """E f(x) as the integral of f(quantile(Phi(z))) against the normal density: the trapezoid rule is spectral."""
        z = torch.linspace(-8.2, 8.2, 2001, dtype=torch.float64)
        weight = torch.exp(-0.5 * z * z)
        x = self.quantile(torch.special.ndtr(z).clamp(1e-300, 1 - 1e-16))
        return (weight * f(x)).sum() / weight.sum()

    def pulled(self, law) -> "Pulled":
        """The law of map^-1(x), x ~ law: KL and TV between law and this one are those between it and the base."""
        return Pulled(law, self)

    def __repr__(self) -> str:
        return f"Transported({self.base!r})"


class Pulled:
    """A 1-D law seen through the inverse of a transport; its density law(map(y)) slope(y) needs no inversion."""

    dim = 1
    singular = False

    def __init__(self, law, through: Transported):
        self._law, self._through = law, through

    def log_prob(self, y: Tensor) -> Tensor:
        y = y[..., 0]
        return self._law.log_prob(self._through._run(y).unsqueeze(-1)) + self._through._slope(y).log()

    def quantile(self, u: Tensor) -> Tensor:
        return self._through._preimage(self._law.quantile(u))

    def cdf(self, y: Tensor) -> Tensor:
        return self._law.cdf(self._through._run(y))


def law_of(
    solver: Solver,
    law: Distribution,
    process: NoiseProcess,
    grid: TimeGrid,
    *,
    start: Distribution | None = None,
    model: Model | None = None,
    last: Last = "stop",
    tolerance: float = 1e-12,
) -> GaussianMixture | Transported:
    """The exact law of what the solver returns on this grid.

    start: the law of the state at grid.times[0]; by default the true one, law.noised there. model: by default
    Exact(law, process). last: as in ``solve``. tolerance: error of the density, relative to its peak, that each step of
    the 1-D kernel quadrature may add.

    Returns a GaussianMixture (Gaussian data; Gaussian-step samplers in 1-D) or a Transported law (deterministic in
    1-D; or a noise-free last step in 1-D). Raises ValueError where no exact route exists: use samples there.
    """
    first = grid.levels[0]
    start = law.noised(float(first.alpha), float(first.sigma)) if start is None else start
    model = Exact(law, process) if model is None else model
    if isinstance(law, GaussianMixture) and law.components == 1 and isinstance(start, GaussianMixture):
        return affine_map(solver, model, grid, law.dim, last=last).pushed(start)
    if law.dim != 1:
        raise ValueError(
            f"an exact output law needs Gaussian data or a 1-D law; got {law!r}. Use samples with intervals there."
        )
    if not solver.facts.stochastic:
        return Transported(start, lambda y: solve(solver, model, y, grid, last=last, keep=False).end)
    if not isinstance(start, GaussianMixture):
        raise ValueError(f"kernel quadrature starts from a GaussianMixture; got {start!r}.")
    out = start
    for s, t in zip(grid.levels, grid.levels[1:], strict=False):
        out = _kernel_step(solver, model, out, s, t, tolerance)
    if last == "denoise":
        at = grid.levels[-1]
        return Transported(out, lambda y: model(y, at).x0)
    return out


_PROBED = GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [0.2, 0.1])


class _Single:
    """A noise source for one Gaussian step: a constant multiple of ones, drawn at most once."""

    def __init__(self, z: float):
        self.z, self.calls = z, 0

    def __call__(self, s: Level, t: Level, like: Tensor) -> Tensor:
        self.calls += 1
        return torch.full_like(like, self.z)


def normals_a_step(solver: Solver) -> int:
    """How many normals one step of the solver asks for, found by taking one."""
    process, source = VPLinear(), _Single(0.0)
    x = torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    solver.step(Exact(_PROBED, process), x, process.level_at(-0.2), process.level_at(0.1), None, source)
    return source.calls


def has_gaussian_kernel(solver: Solver) -> bool:
    """Whether a step is one normal added to a mean, and nothing is remembered: what 1-D kernel quadrature needs."""
    process, x = VPLinear(), torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    try:
        _gaussian_step(solver, Exact(_PROBED, process), x, process.level_at(-0.2), process.level_at(0.1))
    except ValueError:
        return False
    return True


def _kernel_step(
    solver: Solver, model: Model, law: GaussianMixture, s: Level, t: Level, tolerance: float
) -> GaussianMixture:
    r"""One step of a Gaussian-step sampler in 1-D: p'(y) = int p(x) N(y; mean(x), std(x)^2) dx by the trapezoid rule.

    The rule converges exponentially in 1/spacing: halving the spacing squares the error. So the rule on every other
    node must agree with the full one to the square root of the tolerance, or the nodes are doubled.
    """
    spread = law.covs.reshape(-1).sqrt()
    low = (law.means[:, 0] - 9 * spread).min().item()
    high = (law.means[:, 0] + 9 * spread).max().item()
    coarse = torch.linspace(low, high, 513, dtype=torch.float64)[:, None]
    mean, std = _gaussian_step(solver, model, coarse, s, t)
    slope = (mean.diff() / coarse[:, 0].diff()).abs().max().item()
    width = 1 / math.hypot(1 / spread.min().item(), slope / max(std.min().item(), 1e-300))
    places = torch.linspace(mean.min().item(), mean.max().item(), 129, dtype=torch.float64)[:, None]
    nodes = 2 * math.ceil(min((high - low) / width, 1e6)) + 1  # odd, so that every other node is a rule too
    while nodes <= 60_000:
        x = torch.linspace(low, high, nodes, dtype=torch.float64)[:, None]
        weights = _density(law, x) * ((high - low) / (nodes - 1))
        mean, std = _gaussian_step(solver, model, x, s, t)
        full, half = (
            torch.exp(-0.5 * ((places - mean[::skip]) / std[::skip]) ** 2) / std[::skip] @ (skip * weights[::skip])
            for skip in (1, 2)
        )
        if (full - half).abs().max() <= tolerance**0.5 * full.max() and abs(weights.sum().item() - 1) < 1e-10:
            keep = weights > 1e-22
            return GaussianMixture(weights[keep] / weights[keep].sum(), mean[keep, None], std[keep] ** 2)
        nodes = 2 * nodes - 1
    raise ValueError(
        f"kernel quadrature resolves each step's noise; a step with std {std.min().item():.3g} on a range of "
        f"{high - low:.3g} would need more than 60000 nodes. Use fewer steps, an earlier end, or a larger tolerance."
    )


def _density(law: GaussianMixture, x: Tensor) -> Tensor:
    """The density at x (n, 1); of many narrow components only those within 9 deviations, e^-40 of their peak."""
    if law.components <= 64:
        return law.log_prob(x).exp()
    means, order = law.means[:, 0].sort()
    spread, weights = law.covs.reshape(-1)[order].sqrt(), law.weights[order]
    reach = 9 * spread.max()
    first = torch.searchsorted(means, (x[:, 0] - reach).contiguous())
    window = int((torch.searchsorted(means, (x[:, 0] + reach).contiguous()) - first).max())
    index = first[:, None] + torch.arange(window)
    inside, index = index < law.components, index.clamp(max=law.components - 1)
    heights = torch.exp(-0.5 * ((x - means[index]) / spread[index]) ** 2) * (weights / spread)[index]
    return (heights * inside).sum(-1) / math.sqrt(2 * math.pi)


def _gaussian_step(solver: Solver, model: Model, x: Tensor, s: Level, t: Level) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (n,) of the step from each x (n, 1); checks that it is one Gaussian step."""
    sources = _Single(0.0), _Single(1.0), _Single(-2.0)
    steps = [solver.step(model, x, s, t, None, source) for source in sources]
    if any(step.memory is not None for step in steps) or any(source.calls > 1 for source in sources):
        raise ValueError(f"kernel quadrature needs one normal a step and no memory; {solver!r} is not of that kind.")
    mean, plus, minus = (step.x[:, 0] for step in steps)
    if bool(((minus - mean) + 2 * (plus - mean)).abs().max() > 1e-9 * (1 + mean.abs().max())):
        raise ValueError(f"kernel quadrature needs a step that is affine in its noise; {solver!r} is not.")
    return mean, (plus - mean).abs()

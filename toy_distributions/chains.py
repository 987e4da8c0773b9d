"""Laws on trajectories: Markov chains of finitely many states, and linear-Gaussian state spaces."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture
from toy_distributions.parts import deviations
from toy_distributions.pieces import in_pieces
from toy_distributions.roots import from_roots, roots_of
from toy_distributions.shapes import Scalar

IMPOSSIBLE = -1e30
"""Logarithm that stands for that of zero: finite, so that gradients are; no sum of others comes near it."""


class MarkovChain(Distribution):
    r"""x_0 = (v_{s_1}, ..., v_{s_T}) + tau zeta on R^{T d}, for a Markov chain s_1, ..., s_T of S states with values v.

    With S_t = alpha^2 tau^2 + sigma^2, emissions e_t(s) = exp(-|x_t - alpha v_s|^2 / (2 S_t)) and

        b_T = 1,   b_t(s) = sum_s' P_t(s, s') e_{t+1}(s') b_{t+1}(s'),
        K_t(s, s') = P_t(s, s') e_{t+1}(s') b_{t+1}(s') / b_t(s)

    the states given x are a Markov chain again, which starts from pi(s) e_1(s) b_1(s), up to its sum, and moves by K.
    That sum is the density up to (2 pi S_t)^{-T d / 2}; products of K's give every pair of states, so that

        E[x_0|x]_t        = (sigma^2 / S_t) E[v_{s_t}|x] + (alpha tau^2 / S_t) x_t
        Cov[x_0|x]_{t, u} = (sigma^2 / S_t)^2 Cov[v_{s_t}, v_{s_u}|x] + [t = u] (tau^2 sigma^2 / S_t) I

    at a cost of T S^2 a point (T^2 S^2 for the covariance), all in logarithms.

    initial: pi (S,), >= 0, summing to one; transition: P (S, S), or (T - 1, S, S) where it changes, rows summing to
    one, zeros allowed; values: (S, d); steps: T >= 1; blur tau >= 0. Points are trajectories flattened, one time after
    the other. Singular without blur.

    Raises ValueError for wrong shapes, entries that are not finite, and what is no probability.
    Source: rabiner1989tutorial, section III; sarkka2013bayesian, section 8.
    """

    def __init__(
        self,
        initial: Tensor | Sequence[float],
        transition: Tensor | Sequence,
        values: Tensor | Sequence[Sequence[float]],
        steps: int,
        blur: float = 0.0,
    ):
        steps, blur = shapes.count("steps", steps), shapes.number("blur", blur)
        values = shapes.floating("values", values)
        if values.ndim != 2 or values.numel() == 0:
            raise ValueError(f"values must have shape (states, d); got {tuple(values.shape)}.")
        s = len(values)
        initial = shapes.floating("initial", initial).to(values.device, torch.float64)
        P = shapes.floating("transition", transition).to(initial)
        if initial.shape != (s,) or P.shape not in ((s, s), (steps - 1, s, s)):
            raise ValueError(
                f"initial must have shape ({s},) and transition ({s}, {s}) or ({steps - 1}, {s}, {s}), as there are "
                f"{s} values and {steps} steps; got {tuple(initial.shape)} and {tuple(P.shape)}."
            )
        for name, rows in (("initial", initial), ("transition", P)):
            off = (rows.sum(-1) - 1).abs().max().item() if rows.numel() else 0.0
            if bool((rows < 0).any()) or off > 64 * s * torch.finfo(torch.float64).eps:
                raise ValueError(
                    f"{name} must hold probabilities, >= 0 and summing to one a row; got the least entry "
                    f"{rows.min().item():.6g} and a sum off by {off:.3g}. Divide the rows by their sums."
                )
        logs = [torch.where(rows > 0, rows, 1.0).log().masked_fill(rows <= 0, IMPOSSIBLE) for rows in (initial, P)]
        log_initial, log_transition = (log.to(values) for log in logs)
        self._fill(log_initial, log_transition.expand(steps - 1, s, s), values, blur)

    def _fill(self, log_initial: Tensor, log_transition: Tensor, values: Tensor, blur: float) -> None:
        self._log_initial, self._log_transition, self.values, self.blur = log_initial, log_transition, values, blur
        self.steps, (self.states, self.width) = len(log_transition) + 1, values.shape
        self.dim, self.dtype, self.device = self.steps * self.width, values.dtype, values.device

    @classmethod
    def _built(cls, *parts) -> Self:
        law = object.__new__(cls)
        law._fill(*parts)
        return law

    @property
    def initial(self) -> Tensor:
        """The first state's probabilities, (S,)."""
        return self._log_initial.exp()

    @property
    def transition(self) -> Tensor:
        """The transition matrices, (T - 1, S, S)."""
        return self._log_transition.exp()

    @property
    def mean(self) -> Tensor:
        return self._posterior_mean(self.values.new_zeros(self.dim), 0.0, 1.0)  # x says nothing at alpha = 0

    @property
    def cov(self) -> Tensor:
        return self._posterior_cov(self.values.new_zeros(self.dim), 0.0, 1.0)

    @property
    def singular(self) -> bool:
        return self.blur == 0

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        parts = (self._log_initial, self._log_transition, self.values)
        return self._built(*(part.to(device=device, dtype=dtype) for part in parts), self.blur)

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        n = shapes.count("n", n)
        state = torch.multinomial(self.initial, n, replacement=True, generator=generator)
        path = [state]
        for P in self.transition:
            state = torch.multinomial(P[state], 1, generator=generator)[:, 0]
            path.append(state)
        zeta = torch.randn(n, self.dim, dtype=self.dtype, device=self.device, generator=generator)
        return self.values[torch.stack(path, 1)].reshape(n, self.dim) + self.blur * zeta

    def noised(self, alpha: float, sigma: float) -> Self:
        alpha, sigma = float(alpha), float(sigma)
        shapes.level(alpha, sigma)
        blur = math.hypot(alpha * self.blur, sigma)
        return self._built(self._log_initial, self._log_transition, alpha * self.values, blur)

    def _log_prob(self, x: Tensor) -> Tensor:
        return self._noised_log_prob(x, 1.0, 0.0)

    def _noised_log_prob(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
            spread = torch.as_tensor((alpha * self.blur) ** 2 + sigma**2, dtype=x.dtype, device=x.device)
            return self._smoothed(x, alpha, sigma).log_mass - 0.5 * self.dim * (2 * math.pi * spread).log()

        return in_pieces(formula, x, alpha, sigma, per_point=self._load())

    def _score(self, x: Tensor) -> Tensor:
        def formula(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
            return (self._expected(self._smoothed(x, alpha, sigma)) - x) / self.blur**2

        return in_pieces(formula, x, 1.0, 0.0, per_point=self._load())

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
            found = self._expected(self._smoothed(x, alpha, sigma))
            alpha, sigma = shapes.column(alpha), shapes.column(sigma)
            spread = (alpha * self.blur) ** 2 + sigma**2
            return sigma**2 / spread * found + alpha * self.blur**2 / spread * x

        return in_pieces(formula, x, alpha, sigma, per_point=self._load())

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
            found = self._smoothed(x, alpha, sigma)
            away = deviations(found.marginals.unsqueeze(-1), self.values.expand(*found.marginals.shape, self.width))
            weighted = found.marginals.unsqueeze(-1) * away
            rows, ahead = [], away[:, -1]  # E[v_{s_u} | s_t, x] less its mean, for u = t, ..., T side by side
            for t in range(self.steps - 1, -1, -1):
                if t < self.steps - 1:
                    ahead = torch.cat([away[:, t], found.kernels[t] @ ahead], -1)
                row = weighted[:, t].mT @ ahead
                rows.insert(0, torch.nn.functional.pad(row, (self.dim - row.shape[-1], 0)))
            upper = torch.cat(rows, -2)
            between = upper.triu() + upper.triu(1).mT
            alpha, sigma = (shapes.column(shapes.column(v)) for v in (alpha, sigma))
            spread = (alpha * self.blur) ** 2 + sigma**2
            eye = torch.eye(self.dim, dtype=x.dtype, device=x.device)
            return (sigma**2 / spread) ** 2 * between + self.blur**2 * sigma**2 / spread * eye

        return in_pieces(formula, x, alpha, sigma, per_point=max(self._load(), self.dim**2))

    def _smoothed(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> "_Smoothed":
        """The chain of states given x (n, T d), with distances measured from the nearest value at each time."""
        n = len(x)
        alpha = alpha.reshape(n, 1, 1, 1) if isinstance(alpha, Tensor) else alpha
        sigma = sigma.reshape(n, 1, 1) if isinstance(sigma, Tensor) else sigma
        away = x.reshape(n, self.steps, 1, self.width) - alpha * self.values
        nearest = (away**2).sum(-1).argmin(-1)
        least = away.gather(2, nearest[..., None, None].expand(-1, -1, 1, self.width))
        # |x - a|^2 - |x - b|^2 = <b - a, (x - a) + (x - b)>
        excess = (alpha * (self.values[nearest].unsqueeze(2) - self.values) * (away + least)).sum(-1)
        within = alpha.squeeze(-1) if isinstance(alpha, Tensor) else alpha
        spread = (within * self.blur) ** 2 + sigma**2
        logs = -0.5 * excess / spread
        common = -0.5 * ((least**2).sum(-1) / spread).sum((1, 2))
        behind, kernels = torch.zeros_like(logs[:, 0]), []
        for t in range(self.steps - 2, -1, -1):
            joint = self._log_transition[t] + (logs[:, t + 1] + behind).unsqueeze(-2)
            behind = torch.logsumexp(joint, -1)
            kernels.insert(0, torch.softmax(joint, -1))
        first = self._log_initial + logs[:, 0] + behind
        marginals = [torch.softmax(first, -1)]
        for kernel in kernels:
            marginals.append((marginals[-1].unsqueeze(-2) @ kernel).squeeze(-2))
        return _Smoothed(torch.logsumexp(first, -1) + common, torch.stack(marginals, 1), kernels)

    def _expected(self, found: "_Smoothed") -> Tensor:
        """E[v_{s_t} | x] of every t, (n, T d)."""
        return (found.marginals @ self.values).flatten(1)

    def _load(self) -> int:
        return self.steps * self.states * max(self.states, self.width)

    def __repr__(self) -> str:
        blur = f", blur {self.blur:.6g}" if self.blur else ""
        return f"MarkovChain({self.states} states in R^{self.width}, {self.steps} steps{blur})"


class _Smoothed(NamedTuple):
    log_mass: Tensor
    """log sum over paths of (probability) times (emissions), (n,)."""
    marginals: Tensor
    """P(s_t = s | x), (n, T, S)."""
    kernels: list[Tensor]
    """P(s_{t+1} = s' | s_t = s, x), T - 1 times (n, S, S)."""


def LinearGaussianChain(
    mean: Tensor | Sequence[float],
    cov: Tensor | Sequence | float,
    transition: Tensor | Sequence[Sequence[float]],
    noise_cov: Tensor | Sequence | float,
    steps: int,
    offset: Tensor | Sequence[float] | None = None,
) -> GaussianMixture:
    r"""The Gaussian law on R^{T d} of trajectories z_1 ~ N(m, C), z_{t+1} = F z_t + c + N(0, Q): a linear state space.

    With roots C = L L^T and Q = M M^T, z_t = E z_t + F^{t-1} L e_1 + F^{t-2} M e_2 + ... + M e_t for standard normal
    e's, so the covariance has a block-triangular root, made by recursion; its digits are the root's.

    mean: m (d,); cov: C, a number, (d,) or (d, d); transition: F (d, d); noise_cov: Q, like cov; steps: T >= 1;
    offset: c (d,), zero unless given. C and Q may be singular. Points are trajectories flattened, one time after the
    other.

    Raises ValueError for wrong shapes, entries that are not finite, covariances that are none.
    Source: sarkka2013bayesian, section 4.1.
    """
    steps, start = shapes.count("steps", steps), GaussianMixture.gaussian(mean, cov)
    d = start.dim
    F = shapes.floating("transition", transition).to(start.device, torch.float64)
    c = torch.zeros(d) if offset is None else shapes.floating("offset", offset)
    if F.shape != (d, d) or c.shape != (d,):
        raise ValueError(
            f"transition must have shape ({d}, {d}) and offset ({d},), as mean has {d} entries; "
            f"got {tuple(F.shape)} and {tuple(c.shape)}."
        )
    c = c.to(F)
    noise = roots_of(GaussianMixture.gaussian(torch.zeros_like(c), noise_cov))[0]
    root, centre = roots_of(start)[0], start.means[0].double()
    rows, centres = [root], [centre]
    for _ in range(steps - 1):
        centre = F @ centre + c
        rows.append(torch.cat([F @ rows[-1], noise], -1))
        centres.append(centre)
    widest = rows[-1].shape[-1]
    whole = torch.cat([torch.nn.functional.pad(row, (0, widest - row.shape[-1])) for row in rows])
    none = torch.zeros(1, dtype=torch.float64, device=F.device)
    return from_roots(none, torch.cat(centres)[None], whole[None], start.dtype, start.device)

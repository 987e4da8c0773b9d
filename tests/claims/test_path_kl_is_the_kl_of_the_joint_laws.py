"""reverse_kl and path_kl against integrals and joint Gaussians that know nothing of entropies or telescoping."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from theory import TimeGrid, VPLinear, affine_map, law_of, uniform_lambda
from theory.covariance import (
    OptimalVariance,
    beta,
    beta_tilde,
    conditional_variance,
    entropy,
    optimal_variance,
    path_kl,
    reverse_kl,
)
from theory.elbo import bound_by_entropies, elbo
from theory.models import Exact
from theory.solvers import DDPM
from toy_distributions import GaussianMixture
from toy_distributions.box import Box

PROCESS = VPLinear()
MIXTURE = GaussianMixture([0.3, 0.7], [[-1.0], [0.8]], [0.05, 0.1])
GAUSSIAN = GaussianMixture.gaussian(0.7, 0.25)


def nested_kl(law, s, t, variance, eta):
    """E KL(q(x_t|x_s) || N(mean, variance)) on a grid over (x_s, x_t): the kernel a mixture, its mean by summation."""
    rho = math.sqrt(1 - eta**2 * (1 - math.exp(-2 * (t.lam - s.lam))))
    weights, means, variances = law.weights.numpy(), law.means[:, 0].numpy(), law.covs.numpy()
    x = np.linspace(-7, 7, 561)
    y = np.linspace(-7, 7, 1401)
    joint = np.zeros((len(x), len(y)))
    for w, m, v in zip(weights, means, variances, strict=True):
        var_s, var_t = s.alpha**2 * v + s.sigma**2, t.alpha**2 * v + t.sigma**2
        cross = s.alpha * t.alpha * v + s.sigma * t.sigma * rho
        mean = t.alpha * m + cross / var_s * (x - s.alpha * m)
        std = math.sqrt(var_t - cross**2 / var_s)
        joint += w * norm.pdf(x, s.alpha * m, math.sqrt(var_s))[:, None] * norm.pdf(y[None], mean[:, None], std)
    dx, dy = x[1] - x[0], y[1] - y[0]
    marginal = joint.sum(1) * dy
    keep = marginal > 1e-30
    joint, marginal = joint[keep], marginal[keep]
    kernel = joint / marginal[:, None]
    mean = (kernel * y).sum(1) * dy
    spread = (
        variance(torch.from_numpy(x[keep])[:, None]).numpy() if callable(variance) else np.full(keep.sum(), variance)
    )
    log_p = norm.logpdf(y[None], mean[:, None], np.sqrt(spread)[:, None])
    safe = np.where(kernel > 1e-300, kernel, 1.0)
    return (marginal[:, None] * kernel * (np.log(safe) - log_p)).sum() * dx * dy


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["optimal", "by point", "rising"])
def test_a_steps_kl_is_the_nested_integral(eta, kind):
    s, t = PROCESS.level_at(-0.5), PROCESS.level_at(0.5)
    best = optimal_variance(MIXTURE, s, t, eta=eta).value
    by_point = conditional_variance(MIXTURE, s, t, eta=eta)
    variance = {"optimal": best, "by point": by_point, "rising": lambda x: 2 * by_point(x) * torch.exp(0.2 * x[:, 0])}[
        kind
    ]
    step = reverse_kl(MIXTURE, s, t, variance, eta=eta)
    assert abs(step.value - nested_kl(MIXTURE, s, t, variance, eta)) < 1e-11
    assert step.error < 1e-12


@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_the_same_on_uniform_data(eta):
    at, weights = np.polynomial.legendre.leggauss(60)
    atoms = GaussianMixture((weights / weights.sum()).tolist(), at[:, None].tolist(), [0.0] * 60)
    s, t = PROCESS.level_at(-0.5), PROCESS.level_at(0.5)
    step = reverse_kl(Box([-1.0], [1.0]), s, t, 0.3, eta=eta)
    assert abs(step.value - nested_kl(atoms, s, t, 0.3, eta)) < 1e-11
    assert step.error < 1e-12


@pytest.mark.parametrize("variance", [beta, beta_tilde], ids=["beta", "beta_tilde"])
def test_the_path_kl_of_gaussians_is_the_kl_of_two_joint_gaussians(variance):
    grid, v, m = uniform_lambda(PROCESS, 6, start=-2.0, end=2.0), 0.25, 0.7
    n = len(grid.levels)
    q = np.zeros((n, n))
    for i, noisy in enumerate(grid.levels):
        for j, clean in enumerate(grid.levels[i:], start=i):
            q[i, j] = q[j, i] = noisy.alpha / clean.alpha * (clean.alpha**2 * v + clean.sigma**2)
    mean, p = np.zeros(n), np.zeros((n, n))
    mean[0], p[0, 0] = grid.levels[0].alpha * m, q[0, 0]
    for i, (a, b) in enumerate(zip(grid.times, grid.times[1:], strict=False)):
        name = "beta" if variance is beta else "beta_tilde"
        step = affine_map(DDPM(name), Exact(GAUSSIAN, PROCESS), TimeGrid(PROCESS, [a, b]), 1)
        slope = step.matrix.item()
        mean[i + 1] = slope * mean[i] + step.offset.item()
        p[i + 1, : i + 1] = p[: i + 1, i + 1] = slope * p[i, : i + 1]
        p[i + 1, i + 1] = slope**2 * p[i, i] + step.noises.item() ** 2
    gap = mean - np.array([level.alpha * m for level in grid.levels])
    inverse = np.linalg.inv(p)
    exact = 0.5 * (np.trace(inverse @ q) - n + gap @ inverse @ gap + np.linalg.slogdet(p)[1] - np.linalg.slogdet(q)[1])
    assert path_kl(GAUSSIAN, grid, variance).value == pytest.approx(exact, abs=1e-14 * np.linalg.cond(p))


def test_quadrature_and_closed_form_agree_on_a_gaussian_in_disguise():
    twice = GaussianMixture([0.5, 0.5], [[0.7], [0.7]], [0.25, 0.25])
    grid = uniform_lambda(PROCESS, 5, start=-2.0, end=2.0)
    for variance in (beta, beta_tilde, partial(conditional_variance, twice)):
        found = path_kl(twice, grid, variance)
        closed = path_kl(GAUSSIAN, grid, variance)
        assert abs(found.value - closed.value) <= found.error + closed.error


@given(seed=st.integers(0, 10**6), steps=st.integers(1, 6), factor=st.floats(0.3, 3))
def test_other_variances_cost_what_the_formula_says_in_any_dimension(seed, steps, factor):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    law = GaussianMixture.gaussian(torch.zeros(3, dtype=torch.float64), root @ root.T)
    grid, best = uniform_lambda(PROCESS, steps, start=-1.0, end=1.0), OptimalVariance(law)
    cost = path_kl(law, grid, lambda s, t: factor * best(s, t)).value - path_kl(law, grid, best).value
    assert cost == pytest.approx(1.5 * steps * (math.log(factor) + 1 / factor - 1), abs=1e-12 * steps)


@pytest.mark.parametrize("kernel", ["beta", "beta_tilde", "optimal"])
@pytest.mark.parametrize("steps", [3, 12])
def test_the_path_kl_is_never_below_the_marginal_kl(kernel, steps):
    variance = {"beta": beta, "beta_tilde": beta_tilde, "optimal": OptimalVariance(MIXTURE)}[kernel]
    grid = uniform_lambda(PROCESS, steps, start=-2.0, end=1.5)
    level = grid.levels[-1]
    true, out = MIXTURE.noised(level.alpha, level.sigma), law_of(DDPM(variance), MIXTURE, PROCESS, grid)
    x = torch.linspace(-6, 6, 4001, dtype=torch.float64)[:, None]
    log_true = true.log_prob(x)
    marginal = (log_true.exp() * (log_true - out.log_prob(x))).sum().item() * 12 / 4000
    assert 0 < marginal < path_kl(MIXTURE, grid, variance).value


def test_by_point_beats_isotropic_beats_everything_else():
    grid = uniform_lambda(PROCESS, 5, start=-1.0, end=1.5)
    by_point = path_kl(MIXTURE, grid, partial(conditional_variance, MIXTURE))
    kernels = (OptimalVariance(MIXTURE), lambda s, t: 1.05 * OptimalVariance(MIXTURE)(s, t), beta, beta_tilde)
    best, *others = (path_kl(MIXTURE, grid, kernel) for kernel in kernels)
    assert by_point.high < best.low
    assert all(best.high < other.low for other in others)


def test_kernels_without_a_density_cost_infinity():
    s, t = PROCESS.level_at(-1.0), PROCESS.level_at(1.0)
    assert reverse_kl(GaussianMixture.dirac(0.3), s, t, 0.1, eta=0.0).value == math.inf
    pair = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.0, 0.0])
    assert reverse_kl(pair, s, t, 0.1, eta=0.0).value == math.inf
    assert math.isfinite(reverse_kl(pair, s, t, 0.1, eta=0.1).value)
    with pytest.raises(ValueError, match=r"variance must be > 0; got variance=0.0"):
        reverse_kl(MIXTURE, s, t, 0.0)
    with pytest.raises(ValueError, match="must resolve the density's finest feature"):
        reverse_kl(Box([-1.0], [1.0]), s, t, 0.1, eta=0.0)
    with pytest.raises(ValueError, match=r"variance\(x\) must be > 0"):
        reverse_kl(MIXTURE, s, t, lambda x: 0.0 * x[:, 0])


def test_entropies_are_those_of_the_textbook():
    assert entropy(GAUSSIAN).value == pytest.approx(norm(0.7, 0.5).entropy(), rel=1e-15)
    assert entropy(GAUSSIAN, 2.0, 3.0).value == pytest.approx(norm(0, math.sqrt(4 * 0.25 + 9)).entropy(), rel=1e-15)
    far = GaussianMixture([0.25, 0.75], [[-50.0], [50.0]], [1.0, 4.0])  # modes that do not meet: a coin and two normals
    coin = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert entropy(far).value == pytest.approx(
        coin + 0.25 * norm(0, 1).entropy() + 0.75 * norm(0, 2).entropy(), rel=1e-13
    )
    assert entropy(GaussianMixture.dirac(1.0)).value == -math.inf


@given(
    weight=st.floats(0.1, 0.9),
    variance=st.floats(0.05, 2),
    times=st.lists(st.integers(5, 100), min_size=2, max_size=4, unique=True),
)
def test_the_variational_bound_reads_the_same_in_both_directions(weight, variance, times):
    law = GaussianMixture([weight, 1 - weight], [[-1.0], [0.5]], [variance, 0.3])
    grid = TimeGrid(PROCESS, [*sorted((time / 100 for time in times), reverse=True), 0.0])
    forward, backward = elbo(law, grid, beta).total, bound_by_entropies(law, grid, beta)
    assert abs(forward.value - backward.value) <= forward.error + backward.error
    assert backward.value >= entropy(law).value  # no bound is better than the truth

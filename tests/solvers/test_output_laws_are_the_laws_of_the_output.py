"""law_of against samples, against itself by another route, and against closed forms; it refuses what it cannot do."""

import pytest
import torch

from theory import Exact, Independent, VPLinear, law_of, solve, uniform_lambda
from theory.laws import affine_map
from theory.solvers import DDIM, DDPM, DPM2, AnnealedLangevin, DPMpp2M, EulerMaruyama, PredictorCorrector
from toy_distributions import GaussianMixture

from .problems import GAUSSIAN, MIXTURE, PLANE

PROCESS = VPLinear()
GRID = uniform_lambda(PROCESS, 12, start=-2, end=2)
FIRST, LAST = GRID.levels[0], GRID.levels[-1]
TILTED = GaussianMixture.gaussian([0.5, -1.0], [[1.0, 0.6], [0.6, 0.5]])


def ranks_are_uniform(law, samples):
    """Kolmogorov-Smirnov at a false-alarm rate of 1e-6."""
    ranks = law.cdf(samples[:, 0]).sort().values
    n = len(ranks)
    steps = torch.arange(1, n + 1, dtype=torch.float64) / n
    return (ranks - steps).abs().max().item() < 2.7 / n**0.5


def sampled(solver, law, n=4000, last="stop"):
    x = law.noised(FIRST.alpha, FIRST.sigma).sample(n, generator=torch.Generator().manual_seed(0))
    return solve(solver, Exact(law, PROCESS), x, GRID, noise=Independent(1), last=last, keep=False).end


@pytest.mark.parametrize(
    "solver", [DDIM(), DPM2(), DPMpp2M(), DDPM("beta"), EulerMaruyama(), PredictorCorrector()], ids=repr
)
def test_affine_probing_gives_the_law_of_samples(solver):
    law, x = law_of(solver, TILTED, PROCESS, GRID), sampled(solver, TILTED)
    n = len(x)
    assert ((x.mean(0) - law.mean).abs() < 5.5 * (law.cov.diagonal() / n).sqrt()).all()
    spread = (law.cov.diagonal()[:, None] * law.cov.diagonal() * 2 / n).sqrt()
    assert ((x.T.cov() - law.cov).abs() < 5.5 * spread).all()


@pytest.mark.parametrize("solver", [DDIM(), DPMpp2M(), DDIM(eta=1.0), DDPM("beta"), EulerMaruyama()], ids=repr)
@pytest.mark.parametrize("last", ["stop", "denoise"])
def test_one_dimensional_laws_are_the_laws_of_samples(solver, last):
    assert ranks_are_uniform(law_of(solver, MIXTURE, PROCESS, GRID, last=last), sampled(solver, MIXTURE, last=last))


def test_the_check_tells_close_solvers_apart():
    assert not ranks_are_uniform(law_of(DDPM("beta"), MIXTURE, PROCESS, GRID), sampled(DDPM("beta_tilde"), MIXTURE))


@pytest.mark.parametrize("solver", [DDIM(eta=1.0), DDPM("beta"), EulerMaruyama()], ids=repr)
def test_kernel_quadrature_agrees_with_affine_probing(solver):
    """The same Gaussian written as two equal components takes the other route to the same moments."""
    twin = GaussianMixture([0.5, 0.5], [[0.7], [0.7]], [0.25, 0.25])
    affine, quadrature = law_of(solver, GAUSSIAN, PROCESS, GRID), law_of(solver, twin, PROCESS, GRID)
    assert quadrature.components > 100
    torch.testing.assert_close(quadrature.mean, affine.mean, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(quadrature.cov, affine.cov, rtol=1e-11, atol=1e-11)
    x = torch.linspace(-1, 2, 50, dtype=torch.float64)[:, None]
    torch.testing.assert_close(quadrature.log_prob(x), affine.log_prob(x), rtol=1e-9, atol=1e-9)


def test_kernel_quadrature_has_converged():
    coarse, fine = (law_of(DDPM("beta"), MIXTURE, PROCESS, GRID, tolerance=e) for e in (1e-12, 1e-18))
    x = torch.linspace(-2, 2, 80, dtype=torch.float64)[:, None]
    torch.testing.assert_close(coarse.log_prob(x).exp(), fine.log_prob(x).exp(), rtol=0, atol=GRID.steps * 1e-12)


def test_quantile_transport_agrees_with_affine_probing():
    twin = GaussianMixture([0.5, 0.5], [[0.7], [0.7]], [0.25, 0.25])
    affine, moved = law_of(DDIM(), GAUSSIAN, PROCESS, GRID), law_of(DDIM(), twin, PROCESS, GRID)
    u = torch.tensor([1e-9, 1e-3, 0.2, 0.5, 0.9, 0.999], dtype=torch.float64)
    torch.testing.assert_close(moved.quantile(u), affine.quantile(u), rtol=1e-11, atol=1e-11)
    x = torch.linspace(-3, 4, 41, dtype=torch.float64)
    torch.testing.assert_close(moved.cdf(x), affine.cdf(x), rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(moved.log_prob(x[:, None]), affine.log_prob(x[:, None]), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(moved.mean, affine.mean, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(moved.cov, affine.cov, rtol=1e-10, atol=1e-11)


def test_what_is_not_affine_is_refused():
    with pytest.raises(ValueError, match="must act affinely to be probed"):
        affine_map(DDIM(), Exact(MIXTURE, PROCESS), GRID, 1)


def test_what_has_no_exact_route_is_refused():
    with pytest.raises(ValueError, match="needs Gaussian data or a 1-D law"):
        law_of(DDIM(), PLANE, PROCESS, GRID)
    with pytest.raises(ValueError, match="needs one normal a step"):
        law_of(AnnealedLangevin(moves=2), MIXTURE, PROCESS, GRID)

"""GaussianCoupling against scipy from the definition, and against the closed forms of the line."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

from theory.coupling import GaussianCoupling, linear, of_process, rotation, turning
from theory.process import TrigonometricPath
from toy_distributions import GaussianMixture

angles = st.floats(0.2, 2.4)
stds = st.floats(0.2, 4.0)


def random_coupling(seed, dim):
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=(2 * dim, 2 * dim)) + np.eye(2 * dim)
    return GaussianCoupling(torch.from_numpy(generator.normal(size=2 * dim)), torch.from_numpy(factor @ factor.T))


def paths_of(name):
    """a(t), b(t) as matrices, and the Interpolation under test."""
    eye = np.eye(2)
    if name == "linear":
        return lambda t: ((1 - t) * eye, t * eye), linear
    if name == "trigonometric":
        return lambda t: (np.cos(math.pi * t / 2) * eye, np.sin(math.pi * t / 2) * eye), of_process(TrigonometricPath())

    def turned(t):
        turn = lambda angle: np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return (1 - t) * turn(1.3 * t), t * turn(1.3 * (t - 1))

    return turned, turning(1.3)


def scipy_flow(coupling, matrices):
    """The flow map and V, from E[x'|x] by regression on covariance blocks, x' by differences of the interpolation."""
    d = coupling.dim
    cov = coupling.cov.numpy()
    blocks = cov[:d, :d], cov[:d, d:], cov[d:, d:]

    def covariance(left, right):
        (a, b), (c, e) = left, right
        return a @ blocks[0] @ c.T + a @ blocks[1] @ e.T + b @ blocks[1].T @ c.T + b @ blocks[2] @ e.T

    def rate(t, h=1e-4):
        pairs = [(weight, matrices(t + j * h)) for j, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1))]
        return tuple(sum(weight * pair[i] for weight, pair in pairs) / (12 * h) for i in (0, 1))

    def gain(t):
        return covariance(rate(t), matrices(t)) @ np.linalg.inv(covariance(matrices(t), matrices(t)))

    def slope(t, flat):
        return (gain(t) @ flat.reshape(d, d)).ravel()

    def conditional(t):
        speed = rate(t)
        return np.trace(covariance(speed, speed) - gain(t) @ covariance(matrices(t), speed))

    end = solve_ivp(slope, (1, 0), np.eye(d).ravel(), method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    return end.reshape(d, d), quad(conditional, 0, 1, epsabs=1e-9, limit=200)[0]


@pytest.mark.parametrize("name", ["linear", "trigonometric", "turning"])
@pytest.mark.parametrize("seed", range(4))
def test_flow_map_and_intersection_are_scipys(name, seed):
    matrices, interpolation = paths_of(name)
    coupling = random_coupling(seed, 2).with_interpolation(interpolation)
    end, intersection = scipy_flow(coupling, matrices)
    assert np.abs(coupling.flow().end.numpy() - end).max() < 1e-8 * np.abs(end).max()
    measured = coupling.intersection()
    assert abs(measured.value - intersection) < 1e-7 * (1 + intersection) + measured.error


@pytest.mark.parametrize("seed", range(4))
def test_the_velocity_is_the_regression_of_a_large_sample(seed):
    coupling = random_coupling(seed, 2)
    generator = torch.Generator().manual_seed(seed)
    law = GaussianMixture.gaussian(coupling.mean, coupling.cov)
    pairs = law.sample(400_000, generator=generator)
    x_0, x_1 = pairs[:, :2], pairs[:, 2:]
    t = 0.3
    x = (1 - t) * x_0 + t * x_1
    design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    fitted = torch.linalg.lstsq(design, x_1 - x_0).solution
    at = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    expected = torch.cat([at, torch.ones(3, 1, dtype=x.dtype)], 1) @ fitted
    noise = coupling.difference().cov.trace().sqrt() / x.std() / len(x) ** 0.5
    assert (coupling.velocity(at, t) - expected).abs().max() < 8 * noise * (1 + coupling.mean.abs().max() + x.std())


@given(angles, stds, st.floats(-3, 3))
def test_the_line_has_its_closed_forms(angle, std, shift):
    coupling = GaussianCoupling.of_line(std, correlation=math.cos(angle), shift=shift)
    s, v = coupling.straightness(), coupling.intersection()
    assert abs(v.value - std * angle * math.sin(angle)) <= v.error + 1e-12 * std
    assert abs(s.value - std * (2 * (1 - math.cos(angle)) - angle * math.sin(angle))) <= s.error + 1e-12 * std
    assert s.error < 1e-5 * std
    assert math.isclose(coupling.rectified().cost, (std - 1) ** 2 + shift**2, rel_tol=1e-7, abs_tol=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_one_rectification_balances_its_costs_and_keeps_both_ends(seed, dim):
    coupling = random_coupling(seed, dim)
    after = coupling.rectified()
    s, v = coupling.straightness(), coupling.intersection()
    assert abs(coupling.cost - after.cost - s.value - v.value) < s.error + v.error + 1e-10 * coupling.cost
    for t in (0.0, 1.0):
        assert torch.allclose(after.law(t).cov, coupling.law(t).cov, rtol=1e-9, atol=1e-9)
        assert torch.allclose(after.law(t).mean, coupling.law(t).mean)
    wrong = coupling.shuffled()  # the balance of another coupling is off: the check can fail
    assert abs(wrong.cost - after.cost - s.value - v.value) > 1e-3 * coupling.cost


def test_white_noise_is_carried_by_the_square_root_and_that_is_optimal():
    cov = torch.tensor([[2.0, 0.7], [0.7, 0.5]], dtype=torch.float64)
    data, noise = GaussianMixture.gaussian([1.0, 0.0], cov), GaussianMixture.gaussian([0.0, 0.0], 1.0)
    coupling, best = GaussianCoupling.independent(data, noise), GaussianCoupling.optimal(data, noise)
    values, basis = torch.linalg.eigh(cov)
    root = (basis * values.sqrt()) @ basis.T
    assert torch.allclose(coupling.flow().end, root, rtol=1e-11, atol=1e-11)
    assert math.isclose(coupling.rectified().cost, best.cost, rel_tol=1e-11)
    bures = 1 + cov.trace() + 2 - 2 * values.sqrt().sum()
    assert math.isclose(best.cost, bures.item(), rel_tol=1e-12)


def test_a_rotation_is_straight_and_far_from_optimal():
    coupling = GaussianCoupling.of_map(rotation(1.0), GaussianMixture.gaussian([0.0, 0.0], 1.0))
    assert coupling.straightness().value < 1e-20 and abs(coupling.intersection().value) < 1e-12
    assert math.isclose(coupling.rectified().cost, 4 * (1 - math.cos(1.0)), rel_tol=1e-12)


def test_what_is_no_coupling_is_refused():
    with pytest.raises(ValueError, match="positive semi-definite"):
        GaussianCoupling.of_line(1.0, correlation=1.2)
    with pytest.raises(ValueError, match="one Gaussian at each end"):
        GaussianCoupling.independent(
            GaussianMixture([0.5, 0.5], [[0.0], [1.0]], [1.0, 1.0]), GaussianMixture.gaussian(0.0, 1.0)
        )
    with pytest.raises(ValueError, match="stay away from singular"):
        GaussianCoupling.of_line(1.0, correlation=-1.0).straightness()  # all lines meet at t = 1/2
    zero = torch.zeros(4, 4, dtype=torch.float64)
    zero[2:, 2:] = torch.tensor([[1.0, 0.0], [0.0, 0.0]])  # nothing varies along the second axis
    with pytest.raises(ValueError, match="well-posed"):
        GaussianCoupling(torch.zeros(4, dtype=torch.float64), zero).flow()

"""Turning, scaling and shifting a law's parameters turns, scales and shifts everything it says."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.checks import EPS, UNITS, Broken, reach, rounding, typical, worst
from toy_distributions import (
    LAWS,
    Affine,
    Box,
    Curve,
    Distribution,
    GaussianMixture,
    MarkovChain,
    MixtureOf,
    Product,
    Sphere,
    StationaryField,
    Torus,
    VonMisesFisher,
)
from toy_distributions import strategies as draws
from toy_distributions.line import Line

Move = tuple[torch.Tensor, float, torch.Tensor]
"""x -> scale turn x + shift, as (turn, scale, shift)."""


def moved(law: Distribution, move: Move) -> Distribution:
    """The law of scale turn x_0 + shift, by its parameters. Boxes are permuted; fields, chains, tori reflected."""
    turn, scale, shift = move
    if isinstance(law, Broken):
        return Broken(moved(law.law, move), **law.wrong)
    if isinstance(law, MarkovChain):
        values = scale * turn[0, 0] * law.values + shift[: law.width]
        return MarkovChain(law.initial, law.transition, values, law.steps, scale * law.blur)
    if isinstance(law, StationaryField):
        return StationaryField._built(scale**2 * law._variances, law._turn, scale * turn @ law.mean + shift, law.grid)
    if isinstance(law, VonMisesFisher):
        centre = scale * turn @ law.centre + shift
        return VonMisesFisher(turn @ law.pull, scale * law.radius, scale * law.blur, centre=centre)
    if isinstance(law, Curve):
        path = law._base.panels.path
        origin, line, waves = (
            law.scale * scale * part @ turn.T for part in (path.origin, path.line, path.coefficients)
        )
        return Curve(replace(path, origin=origin + shift, line=line, coefficients=waves), scale * law.blur)
    if isinstance(law, Affine):
        frame, centre = scale * law.scale * turn @ law.frame, scale * turn @ law.shift + shift
        return Affine(law.law, frame, centre, scale * law.across)
    if isinstance(law, MixtureOf):
        return MixtureOf(law.weights, [moved(part, move) for part in law.laws])
    if isinstance(law, GaussianMixture):
        covs = scale**2 * turn @ law.full_covs() @ turn.T
        return GaussianMixture(law.weights, scale * law.means @ turn.T + shift, 0.5 * (covs + covs.mT))
    if isinstance(law, Sphere):
        centre = scale * turn @ law.centre + shift
        return Sphere(law.dim, scale * law.radius, scale * law.blur, centre=centre)
    if isinstance(law, Torus):
        radii = (scale * law._scale * radius for radius in (law.major, law.minor))
        return Torus(*radii, scale * law.blur, centre=scale * turn @ law.centre + shift)
    if isinstance(law, Line):
        other = law.noised(scale, 0.0)
        return other._with(turn[0] * other.location + shift, other.scale, other.blur)
    assert isinstance(law, Box)
    low, high = (scale * turn @ side + shift for side in (law.low, law.high))
    return Box(torch.minimum(low, high), torch.maximum(low, high), scale * law.blur)


def miss(law: Distribution, move: Move, x: torch.Tensor, alpha: float, sigma: float) -> float:
    turn, scale, shift = move
    other, y = moved(law, move), scale * x @ turn.T + alpha * shift
    want = scale * law.posterior_mean(x, alpha, sigma) @ turn.T + shift
    bound = scale * rounding(law, x, alpha, sigma).mean + rounding(other, y, alpha, scale * sigma).mean
    of_mean = worst((other.posterior_mean(y, alpha, scale * sigma) - want).norm(dim=-1), bound)
    want = law.noised(alpha, sigma).score(x) @ turn.T / scale
    off = other.noised(alpha, scale * sigma).score(y) - want
    bound = scale * rounding(law, x, alpha, sigma).tweedie + rounding(other, y, alpha, scale * sigma).tweedie
    of_score = worst((scale * sigma) ** 2 * off.norm(dim=-1), bound)
    log_prob = law.noised(alpha, sigma).log_prob(x) - law.dim * math.log(scale)
    off = other.noised(alpha, scale * sigma).log_prob(y) - log_prob
    arm = y.norm(dim=-1) + reach(other) + scale * (x.norm(dim=-1) + reach(law)) + shift.norm()
    # at most every factor of a normal density, of variance >= (scale sigma)^2, moves with x and with its mean
    far = (law.dim + 2 * log_prob.abs() + 2 * law.dim * abs(math.log(scale * sigma))).sqrt()
    of_log = UNITS * EPS * (log_prob.abs() + law.dim + far * arm / (scale * sigma))
    return max(of_mean, of_score, worst(off.abs(), of_log))


@st.composite
def moves(draw, law: Distribution, permute: bool) -> Move:
    d = law.dim
    seed = draw(st.integers(0, 2**31 - 1))
    generator = torch.Generator().manual_seed(seed)
    if permute:
        turn = torch.eye(d, dtype=torch.float64)[torch.randperm(d, generator=generator)]
        turn = turn * torch.where(torch.rand(d, generator=generator) < 0.5, -1.0, 1.0)
    else:
        turn = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator))[0]
    scale = 10 ** draw(st.floats(-2, 2))
    return turn, scale, torch.randn(d, dtype=torch.float64, generator=generator)


@given(st.data(), st.one_of(draws.mixtures(), draws.spheres()), draws.noise_levels())
def test_mixtures_and_spheres_turn(data, law, level):
    x = data.draw(draws.points_of(law, *level))
    assert miss(law, data.draw(moves(law, permute=False)), x, *level) <= 1


@given(st.data(), draws.boxes(), draws.noise_levels())
def test_boxes_permute(data, law, level):
    x = data.draw(draws.points_of(law, *level))
    assert miss(law, data.draw(moves(law, permute=True)), x, *level) <= 1


@pytest.mark.parametrize("name", [name for name in LAWS if not isinstance(LAWS[name](), Product)])
def test_a_mean_with_a_favourite_direction_is_caught(name):
    def wrong(law, x, alpha, sigma):
        return law._posterior_mean(x, alpha, sigma) + 1e-9

    law = Broken(LAWS[name](), _posterior_mean=wrong)
    move = -torch.eye(law.dim, dtype=torch.float64), 2.0, torch.ones(law.dim, dtype=torch.float64)
    assert miss(LAWS[name](), move, typical(LAWS[name](), 0.8, 0.3), 0.8, 0.3) <= 1
    assert miss(law, move, typical(LAWS[name](), 0.8, 0.3), 0.8, 0.3) > 1

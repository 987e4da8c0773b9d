"""theory.chains from the definitions: moves on given random numbers, acceptance, levels, and what is refused."""

import math

import pytest
import torch

from theory.chains import Langevin, LevelChain
from theory.process import VE, VPLinear
from toy_distributions.mixture import GaussianMixture

PLANE = GaussianMixture([0.4, 0.6], [[1.0, 0.0], [-1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.3]], [[0.4, 0.0], [0.0, 0.1]]])
LINE = GaussianMixture([0.3, 0.7], [[-1.0], [0.8]], [0.05, 0.1])


def _pairs(n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = PLANE.sample(n, generator=generator)
    return x, torch.randn(x.shape, dtype=x.dtype, generator=generator)


def test_a_proposal_is_taken_below_its_acceptance_and_not_above():
    x, z = _pairs()
    chain = Langevin(PLANE, 0.4)
    y = x + 0.2 * PLANE.score(x) + math.sqrt(0.4) * z
    taken = chain.acceptance(x, y)
    assert 0 < taken.min() < 0.5, "the pairs must try both answers"
    below, above = (chain.move(x, z, u) for u in (taken * (1 - 1e-9), taken))
    assert torch.equal(below, y) or (below - y).abs().max() < 1e-14
    assert torch.equal(above, x)


def test_acceptance_is_the_ratio_of_flows_from_the_definition():
    x, z = _pairs()
    a = 0.4
    y = x + 0.5 * a * PLANE.score(x) + math.sqrt(a) * z

    def flow(p, q):
        kernel = torch.distributions.Normal(p + 0.5 * a * PLANE.score(p), math.sqrt(a))
        return PLANE.log_prob(p) + kernel.log_prob(q).sum(-1)

    expected = (flow(y, x) - flow(x, y)).clamp_max(0.0).exp()
    assert (Langevin(PLANE, a).acceptance(x, y) - expected).abs().max() < 1e-13


def test_unadjusted_moves_take_everything():
    x, z = _pairs()
    moved = Langevin(PLANE, 0.4, adjusted=False).move(x, z, torch.ones(len(x), dtype=x.dtype) * (1 - 1e-16))
    assert (moved - x - 0.2 * PLANE.score(x) - math.sqrt(0.4) * z).abs().max() < 1e-14


def test_mala_keeps_a_law_that_ula_loses():
    """N(0, S) on the line, a = S: ULA's stationary variance is S / (1 - 1/4). 200,000 chains of 12 moves."""
    law, generator = GaussianMixture.gaussian(0.0, 0.5), torch.Generator().manual_seed(3)
    seconds = {}
    for adjusted in (True, False):
        x, chain = law.sample(200_000, generator=generator), Langevin(law, 0.5, adjusted)
        for _ in range(12):
            z = torch.randn(x.shape, dtype=x.dtype, generator=generator)
            x = chain.move(x, z, torch.rand(len(x), dtype=x.dtype, generator=generator))
        seconds[adjusted] = x.square().mean().item()
    error = 5 * 0.5 * math.sqrt(2 / 200_000)  # five deviations
    assert abs(seconds[True] - 0.5) < error
    assert abs(seconds[False] - 0.5 / 0.75) < 2 * error


@pytest.mark.parametrize("process", [VE(), VPLinear()], ids=["ve", "vp"])
def test_levels_are_drawn_by_bayes_rule(process):
    chain = LevelChain(LINE, process, [2.0, 0.5, -1.0], 0.02, weights=[1.0, 2.0, 1.0])
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    levels = [process.level_at(lam) for lam in (2.0, 0.5, -1.0)]
    densities = [LINE.noised(float(at.alpha), float(at.sigma)).log_prob(x).exp() for at in levels]
    joint = torch.stack(densities, -1) * torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    expected = joint / joint.sum(-1, keepdim=True)
    assert (chain.probabilities(x) - expected).abs().max() < 1e-13
    index = torch.tensor([0, 1, 2] * 13 + [0, 1])
    score = torch.stack([LINE.noised(float(at.alpha), float(at.sigma)).score(x) for at in levels])
    moved = x + 0.01 * score[index, torch.arange(41)]
    assert (chain.mean(x, index) - moved).abs().max() < 1e-12
    # the cumulated probabilities are the edges between one draw and the next
    after, _ = chain.move(x, index, torch.zeros_like(x), torch.zeros(41, dtype=torch.float64))
    first = chain.probabilities(after)[:, 0]
    for u, drawn in ((first * (1 - 1e-12), 0), (first * (1 + 1e-12) + 1e-300, 1)):
        at = chain.move(x, index, torch.zeros_like(x), u)[1]
        sure = (first > 1e-6) & (first < 1 - 1e-6)
        assert sure.any()
        assert bool((at[sure] == drawn).all())


def test_the_last_level_is_drawn_at_the_top_of_the_unit_interval():
    chain = LevelChain(LINE, VE(), [2.0, 0.5], 0.02)
    x = torch.full((3, 1), 0.1, dtype=torch.float64)
    u = torch.full((3,), 1.0, dtype=torch.float64)  # rounding may leave the sum of probabilities below it
    assert chain.move(x, torch.zeros(3, dtype=torch.long), torch.zeros_like(x), u)[1].tolist() == [1, 1, 1]


def test_wrong_arguments_are_refused():
    circle = GaussianMixture.gaussian(torch.zeros(2, dtype=torch.float64), 0.0)
    with pytest.raises(ValueError, match=r"^law must have a density, which"):
        Langevin(circle, 0.1)
    for step in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"^step_size must be finite and > 0"):
            Langevin(PLANE, step)
        with pytest.raises(ValueError, match=r"^step_size must be finite and > 0"):
            LevelChain(LINE, VE(), [0.0], step)
    with pytest.raises(ValueError, match=r"^lams must name at least one level"):
        LevelChain(LINE, VE(), [], 0.1)
    with pytest.raises(ValueError, match=r"^weights must be 2 positive numbers"):
        LevelChain(LINE, VE(), [0.0, 1.0], 0.1, weights=[1.0, -1.0])
    with pytest.raises(ValueError, match=r"^pick must be 'draw' or 'argmax'; got 'mode'"):
        LevelChain(LINE, VE(), [0.0], 0.1, pick="mode")  # pyright: ignore[reportArgumentType]

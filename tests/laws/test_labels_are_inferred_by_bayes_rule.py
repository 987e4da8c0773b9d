"""Labelled laws: p_t(y|x) against fifty digits, and its gradient against automatic differentiation and the scores."""

import mpmath as mp
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.laws.checks import EPS, UNITS, narrowest, reach, typical, worst
from toy_distributions import Box, Circle, GaussianMixture, Labelled
from toy_distributions import strategies as draws


class Wrong(Labelled):
    """A gradient in which the classes' prior weights take the place of their posterior ones."""

    def class_score(self, x, alpha, sigma):
        means = torch.stack([law.posterior_mean(x, alpha, sigma) for law in self.laws], -2)
        return alpha / sigma**2 * (means - (self.weights[:, None] * means).sum(-2, keepdim=True))


class Loud(Labelled):
    """A gradient that is a billionth too large."""

    def class_score(self, x, alpha, sigma):
        return (1 + 1e-9) * super().class_score(x, alpha, sigma)


def shapes_in_the_plane(kind=Labelled) -> Labelled:
    square = Box([-0.4, -0.4], [0.4, 0.4])
    blob = GaussianMixture.gaussian([1.0, 0.5], [[0.2, 0.1], [0.1, 0.1]])
    return kind([0.5, 0.3, 0.2], [Circle(1.0), square, blob])


def gradient_miss(law: Labelled, x: torch.Tensor, alpha: float, sigma: float) -> float:
    """sigma^2 times the gradient, against autograd's; the classes' log densities are good to eps (|x| + reach) / s^2
    times the distances between the means, and so are their derivatives."""
    x = x.detach().requires_grad_()
    logs = law.class_log_prob(x, alpha, sigma)
    rows = [torch.autograd.grad(logs[..., k].sum(), x, retain_graph=True)[0] for k in range(law.labels)]
    x = x.detach()
    got = law.class_score(x, alpha, sigma)
    noised = law.marginal.noised(alpha, sigma)
    arm = x.norm(dim=-1, keepdim=True) + alpha * reach(law.marginal)
    allowed = UNITS * EPS * (arm + arm * sigma**2 / narrowest(noised) + got.norm(dim=-1) * arm**2)
    return worst(sigma**2 * (got - torch.stack(rows, -2)).norm(dim=-1), allowed)


LEVELS = [(1.0, 1e-3), (0.8, 0.3), (0.6, 0.8), (0.0, 1.0), (1.0, 1e3)]


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_the_gradient_is_autograds(level):
    law = shapes_in_the_plane()
    assert gradient_miss(law, typical(law.marginal, *level), *level) <= 1


@given(st.data(), draws.mixtures_of(), draws.noise_levels(sigmas=(1e-3, 1e4)))
def test_the_gradient_is_autograds_for_laws_drawn(data, law, level):
    x = data.draw(draws.points_of(law, *level))
    assert gradient_miss(Labelled(law.weights, law.laws), x, *level) <= 1


@pytest.mark.parametrize("kind", [Wrong, Loud])
def test_a_wrong_gradient_is_caught(kind):
    assert gradient_miss(shapes_in_the_plane(kind), typical(shapes_in_the_plane().marginal, 0.8, 0.3), 0.8, 0.3) > 1


@pytest.mark.parametrize("level", LEVELS[:-1], ids=str)
def test_the_gradient_is_the_difference_of_scores(level):
    law = shapes_in_the_plane()
    x = typical(law.marginal, *level)
    score = law.marginal.noised(*level).score(x)
    for y in range(3):
        own = law.given(y).noised(*level).score(x)
        size = own.norm(dim=-1) + score.norm(dim=-1) + (x.norm(dim=-1) + reach(law.marginal)) / level[1] ** 2
        assert worst((law.class_score(x, *level)[:, y] + score - own).norm(dim=-1), UNITS * EPS * size) <= 1


@pytest.mark.parametrize("level", [(1.0, 0.05), (0.8, 0.3), (0.01, 1.0), (1.0, 100.0)], ids=str)
def test_the_class_posterior_agrees_with_fifty_digits(level):
    law = shapes_in_the_plane()
    for x in typical(law.marginal, *level, n=3).tolist():
        parts = [
            oracle.sphere(1.0, 0.0, [0.0, 0.0], x, *level),
            oracle.box([-0.4, -0.4], [0.4, 0.4], 0.0, x, *level),
            oracle.mixture([1.0], [[1.0, 0.5]], [[[0.2, 0.1], [0.1, 0.1]]], x, *level),
        ]
        answers = [oracle.answer(*part) for part in parts]
        with mp.workdps(50):
            joint = [mp.log(mp.mpf(w)) + a.log_prob[0] for w, a in zip([0.5, 0.3, 0.2], answers, strict=True)]
            total = mp.log(mp.fsum(mp.exp(v) for v in joint))
            want = [float(v - total) for v in joint]
            mean = [
                mp.fsum(mp.exp(v - total) * a.score[i] for v, a in zip(joint, answers, strict=True)) for i in (0, 1)
            ]
            slopes = [[float(a.score[i] - mean[i]) for i in (0, 1)] for a in answers]
        point = torch.tensor(x, dtype=torch.float64)
        # rounding x moves a log density by |score| |x| eps
        steep = max(float(max(abs(v) for v in a.score)) for a in answers) * max(abs(v) for v in x)
        allowed = UNITS * EPS * (1 + steep + max(abs(v) for v in want))
        got = law.class_log_prob(point, *level)
        assert (got - torch.tensor(want, dtype=torch.float64)).abs().max() <= allowed
        off = law.class_score(point, *level) - torch.tensor(slopes, dtype=torch.float64)
        assert off.abs().max() * level[1] ** 2 <= allowed * (1 + level[1])


def test_labels_share_out_one():
    law = shapes_in_the_plane()
    for level in LEVELS:
        logs = law.class_log_prob(typical(law.marginal, *level), *level)
        assert (logs.exp().sum(-1) - 1).abs().max() < 8 * EPS
    # where nothing is seen, the label is its prior
    assert (law.class_log_prob(torch.zeros(1, 2).double(), 0.0, 1.0) - law.weights.log()).abs().max() < 8 * EPS


def test_a_level_for_every_point_and_any_batch():
    law = shapes_in_the_plane()
    x = typical(law.marginal, 0.8, 0.3, 6)
    alpha, sigma = torch.linspace(0.1, 1, 6).double(), torch.linspace(0.2, 2, 6).double()
    logs, slopes = law.class_log_prob(x, alpha, sigma), law.class_score(x, alpha, sigma)
    for i, (a, s) in enumerate(zip(alpha.tolist(), sigma.tolist(), strict=True)):
        torch.testing.assert_close(logs[i], law.class_log_prob(x[i], a, s), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(slopes[i], law.class_score(x[i], a, s), rtol=1e-11, atol=1e-12)
    table = law.class_score(x.reshape(2, 3, 2), alpha.reshape(2, 3), sigma.reshape(2, 3))
    assert table.shape == (2, 3, 3, 2)
    torch.testing.assert_close(table.reshape(6, 3, 2), slopes, rtol=1e-12, atol=1e-12)
    assert law.class_log_prob(x[:0], 0.8, 0.3).shape == (0, 3)
    assert law.to(torch.float32).class_score(x.float(), 0.8, 0.3).dtype == torch.float32


def test_pairs_have_the_weights_and_the_laws():
    law, n = shapes_in_the_plane(), 20_000
    x, y = law.sample(n, generator=torch.Generator().manual_seed(0))
    share = torch.bincount(y, minlength=3) / n
    assert bool(((share - law.weights).abs() < 6.5 * (law.weights * (1 - law.weights) / n).sqrt()).all())
    assert (x[y == 0].norm(dim=-1) - 1).abs().max() < 4 * EPS
    assert bool((x[y == 1].abs() <= 0.4).all())
    noised = law.noised(0.5, 0.1)
    assert isinstance(noised, Labelled) and noised.given(1).blur == pytest.approx(0.1)


def test_refused_in_one_sentence():
    law = shapes_in_the_plane()
    with pytest.raises(ValueError, match=r"y must be a label from 0 to 2; got y=3\."):
        law.given(3)
    with pytest.raises(ValueError, match="sigma must be > 0 for a posterior"):
        law.class_score(torch.zeros(2).double(), 1.0, 0.0)
    with pytest.raises(ValueError, match=r"laws of a MixtureOf must live on one R\^d; got dims \[2, 1\]"):
        Labelled([0.5, 0.5], [Circle(1.0), Box(0.0, 1.0)])
    with pytest.raises(ValueError, match="MixtureOf needs at least one law"):
        Labelled([], [])
    with pytest.raises(ValueError, match="takes a list of laws"):
        Labelled([1.0], [1.0])  # pyright: ignore[reportArgumentType]

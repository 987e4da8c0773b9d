"""Chains: forward-backward says what the sum over paths says, on long chains too; state spaces run as they are told."""

import math
from itertools import pairwise, product

import pytest
import torch

from tests.laws.checks import EPS, UNITS, Broken, rounding, typical, worst
from toy_distributions import GaussianMixture, LinearGaussianChain, MarkovChain, conditioned, identities

STAY = [[0.9, 0.1, 0.0], [0.05, 0.8, 0.15], [0.3, 0.0, 0.7]]
VALUES = [[-1.0, 0.0], [0.3, 0.8], [1.0, -0.5]]


def chain(steps: int = 4, transition=STAY) -> MarkovChain:
    return MarkovChain([0.2, 0.5, 0.3], transition, VALUES, steps)


def by_paths(steps: int = 4) -> GaussianMixture:
    """Every path that is possible, a point of its own."""
    weights, points = [], []
    for path in product(range(3), repeat=steps):
        weight = [0.2, 0.5, 0.3][path[0]] * math.prod(STAY[s][t] for s, t in pairwise(path))
        if weight > 0:
            weights.append(weight)
            points.append([v for s in path for v in VALUES[s]])
    weights = torch.tensor(weights, dtype=torch.float64)
    return GaussianMixture(weights / weights.sum(), points, torch.zeros(len(points)).double())


def miss(law, paths, x, alpha, sigma) -> float:
    bound = rounding(paths, x, alpha, sigma)
    mean = (law.posterior_mean(x, alpha, sigma) - paths.posterior_mean(x, alpha, sigma)).norm(dim=-1)
    score = law.noised(alpha, sigma).score(x) - paths.noised(alpha, sigma).score(x)
    density = law.noised(alpha, sigma).log_prob(x) - paths.noised(alpha, sigma).log_prob(x)
    of_log = UNITS * EPS * (1 + density.abs()) + bound.tweedie * x.norm(dim=-1) / sigma**2
    return max(
        worst(mean, bound.mean), worst(sigma**2 * score.norm(dim=-1), bound.tweedie), worst(density.abs(), of_log)
    )


@pytest.mark.parametrize("level", [(1.0, 1e-3), (0.8, 0.3), (0.5, 1.0), (0.1, 30.0)], ids=str)
def test_forward_backward_is_the_sum_over_paths(level):
    law, paths = chain(), by_paths()
    x = typical(law, *level)
    assert miss(law, paths, x, *level) <= 1
    torch.testing.assert_close(
        law.posterior_cov(x, *level), paths.posterior_cov(x, *level), rtol=1e-10, atol=1e-13 / level[0]
    )
    assert (law.mean - paths.mean).abs().max() < UNITS * EPS
    assert (law.cov - paths.cov).abs().max() < UNITS * EPS


def test_a_chain_run_backwards_and_a_chain_off_by_1e_9_are_caught():
    x = typical(chain(), 0.8, 0.3)
    turned = torch.tensor(STAY, dtype=torch.float64).T
    assert miss(chain(transition=(turned / turned.sum(-1, keepdim=True)).tolist()), by_paths(), x, 0.8, 0.3) > 1
    moved = [[0.9 + 1e-9, 0.1 - 1e-9, 0.0], *STAY[1:]]
    assert miss(chain(transition=moved), by_paths(), x, 0.8, 0.3) > 1


def test_a_long_chain_keeps_tweedie_and_its_covariance():
    law = chain(300)
    x = typical(law, 0.8, 0.5, n=4)
    residual = identities.tweedie(law, x, 0.8, 0.5).norm(dim=-1)
    assert worst(residual, rounding(law, x, 0.8, 0.5).tweedie) <= 1
    wrong = Broken(law, _posterior_mean=lambda law, x, a, s: law._posterior_mean(x, a, s * (1 + 1e-6)))
    assert worst(identities.tweedie(wrong, x, 0.8, 0.5).norm(dim=-1), rounding(law, x, 0.8, 0.5).tweedie) > 1
    # far apart in time, states forget each other: the second eigenvalue of the chain to that power
    cov = law.cov
    assert cov[:2, -2:].abs().max() < 1e-15 < 1e-3 < cov[:2, 2:4].abs().max()


def test_where_a_path_is_impossible_it_stays_so():
    law = MarkovChain([1.0, 0.0], [[0.0, 1.0], [1.0, 0.0]], [[-1.0], [1.0]], steps=4)
    x = torch.tensor(
        [[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0]], dtype=torch.float64
    )  # the wrong one and the only one
    for sigma in (1e-6, 0.3, 1e4):
        assert law.posterior_mean(x, 1.0, sigma).tolist() == [[-1.0, 1.0, -1.0, 1.0]] * 2
        assert not law.posterior_cov(x, 1.0, sigma).any()
    assert law.sample(5, generator=torch.Generator().manual_seed(0)).tolist() == [[-1.0, 1.0, -1.0, 1.0]] * 5


def test_transitions_are_as_frequent_as_they_should_be():
    law, n = chain(2), 20_000
    x = law.sample(n, generator=torch.Generator().manual_seed(0)).reshape(n, 2, 2)
    states = (x[:, :, None] - law.values).norm(dim=-1).argmin(-1)
    joint = torch.zeros(3, 3).double().index_put_((states[:, 0], states[:, 1]), torch.ones(n).double(), True) / n
    expected = law.initial[:, None] * law.transition[0]
    assert bool(((joint - expected).abs() <= 6.5 * (expected * (1 - expected) / n).sqrt()).all())


F, C, Q, c = [[0.6, -0.6], [0.6, 0.6]], [0.5, 0.1], 0.05, [0.1, -0.2]


def test_a_state_space_runs_by_its_recursion():
    law = LinearGaussianChain([1.0, 0.0], C, F, Q, 3, c)
    matrix, shift = torch.tensor(F, dtype=torch.float64), torch.tensor(c, dtype=torch.float64)
    mean, cov = law.mean.reshape(3, 2), law.cov.reshape(3, 2, 3, 2)
    for t in range(2):
        assert (mean[t + 1] - matrix @ mean[t] - shift).abs().max() < UNITS * EPS
        grown = matrix @ cov[t, :, t] @ matrix.T + Q * torch.eye(2, dtype=torch.float64)
        assert (cov[t + 1, :, t + 1] - grown).abs().max() < UNITS * EPS
        assert (cov[t + 1, :, t] - matrix @ cov[t, :, t]).abs().max() < UNITS * EPS
        assert (cov[t + 1, :, t] - cov[t, :, t] @ matrix).abs().max() > 1e-3  # the other way round it is not
    assert not law.singular
    assert LinearGaussianChain([1.0, 0.0], C, F, 0.0, 3, c).singular  # without noise the start says all


def test_its_posterior_is_the_kalman_smoother():
    """Two looks at the first coordinate, smoothed by the textbook's filter and Rauch-Tung-Striebel step."""
    law = LinearGaussianChain([1.0, 0.0], C, F, Q, 2)
    found = conditioned(law, [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], [0.7, 0.9], 0.04).law
    H, A, m, P = (
        torch.tensor([[1.0, 0.0]], dtype=torch.float64),
        torch.tensor(F, dtype=torch.float64),
        law.mean[:2],
        law.cov[:2, :2],
    )

    def look(m, P, y):
        gain = P @ H.T / (H @ P @ H.T + 0.04)
        return m + (gain * (y - H @ m)).squeeze(-1), P - gain @ H @ P

    m1, P1 = look(m, P, 0.7)
    ahead, grown = A @ m1, A @ P1 @ A.T + Q * torch.eye(2, dtype=torch.float64)
    m2, P2 = look(ahead, grown, 0.9)
    back = P1 @ A.T @ torch.linalg.inv(grown)
    s1, S1 = m1 + back @ (m2 - ahead), P1 + back @ (P2 - grown) @ back.T
    assert (found.mean - torch.cat([s1, m2])).abs().max() < UNITS * EPS
    assert (found.cov[:2, :2] - S1).abs().max() < UNITS * EPS
    assert (found.cov[2:, 2:] - P2).abs().max() < UNITS * EPS


def test_refused_in_one_sentence():
    bad = {
        r"values must have shape \(states, d\); got \(2,\)": lambda: MarkovChain([1.0], [[1.0]], [0.0, 1.0], 2),
        r"initial must have shape \(1,\) and transition \(1, 1\) or \(1, 1, 1\).*got \(2,\) and": lambda: MarkovChain(
            [0.5, 0.5], [[1.0]], [[0.0]], 2
        ),
        "transition must hold probabilities.* a sum off by 0.1": lambda: MarkovChain([1.0], [[0.9]], [[0.0]], 2),
        "initial must hold probabilities.* least entry -0.5": lambda: MarkovChain(
            [1.5, -0.5], [[1.0, 0.0], [0.0, 1.0]], [[0.0], [1.0]], 2
        ),
        "steps must be an integer >= 1": lambda: MarkovChain([1.0], [[1.0]], [[0.0]], 0),
        r"transition must have shape \(2, 2\) and offset \(2,\).*got \(1, 1\)": lambda: LinearGaussianChain(
            [0.0, 0.0], 1.0, [[1.0]], 1.0, 2
        ),
    }
    for pattern, call in bad.items():
        with pytest.raises(ValueError, match=pattern) as caught:
            call()
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)

"""Score, log density, posterior mean and covariance of random laws agree with mpmath to 1e-12.

Where the question itself is ill-conditioned (which component does x belong to, at sigma = 1e-6?) the bound is what
rounding the inputs does to the exact answer, as the oracle measures it, times a count of roundings; see ``condition``.
"""

import pytest
import torch

from tests.laws.accuracy import answered, blocks, deviations
from tests.laws.cases import DERIVED, KINDS, QUADRATURES, case


def misses(kind: str, seed: int, **how) -> list:
    """The parts of the answer to a random case that are off by more than they may be."""
    return [found for found in deviations(kind, seed, **how) if not found.error <= found.allowed]


CASES = [(kind, seed) for kind in KINDS for seed in range({"product": 12, **QUADRATURES}.get(kind, 24))]
MORE_CASES = [(kind, seed) for kind in KINDS for seed in range(500) if (kind, seed) not in CASES]


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_random_cases(kind, seed):
    assert misses(kind, seed) == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), MORE_CASES)
def test_more_random_cases(kind, seed):
    assert misses(kind, seed) == []


IN_FLOAT32 = [(kind, seed) for kind in KINDS if kind not in DERIVED for seed in range(3 if kind in QUADRATURES else 10)]

IN_FLOAT32 += [("mixture", 192), ("low_rank", 165)]  # narrow components far from the origin


@pytest.mark.parametrize(("kind", "seed"), IN_FLOAT32)
def test_random_cases_in_float32(kind, seed):
    assert misses(kind, seed, dtype=torch.float32) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_product_is_made_of_its_blocks(seed):
    law, x, alpha, sigma, _ = case("product", seed)
    x = torch.tensor(x, dtype=torch.float64)
    whole = answered(law, x, alpha, sigma)
    parts = [answered(part, y, alpha, sigma) for part, y in blocks(law, x)]
    assert whole.log_prob == [sum(part.log_prob[0] for part in parts)]
    assert whole.score == [v for part in parts for v in part.score]
    assert whole.mean == [v for part in parts for v in part.mean]
    cov = torch.block_diag(*(torch.tensor(part.cov, dtype=torch.float64).reshape(len(part.mean), -1) for part in parts))
    assert whole.cov == cov.reshape(-1).tolist()


BREAKS = {
    "log_prob off by 1e-9": {"_log_prob": lambda law, x: law._log_prob(x) * (1 + 1e-9)},
    "score off by 1e-9": {"_score": lambda law, x: law._score(x) * (1 + 1e-9)},
    "posterior mean off by 1e-9": {"_posterior_mean": lambda law, x, a, s: law._posterior_mean(x, a, s) * (1 + 1e-9)},
    "posterior covariance off by 1e-9": {
        "_posterior_cov": lambda law, x, a, s: law._posterior_cov(x, a, s) * (1 + 1e-9)
    },
    "sigma for sigma^2": {"noised": lambda law, a, s: law.noised(a, s**0.5)},
    "float32": {"_score": lambda law, x: law.to(torch.float32)._score(x.float()).double()},
}


@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("kind", ["mixture", "sphere", "box", "mixture_of", "affine", "field", "markov_chain"])
def test_a_broken_law_is_caught(kind, broken):
    assert any(misses(kind, seed, broken=broken) for seed in range(3))

"""Score, log density, posterior mean and covariance of random laws agree with mpmath to 1e-12.

Where the question itself is ill-conditioned (which component does x belong to, at sigma = 1e-6?) the bound is what
rounding the inputs does to the exact answer, as the oracle measures it, times a count of roundings; see ``condition``.
"""

import mpmath as mp
import pytest
import torch

from tests.laws.cases import KINDS, case
from tests.laws.checks import EPS, UNITS, Broken
from tests.oracle import Answer, answer, condition
from toy_distributions import Distribution, Product

SMALLEST = 1e-290  # below it floats lose digits one by one


def answered(law: Distribution, x: torch.Tensor, alpha: float, sigma: float) -> Answer:
    noised = law.noised(alpha, sigma)
    parts = (
        noised.log_prob(x),
        noised.score(x),
        law.posterior_mean(x, alpha, sigma),
        law.posterior_cov(x, alpha, sigma),
    )
    return Answer(*(part.reshape(-1).tolist() for part in parts))


def blocks(law: Distribution, x: torch.Tensor) -> list[tuple[Distribution, torch.Tensor]]:
    """The oracle is asked about each block of a product; the product itself must be made of their answers."""
    if not isinstance(law, Product):
        return [(law, x)]
    return list(zip(law.laws, x.split([part.dim for part in law.laws], -1), strict=True))


def misses(kind: str, seed: int, broken: dict | None = None) -> list[str]:
    """The parts of the answer to a random case that are off by more than they may be."""
    law, x, alpha, sigma, questions = case(kind, seed)
    x = torch.tensor(x, dtype=torch.float64)
    out = []
    for (part, y), question in zip(blocks(law, x), questions, strict=True):
        part = Broken(part, **broken) if broken else part
        exact, sensitivity = answer(*question), None
        for k, (got, want) in enumerate(zip(answered(part, y, alpha, sigma), exact, strict=True)):
            with mp.workdps(60):
                error = max(abs(mp.mpf(a) - b) for a, b in zip(got, want, strict=True))
                # a log density is good to 1e-12 if the density is
                size = max(max(abs(b) for b in want), 1 if k == 0 else SMALLEST)
                if error <= 1e-12 * size:
                    continue
                sensitivity = sensitivity or condition(*question)  # asked only where it matters: it takes long
                if not error <= 1e-12 * size + UNITS * EPS * max(sensitivity[k]):
                    off, number = (mp.nstr(v / size, 3) for v in (error, max(sensitivity[k])))
                    out.append(f"{Answer._fields[k]}: relative error {off}, condition number {number}, {part!r}")
    return out


CASES = [(kind, seed) for kind in KINDS for seed in range(20 if kind == "product" else 40)]
MORE_CASES = [(kind, seed) for kind in KINDS for seed in range(200) if (kind, seed) not in CASES]


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_random_cases(kind, seed):
    assert misses(kind, seed) == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), MORE_CASES)
def test_more_random_cases(kind, seed):
    assert misses(kind, seed) == []


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
@pytest.mark.parametrize("kind", ["mixture", "sphere", "box"])
def test_a_broken_law_is_caught(kind, broken):
    assert any(misses(kind, seed, broken) for seed in range(3))

"""Quasi-Taylor samplers (Tachibana and others 2021): what a higher degree buys, and on which data."""

import torch

from studies.claim import FAILS, claim, near
from theory.estimate import Estimate
from theory.grid import uniform_time
from theory.models import Exact
from theory.process import VPLinear
from theory.reference import flow
from theory.slope import observed_order
from theory.solvers import solve
from theory.solvers.quasi_taylor import QuasiTaylor
from toy_distributions.zoo import LAWS

PROCESS = VPLinear()
FROM, TO = 1.0, 0.2
"""In time: from there on the terms of mu, which grow like h / t, are no longer small."""


def _order(degree: int, law: str) -> Estimate:
    data = LAWS[law]()
    x = torch.linspace(-2, 2, 5 * data.dim, dtype=torch.float64).reshape(5, data.dim)
    exact, counts, errors = flow(data, x, PROCESS.level(FROM), PROCESS.level(TO)), (60, 100, 160, 260, 420), []
    for n in counts:
        grid = uniform_time(PROCESS, n, start=FROM, end=TO)
        end = solve(QuasiTaylor(degree), Exact(data, PROCESS), x, grid, keep=False).end
        errors.append((end - exact).square().sum(-1).mean().sqrt().item())
    return observed_order([1 / n for n in counts], errors, floor=1e-15)


@claim(
    "quasi_taylor.point.order",
    statement="On a point mass the quasi-Taylor sampler of degree 3 has order 3 in the step of time.",
    source="tachibana2021quasi, section 3",
    accepted=near(3.0, 0.05),
    control={"degree": 2},
)
def order_on_a_point(degree: int = 3) -> Estimate:
    return _order(degree, "dirac")


@claim(
    "quasi_taylor.mixture.order",
    statement="The quasi-Taylor sampler of degree 3 is a third-order sampler (mixture).",
    source="tachibana2021quasi, abstract, as usually quoted",
    accepted=near(3.0, 0.1),
    control={"law": "dirac"},
    expected=FAILS,
    finding="Its coefficients are the Taylor polynomials of DDIM's, so every degree converges to DDIM and has order 1 "
    "wherever DDIM has; only on a point mass, where DDIM is exact, the degree is the order.",
)
def order_on_a_mixture(law: str = "mixture_1d") -> Estimate:
    return _order(3, law)

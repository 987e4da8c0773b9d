"""Langevin moves with Metropolis's correction (MALA): what the correction mends, and what it costs."""

import math

import torch

from studies.claim import claim, near
from theory.chains import Langevin
from theory.estimate import Estimate
from toy_distributions.mixture import GaussianMixture

EPS = torch.finfo(torch.float64).eps
BIMODAL = GaussianMixture([0.3, 0.7], [[-1.0], [0.8]], [0.05, 0.1])
PLANE = GaussianMixture([0.4, 0.6], [[1.0, 0.0], [-1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.3]], [[0.4, 0.0], [0.0, 0.1]]])
STEP = 0.05


@claim(
    "mala.detailed_balance",
    statement="The accepted part of a MALA move is reversible: p(x) q(y | x) a(x, y) over the same with x and y "
    "swapped, less 1 (largest of 500 pairs in the plane).",
    source="roberts1996exponential, section 1.4",
    accepted=near(0.0, 1e-11),
    control={"proposal": "symmetric"},
)
def detailed_balance(proposal: str = "langevin") -> Estimate:
    """The control accepts by p(y) / p(x) alone, as if the proposal were symmetric."""
    generator = torch.Generator().manual_seed(0)
    chain = Langevin(PLANE, 0.3)
    x = PLANE.sample(500, generator=generator)
    y = chain.mean(x) + 0.3**0.5 * torch.randn(x.shape, dtype=x.dtype, generator=generator)
    flows = []
    for a, b in ((x, y), (y, x)):
        # the density of the proposal, from its definition
        away = b - a - 0.15 * PLANE.score(a)
        log_q = -away.square().sum(-1) / 0.6
        plain = (PLANE.log_prob(b) - PLANE.log_prob(a)).clamp_max(0.0)
        taken = chain.acceptance(a, b).log() if proposal == "langevin" else plain
        flows.append(PLANE.log_prob(a) + log_q + taken)
    size = max(flow.abs().max().item() for flow in flows)
    return Estimate((flows[0] - flows[1]).expm1().abs().max().item(), 100 * size * EPS, "closed form")


def _second_moment_after(chain: Langevin, law: GaussianMixture, nodes: int) -> float:
    """E y^2 after one move from the law, by the trapezoidal rule in x and z; a rejected move stays at x."""
    z = torch.linspace(-9, 9, nodes, dtype=torch.float64)
    spread = 10 * law.covs.reshape(-1).sqrt().max()
    x = torch.linspace(float(law.means.min() - spread), float(law.means.max() + spread), nodes, dtype=torch.float64)
    weights_x = law.log_prob(x[:, None]).exp()
    weights_z = torch.exp(-0.5 * z**2)
    total = 0.0
    for rows, weight in zip(x.split(100), weights_x.split(100), strict=True):
        start = rows[:, None, None].expand(-1, nodes, 1)
        y = chain.mean(rows[:, None])[:, None] + chain.step_size**0.5 * z[None, :, None]
        taken = chain.acceptance(start, y)
        after = taken * y[..., 0] ** 2 + (1 - taken) * start[..., 0] ** 2
        total += float(weight @ (after @ weights_z))
    return total / float(weights_x.sum() * weights_z.sum())


@claim(
    "mala.no_bias",
    statement="One MALA move from the law leaves its second moment as it was: relative change (mixture on the line; "
    "the same move without the correction has the bias of Langevin's).",
    source="roberts1996exponential, section 1.4",
    accepted=near(0.0, 1e-6),
    control={"adjusted": False},
)
def no_bias(adjusted: bool = True) -> Estimate:
    chain, exact = Langevin(BIMODAL, STEP, adjusted), float(BIMODAL.cov + BIMODAL.mean**2)
    coarse, fine = (_second_moment_after(chain, BIMODAL, nodes) / exact - 1 for nodes in (201, 401))
    # min(1, .) has an edge, at which the rule is of order 2: what is left is below the last change
    return Estimate(fine, abs(fine - coarse), "quadrature")


@claim(
    "mala.rejections",
    statement="On N(m, S) data MALA rejects a^(3/2) / (4 pi S^(3/2)) of its proposals as the step a falls: the part "
    "rejected, extrapolated to a = 0, over that.",
    source="roberts1996exponential, with log a(x, y) = a (x^2 - y^2) / (8 S^2) on N(0, S) (derived)",
    accepted=near(1.0, 1e-3),
    control={"power": 1.0},
)
def rejections(power: float = 1.5) -> Estimate:
    variance, ratios = 0.4, []
    law = GaussianMixture.gaussian(0.0, variance)
    z = torch.linspace(-9, 9, 601, dtype=torch.float64)
    weight = torch.exp(-0.5 * z**2)
    weight = weight / weight.sum()
    x = variance**0.5 * z[:, None]
    for a in (4e-3, 1e-3, 2.5e-4):
        chain = Langevin(law, a)
        y = chain.mean(x)[:, None] + a**0.5 * z[None, :, None]
        refused = 1 - chain.acceptance(x[:, None].expand_as(y), y)
        ratios.append(float(weight @ refused @ weight) / (a**power / (4 * math.pi * variance**1.5)))
    # the next term is of relative order sqrt(a) or smaller: each quarter of a halves it
    first, second = 2 * ratios[1] - ratios[0], 2 * ratios[2] - ratios[1]
    return Estimate(second, abs(second - first) + abs(second - ratios[2]), "quadrature")

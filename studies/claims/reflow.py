"""Reflow (Liu, Gong, Liu 2023): rectification again and again, which straightens, and need not become optimal.

Time is the project's, t = 0 data and t = 1 noise: the paper's time is 1 - t, its (X_0, X_1) our (x_1, x_0).
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from studies.claim import FAILS, at_least, claim, near
from theory.coupling import GaussianCoupling, ellipse, rotation
from theory.estimate import Estimate
from theory.flows import flow_jacobians, lambda_panels
from toy_distributions.mixture import GaussianMixture

THREE_MODES = GaussianMixture([0.5, 0.3, 0.2], [[2.0, 0.0], [-1.0, 1.5], [-0.5, -2.0]], [0.05, 0.05, 0.05])

EXACT = 1e-10
"""Accepted distance of numbers that are equal in exact arithmetic: some 200 nodes, condition numbers up to 1e3, and
panels whose halving changes nothing above 1e-11, in units of 2.2e-16."""


@claim(
    "rectified_flow.reflow.optimal.any_start",
    statement="Reflow converges to the optimal coupling: cost after three reflows minus W2^2 when the plane N(0, I) is "
    "coupled to itself by a rotation of 90 degrees, x_0 = R x_1 (repair: the independent coupling).",
    source="liu2022rectified, section 2.2, as usually quoted",
    accepted=near(0.0, EXACT),
    control={"correlation": 0.0},
    expected=FAILS,
    finding="A rotation by theta < pi is a fixed point of reflow: S = V = 0, cost 4 (1 - cos theta) against W2 = 0.",
)
def rotation_is_a_fixed_point(correlation: float = 1.0) -> Estimate:
    eye, cross = torch.eye(2, dtype=torch.float64), correlation * rotation(math.pi / 2)
    coupling = GaussianCoupling(
        torch.zeros(4, dtype=torch.float64), torch.cat([torch.cat([eye, cross], 1), torch.cat([cross.T, eye], 1)])
    )
    for _ in range(3):
        coupling = coupling.rectified()
    return Estimate(coupling.cost, 1e-12, "collocation")


@claim(
    "rectified_flow.reflow.optimal.independent_gaussians",
    statement="From the independent coupling reflow converges to the optimal one: cost after three reflows over W2^2, "
    "minus one, for diag(30, 1/30) and the same turned by 0.1 (repair: white noise, which commutes with everything).",
    source="liu2022rectified, section 2.2, as usually quoted",
    accepted=near(0.0, 1e-9),
    control={"white_noise": True},
    expected=FAILS,
    finding="For Gaussians whose covariances do not commute the first rectified coupling is already straight and "
    "stays: here at 89 times the optimal cost.",
)
def independent_gaussians(white_noise: bool = False) -> Estimate:
    noise = ellipse(1.0, 1.0, 0.0) if white_noise else ellipse(30.0, 1 / 30, 0.0)
    coupling = GaussianCoupling.independent(ellipse(30.0, 1 / 30, 0.1), noise)
    optimal = GaussianCoupling.optimal(coupling.law(0.0), coupling.law(1.0)).cost
    for _ in range(3):
        coupling = coupling.rectified()
    return Estimate(coupling.cost / optimal - 1, 1e-10, "collocation")  # 30 / W2^2 = 100 times the rounding


def _starts(n: int) -> Tensor:
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@lru_cache(maxsize=4)
def _jacobians(law: str, order: int) -> Tensor:
    """Jacobians of the first rectified map at 60 draws of the noise, from lambda = -16 to 16."""
    target = THREE_MODES if law == "three modes" else ellipse(1.0, 0.05, 0.5)
    return flow_jacobians(target, _starts(60), lambda_panels(order=order))[1]


@claim(
    "rectified_flow.reflow.optimal.white_noise_in_the_plane",
    statement="With white noise the first rectified map is an optimal transport map, whose Jacobian is symmetric: "
    "largest |J_12 - J_21| / |J| over 60 points for a mixture of three modes (repair: one Gaussian).",
    source="khrulkov2022understanding, as conjectured there; refuted in general by lavenant2022flow",
    accepted=near(0.0, 1e-8),
    control={"law": "gaussian"},
    expected=FAILS,
    finding="The probability-flow map of a 2-D mixture is not the gradient of a convex function: its Jacobian is "
    "asymmetric, by 0.1 % at a typical point and by some per cent at others.",
)
def first_map_is_a_gradient(law: str = "three modes") -> Estimate:
    def worst(jacobian: Tensor) -> float:
        skew = (jacobian[:, 0, 1] - jacobian[:, 1, 0]).abs()
        return (skew / torch.linalg.matrix_norm(jacobian)).max().item()

    fine, coarse = worst(_jacobians(law, 4)), worst(_jacobians(law, 3))
    return Estimate(fine, abs(fine - coarse) + 1e-12, "variational equation")


@claim(
    "rectified_flow.second_flow.no_local_crossing",
    statement="The paths of the first rectified coupling of a 2-D mixture do not cross locally, which a straight "
    "second flow needs: least det((1 - t) J + t I) over t and 60 points, J the Jacobian of the map from noise to data.",
    source="liu2022rectified, theorem 3.6; derived",
    accepted=at_least(0.0),
    control={"reflected": True},
)
def no_local_crossing(reflected: bool = False) -> Estimate:
    times = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None, None, None]

    def least(order: int) -> float:
        jacobian = _jacobians("three modes", order) * (-1 if reflected else 1)
        return torch.linalg.det((1 - times) * jacobian + times * torch.eye(2)).min().item()

    fine, coarse = least(4), least(3)
    return Estimate(fine, abs(fine - coarse) + 1e-12, "variational equation")

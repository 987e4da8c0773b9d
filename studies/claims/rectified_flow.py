"""Rectified flow (Liu, Gong, Liu 2023): marginals, costs, intersection and straightness of one rectification.

Time is the project's, t = 0 data and t = 1 noise: the paper's time is 1 - t, its (X_0, X_1) our (x_1, x_0).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from studies.claim import FAILS, at_least, at_most, claim, near
from theory.coupling import GaussianCoupling, Interpolation, ellipse, linear, of_process, turning
from theory.estimate import Estimate
from theory.flows import Curves, Points, even_panels, follow, gauss_panels, line_flow
from theory.models import Exact
from theory.process import LinearPath, TrigonometricPath
from theory.reflow import MonotoneCoupling, independent_intersection
from toy_distributions.mixture import GaussianMixture

EPS = torch.finfo(torch.float64).eps

MIXTURE = GaussianMixture([0.4, 0.6], [[-1.0], [1.5]], [0.2, 0.4])
NOISE = GaussianMixture.gaussian(0.0, 1.0)

EXACT = 1e-10
"""Accepted distance of numbers that are equal in exact arithmetic: some 200 nodes, condition numbers up to 1e3, and
panels whose halving changes nothing above 1e-11, in units of 2.2e-16."""


def _crossed() -> GaussianCoupling:
    """diag(4, 1/4) at the noise end, the same turned by 45 degrees at the data end: covariances that do not commute."""
    return GaussianCoupling.independent(ellipse(4.0, 0.25, math.pi / 4), ellipse(4.0, 0.25, 0.0))


def _correlated() -> GaussianCoupling:
    """A coupling of two planes with nothing special about it."""
    factor = torch.tensor(
        [[1.3, 0.0, 0.0, 0.0], [-0.4, 0.7, 0.0, 0.0], [0.5, 0.3, 1.0, 0.0], [-0.2, 0.6, 0.3, 0.8]], dtype=torch.float64
    )
    return GaussianCoupling(torch.tensor([1.0, -0.5, 0.0, 0.3], dtype=torch.float64), factor @ factor.T)


def _lines() -> tuple[Points, Curves]:
    """The flow of the independent coupling of MIXTURE and N(0, 1), all of it."""
    points, lines = line_flow(MIXTURE)
    return points, lines.along(LinearPath(), whole=True)


def _cost_of_lines() -> Estimate:
    points, curves = _lines()
    return points.expect((curves.chord**2).sum(-1))


def _independent_cost() -> float:
    return 1.0 + MIXTURE.cov.item() + MIXTURE.mean.item() ** 2


def _together(value: float, *parts: Estimate) -> Estimate:
    return Estimate(value, sum(part.error for part in parts), "quadrature")


@claim(
    "rectified_flow.marginals.gaussian",
    statement="The rectified flow has the law of the interpolation at every t: largest relative covariance error along "
    "the flow of a correlated Gaussian coupling of the plane.",
    source="liu2022rectified, theorem 3.3",
    accepted=near(0.0, EXACT),
    control={"shuffled": True},
)
def gaussian_marginals(shuffled: bool = False) -> Estimate:
    coupling = _correlated()
    driver = coupling.shuffled() if shuffled else coupling

    def worst(parts: int) -> float:
        flow = driver.flow(parts=parts)
        pushed = flow.maps @ coupling.cov[2:, 2:] @ flow.maps.mT
        true = torch.stack([coupling.law(t).cov for t in flow.times.tolist()])
        return ((pushed - true).norm(dim=(1, 2)) / true.norm(dim=(1, 2))).max().item()

    return Estimate(worst(2), abs(worst(2) - worst(1)) + 1e-14, "collocation")


@claim(
    "rectified_flow.marginals.mixture",
    statement="The rectified flow of a 1-D mixture has the law of the interpolation: largest W2 over five times "
    "between the transported noise and the exact quantiles.",
    source="liu2022rectified, theorem 3.3",
    accepted=at_most(1e-9),
    control={"target": "x_1 - x_t"},
)
def mixture_marginals(target: str = "x_1 - x_0") -> Estimate:
    model, path = Exact(MIXTURE, LinearPath()), LinearPath()

    def velocity(x: Tensor, t: float) -> Tensor:
        exact = model(x, path.level(t)).velocity
        return exact if target == "x_1 - x_0" else (1 - t) * exact  # x_1 - x_t = (1 - t)(x_1 - x_0)

    noise = Points.of_ranks(NOISE, 201, reach=6.0)  # further out, ranks have no digits left
    assert noise.weights is not None
    curves = follow(velocity, noise.x, gauss_panels([1.0, 0.95, 0.85, 0.7, 0.5, 0.3, 0.15, 0.07, 0.03, 0.01], 4))
    ranks = torch.special.ndtr(noise.x)
    worst = Estimate(0.0)
    for i in (5, 13, 21, 29, -1):
        t = curves.clock[i].item()
        law = MIXTURE.noised(1 - t, t)
        exact = law.quantile(ranks)
        w2 = (noise.weights @ ((curves.x[i] - exact) ** 2).sum(-1)).sqrt().item()
        digits = EPS / law.log_prob(exact).exp()  # a rank is known to eps
        if w2 >= worst.value:
            worst = Estimate(w2, (noise.weights @ digits**2).sqrt().item(), "quadrature over ranks")
    return worst


CONVEX: dict[str, Callable[[Tensor], Tensor]] = {
    "|z|": torch.abs,
    "|z|^1.5": lambda z: z.abs() ** 1.5,
    "z^2": lambda z: z**2,
    "z^4": lambda z: z**4,
    "Huber": lambda z: torch.where(z.abs() < 1, 0.5 * z**2, z.abs() - 0.5),
    "max(-z - 4, 0)": lambda z: (-z - 4).clamp_min(0),
    "exp(-z)": lambda z: torch.exp(-z),
}
CONCAVE: dict[str, Callable[[Tensor], Tensor]] = {"|z|^0.5": lambda z: z.abs().sqrt()}


@claim(
    "rectified_flow.cost.every_convex",
    statement="No convex cost E c(x_1 - x_0) grows: smallest relative decrease over seven costs, for a 1-D mixture "
    "four units away from the noise. (Concave costs may grow: |z|^(1/2) does here, and falls for centred laws.)",
    source="liu2022rectified, theorem 3.5",
    accepted=at_least(0.0),
    control={"costs": "concave"},
)
def every_convex_cost(costs: str = "convex") -> Estimate:
    away = 4.0
    points, curves = _lines()
    after = curves.x[0, :, 0] - curves.x[-1, :, 0] - away  # moving the data moves the flow with it
    variances = 1 + MIXTURE.covs
    before = Points.of_ranks(GaussianMixture(MIXTURE.weights, -MIXTURE.means - away, variances), 4001)
    worst = Estimate(math.inf)
    for cost in (CONVEX if costs == "convex" else CONCAVE).values():
        old, new = before.expect(cost(before.x[:, 0])), points.expect(cost(after))
        decrease = Estimate(1 - new.value / old.value, (old.error + new.error) / old.value, "quadrature")
        worst = decrease if decrease.low < worst.low else worst
    return worst


@claim(
    "rectified_flow.cost.convex_order",
    statement="For Gaussians, where the covariance of x_1 - x_0 decides about all convex costs at once, it falls in "
    "every direction: least eigenvalue of its decrease, relative, for covariances that do not commute. (An "
    "interpolation that turns by half a circle on its way keeps the marginals, but not this.)",
    source="liu2022rectified, theorem 3.5",
    accepted=at_least(0.0),
    control={"turn": math.pi},
)
def convex_order(turn: float = 0.0) -> Estimate:
    coupling = _crossed().with_interpolation(turning(turn) if turn else linear)
    before, after = coupling.difference().cov, coupling.rectified().difference().cov
    least = torch.linalg.eigvalsh(before - after).min().item() / torch.trace(before).item()
    return Estimate(least, EXACT, "collocation")


@claim(
    "rectified_flow.interpolation.variance_preserving",
    statement="Every interpolation alpha x_0 + sigma x_1 with scalar alpha, sigma makes the same rectified coupling as "
    "the linear one: largest difference of the flow maps, here of a correlated Gaussian coupling and the "
    "variance-preserving trigonometric path.",
    source="liu2022rectified, section 2.3; derived: alpha x_0 + sigma x_1 = (alpha + sigma) y_u, y linear in "
    "u = sigma / (alpha + sigma)",
    accepted=near(0.0, EXACT),
    control={"interpolation": "turning"},
    finding="The convex costs fall for variance-preserving interpolations just as for the linear one, since both make "
    "the same coupling; only the speed, and so the straightness, differs.",
)
def same_coupling(interpolation: str = "trigonometric") -> Estimate:
    other: Interpolation = of_process(TrigonometricPath()) if interpolation == "trigonometric" else turning(math.pi / 2)
    straight, bent = _correlated().flow().end, _correlated().with_interpolation(other).flow().end
    return Estimate((straight - bent).abs().max().item(), 1e-12, "collocation")


@claim(
    "rectified_flow.cost.identity.gaussian",
    statement="E|x_1 - x_0|^2 - E|z_1 - z_0|^2 = S + V exactly: the difference of the two sides for Gaussian planes "
    "whose covariances do not commute.",
    source="liu2022rectified, proof of theorem 3.7",
    accepted=near(0.0, EXACT),
    control={"weight": 0.5},
)
def gaussian_identity(weight: float = 1.0) -> Estimate:
    coupling = _crossed()
    s, v = coupling.straightness(), coupling.intersection()
    return _together(coupling.cost - coupling.rectified().cost - weight * s.value - v.value, s, v)


@claim(
    "rectified_flow.cost.identity.mixture",
    statement="E|x_1 - x_0|^2 - E|z_1 - z_0|^2 = S + V exactly: the difference of the two sides for a 1-D mixture and "
    "independent noise, S and the cost along the flow, V from the posterior variance.",
    source="liu2022rectified, proof of theorem 3.7",
    accepted=near(0.0, 1e-8),
    control={"weight": 0.5},
)
def mixture_identity(weight: float = 1.0) -> Estimate:
    points, curves = _lines()
    s, v, after = points.expect(curves.straightness), independent_intersection(MIXTURE), _cost_of_lines()
    return _together(_independent_cost() - after.value - weight * s.value - v.value, s, v, after)


@claim(
    "rectified_flow.intersection.closed_form",
    statement="V / s for N(m, s^2) and independent N(0, 1) is pi / 2, whatever m and s.",
    source="liu2022rectified, theorem 3.7; derived",
    accepted=near(math.pi / 2, EXACT),
    control={"correlation": 0.2},
)
def intersection_closed_form(correlation: float = 0.0) -> Estimate:
    v = GaussianCoupling.of_line(2.0, correlation=correlation, shift=0.7).intersection()
    return Estimate(v.value / 2.0, v.error, v.method)


@claim(
    "rectified_flow.straightness.closed_form",
    statement="S / s of the first rectified flow from N(0, 1) to N(m, s^2) is 2 - pi / 2, whatever m and s.",
    source="liu2022rectified, theorem 3.7; derived",
    accepted=near(2 - math.pi / 2, EXACT),
    control={"correlation": 0.2},
)
def straightness_closed_form(correlation: float = 0.0) -> Estimate:
    s = GaussianCoupling.of_line(0.5, correlation=correlation, shift=0.7).straightness()
    return Estimate(s.value / 0.5, s.error / 0.5, s.method)


@claim(
    "rectified_flow.line.first_coupling_is_optimal",
    statement="In one dimension the first rectified coupling is the monotone one, and so optimal: E|z_1 - z_0|^2 along "
    "the flow of a mixture minus W2^2 by quantiles.",
    source="liu2022rectified, theorem 3.10",
    accepted=near(0.0, 1e-8),
    control={"rectified": False},
)
def first_coupling_is_optimal(rectified: bool = True) -> Estimate:
    noise = Points.of_ranks(NOISE, 4001)
    optimal = noise.expect(((MonotoneCoupling(MIXTURE).map(noise.x) - noise.x) ** 2)[:, 0])
    cost = _cost_of_lines() if rectified else Estimate(_independent_cost())
    return _together(cost.value - optimal.value, cost, optimal)


@claim(
    "rectified_flow.line.second_flow_is_straight",
    statement="In one dimension the flow of the first rectified coupling is straight: S of the flow of its exact "
    "conditional velocity, for a mixture.",
    source="liu2022rectified, theorem 3.10 and 3.6",
    accepted=near(0.0, EXACT),
    control={"flow": "first"},
)
def second_flow_is_straight(flow: str = "second") -> Estimate:
    if flow == "first":
        points, curves = _lines()
    else:
        points = Points.of_ranks(NOISE, 41, reach=6.0)
        curves = follow(MonotoneCoupling(MIXTURE).velocity, points.x, even_panels(1.0, 0.0, 1, order=2))
    return points.expect(curves.straightness)


@claim(
    "rectified_flow.straightness.sum_bound",
    statement="S + V summed over reflows stays below E|x_1 - x_0|^2 - W2^2: the sum over three reflows minus that "
    "bound, for Gaussian planes whose covariances do not commute. (The paper's bound is E|x_1 - x_0|^2; the control "
    "draws a new independent coupling before each reflow.)",
    source="liu2022rectified, theorem 3.7, sharpened by W2^2",
    accepted=at_most(0.0),
    control={"reshuffled": True},
)
def sum_bound(reshuffled: bool = False) -> Estimate:
    coupling = _crossed()
    bound = coupling.cost - GaussianCoupling.optimal(coupling.law(0.0), coupling.law(1.0)).cost
    total, error = -bound, 0.0
    for _ in range(3):
        for part in (coupling.straightness(), coupling.intersection()):
            total, error = total + part.value, error + part.error
        coupling = coupling.rectified().shuffled() if reshuffled else coupling.rectified()
    return Estimate(total, error, "quadrature")


@claim(
    "rectified_flow.straight.iff_no_intersection",
    statement="No intersection means a straight flow: S / (4 s) for Gaussians on the line at correlation -0.9999, "
    "where V is 2.8 % of its independent value (repair: +0.9999, where it is 0.01 % and the limit is rectifiable).",
    source="liu2022rectified, theorem 3.6, without its hypothesis",
    accepted=near(0.0, 0.05),
    control={"correlation": 0.9999},
    expected=FAILS,
    finding="As x_1 -> -x_0 the intersection V goes to 0 while S goes to its largest value 4 s: all lines meet at one "
    "time, and only rectifiable couplings with V = 0 are straight.",
)
def no_intersection_is_straight(correlation: float = -0.9999) -> Estimate:
    s = GaussianCoupling.of_line(1.0, correlation=correlation).straightness()
    return Estimate(s.value / 4, s.error / 4, s.method)


@claim(
    "rectified_flow.euler.one_step",
    statement="One Euler step is exact where the flow is straight: root mean square error over s of one step from "
    "t = 1 to t = 0 for the first rectified coupling of N(0, 1) and N(m, s^2). (For the independent one it ends at m.)",
    source="liu2022rectified, section 2.2; derived",
    accepted=near(0.0, EXACT),
    control={"reflows": 0},
)
def one_euler_step(reflows: int = 1) -> Estimate:
    std = 0.5
    coupling = GaussianCoupling.of_line(std, shift=0.7)
    for _ in range(reflows):
        coupling = coupling.rectified()
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    step = x - coupling.velocity(x, 1.0)
    exact = 0.7 + x * coupling.flow().end.item()
    gain = ((step - exact)[1] - (step - exact)[0]).item()
    return Estimate(math.hypot((step - exact)[0].item(), gain) / std, 1e-13, "collocation")

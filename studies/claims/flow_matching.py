"""Flow matching (Lipman et al. 2023): the marginal field, the two losses, and what the "OT path" is and is not.

Time is the project's, t = 0 data and t = 1 noise; the paper's time is 1 - t.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from studies.claim import FAILS, at_most, claim, near
from theory.coupling import GaussianCoupling, of_process
from theory.estimate import Estimate
from theory.flows import even_panels, integrate, time_panels
from theory.fokker_planck import divergence
from theory.models import Exact
from theory.process import LinearPath, TrigonometricPath, VPCosine, VPLinear
from theory.reflow import independent_intersection
from toy_distributions.mixture import GaussianMixture

LINE = GaussianMixture([0.4, 0.6], [[-1.0], [1.5]], [0.2, 0.4])
PLANE = GaussianMixture([0.5, 0.3, 0.2], [[2.0, 0.0], [-1.0, 1.5], [-0.5, -2.0]], [0.3, 0.2, 0.4])

EXACT = 1e-10
"""Accepted distance of numbers that are equal in exact arithmetic: some hundred operations on numbers of size one, with
condition numbers up to 1e3, in units of 2.2e-16."""


def _states(n: int = 40) -> Tensor:
    return 1.5 * torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _log_density(x: Tensor, t: Tensor) -> Tensor:
    """log p_t(x) of PLANE on the linear path, from the definition, for x (n, 2) and t (n,), differentiable in both."""
    clean, noise = 1 - t[:, None], t[:, None]
    spread = clean**2 * PLANE.covs + noise**2
    away = ((x[:, None, :] - clean[..., None] * PLANE.means) ** 2).sum(-1)
    return torch.logsumexp(PLANE.weights.log() - spread.log() - 0.5 * away / spread, -1) - math.log(2 * math.pi)


@claim(
    "flow_matching.field.continuity",
    statement="The marginal field, the mean of the conditional ones given x_t = x, generates p_t: largest residual of "
    "d_t log p + v . grad log p + div v over its terms, 2-D mixture, four times.",
    source="lipman2022flow, theorem 1",
    accepted=near(0.0, EXACT),
    control={"field": "unconditional mean"},
)
def continuity(field: str = "conditional mean") -> Estimate:
    model, path, worst = Exact(PLANE, LinearPath()), LinearPath(), 0.0
    for time in (0.05, 0.3, 0.6, 0.95):
        x = _states().requires_grad_()
        t = torch.full((len(x),), time, dtype=torch.float64, requires_grad=True)
        grad, rate = torch.autograd.grad(_log_density(x, t).sum(), (x, t))
        conditional = field == "conditional mean"
        velocity = model(x, path.level(time)).velocity if conditional else (x - PLANE.mean) / time  # x_0 at its mean
        terms = torch.stack([rate, (velocity * grad).sum(-1), divergence(velocity, x)]).detach()
        worst = max(worst, (terms.sum(0).abs() / terms.abs().sum(0)).max().item())
    return Estimate(worst, 1e-13, "automatic differentiation")


FIELDS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "0": lambda x, t: torch.zeros_like(x),
    "t - x": lambda x, t: t - x,
    "sin(2 x + t)": lambda x, t: torch.sin(2 * x + t),
}


@claim(
    "flow_matching.loss.constant_gap",
    statement="The conditional loss exceeds the marginal one by a constant, whatever the field: largest difference "
    "from V, the intersection of data and noise, over four fields, 1-D mixture. (The control regresses on E x_1 - "
    "E x_0.)",
    source="lipman2022flow, theorem 2; derived: the constant is V",
    accepted=near(0.0, 1e-8),
    control={"target": "unconditional mean"},
)
def constant_gap(target: str = "x_1 - x_0") -> Estimate:
    constant = independent_intersection(LINE)

    def worst(nodes: int) -> float:
        z = torch.linspace(-8, 8, nodes, dtype=torch.float64)
        normal = torch.exp(-0.5 * z * z)
        normal = normal / normal.sum()
        weights = LINE.weights[:, None, None] * normal[:, None] * normal  # component, z_0, x_1
        x_0 = (LINE.means + LINE.covs.sqrt()[:, None] * z)[:, :, None]
        goal = z - x_0 if target == "x_1 - x_0" else -LINE.mean.expand_as(z - x_0)
        rule, model, gaps = even_panels(0.0, 1.0, 2, order=12), Exact(LINE, LinearPath()), torch.zeros(4).double()
        for t, weight in zip(rule.nodes[1:-1].tolist(), rule.weights[1:-1].tolist(), strict=True):
            x = (1 - t) * x_0 + t * z
            exact = model(x.reshape(-1, 1), LinearPath().level(t)).velocity.reshape(x.shape)
            fields = [*(field(x, t) for field in FIELDS.values()), exact]
            gaps += weight * torch.stack([(weights * ((v - goal) ** 2 - (v - exact) ** 2)).sum() for v in fields])
        return (gaps - constant.value).abs().max().item()

    fine = worst(121)
    return Estimate(fine, abs(fine - worst(81)) + constant.error, "quadrature")


@claim(
    "flow_matching.diffusion_path.is_probability_flow",
    statement="With a diffusion path flow matching learns the probability-flow ODE: largest relative difference of the "
    "field and f x - (g^2 / 2) grad log p, VP-linear and VP-cosine, 2-D mixture.",
    source="lipman2022flow, section 4.1, example I",
    accepted=near(0.0, EXACT),
    control={"score_factor": 1.0},
)
def is_probability_flow(score_factor: float = 0.5) -> Estimate:
    x, worst = _states(), 0.0
    for process in (VPLinear(), VPCosine()):
        for t in (0.05, 0.4, 0.8):
            at = process.level(t)
            score = PLANE.noised(float(at.alpha), float(at.sigma)).score(x)
            drift = process.drift(t) * x - score_factor * process.diffusion_squared(t) * score
            field = Exact(PLANE, process)(x, at).velocity
            worst = max(worst, ((field - drift).norm() / field.norm()).item())
    return Estimate(worst, 1e-13)


@claim(
    "flow_matching.ot_path.straight",
    statement="The flow of the optimal-transport path has straight lines: S / s from N(0, 1) to N(m, s^2), s = 1/2 "
    "(repair: a point mass).",
    source="lipman2022flow, section 4.1, example II, as usually quoted",
    accepted=near(0.0, EXACT),
    control={"std": 0.0},
    expected=FAILS,
    finding="Each conditional map is an optimal transport, the marginal flow is not straight: S = (2 - pi / 2) s from "
    "N(0, 1) to N(m, s^2); in one dimension only its end map is optimal.",
)
def ot_path_is_straight(std: float = 0.5) -> Estimate:
    s = GaussianCoupling.of_line(std, shift=0.7).straightness()
    return Estimate(s.value / 0.5, s.error / 0.5, s.method)


@claim(
    "flow_matching.ot_path.straighter_than_diffusion",
    statement="The optimal-transport path has straighter lines than diffusion paths: its S minus that of the "
    "trigonometric variance-preserving path, data N(0, s^2) with s = 1 (repair: s = 0.1).",
    source="lipman2022flow, section 4.1 and figure 3, as usually quoted",
    accepted=at_most(0.0),
    control={"std": 0.1},
    expected=FAILS,
    finding="On N(0, I) the variance-preserving flow stands still, S = 0, and the optimal-transport path has "
    "S = 0.429 d: which path is straighter depends on the data.",
)
def straighter_than_diffusion(std: float = 1.0) -> Estimate:
    linear = GaussianCoupling.of_line(std)
    s = linear.straightness(), linear.with_interpolation(of_process(TrigonometricPath())).straightness()
    return Estimate(s[0].value - s[1].value, s[0].error + s[1].error, "quadrature")


@claim(
    "flow_matching.sigma_min.bias",
    statement="With sigma_min > 0 the flow ends at data blurred by sigma_min: W2 to the data N(m, v) is "
    "sqrt(v + sigma_min^2) - sqrt(v), here 0.0192 for v = 1/4, sigma_min = 0.14.",
    source="lipman2022flow, section 4.1, example II; derived",
    accepted=near(math.hypot(0.5, 0.14) - 0.5, EXACT),
    control={"sigma_min": 0.0},
)
def sigma_min_bias(sigma_min: float = 0.14) -> Estimate:
    std = 0.5

    def growth(t: float, gap: Tensor) -> Tensor:
        """d/dt of z_t - E z_t: the regression of -x_0 + (1 - sigma_min) eps on x_t = (1 - t) x_0 + noise eps."""
        noise = t + (1 - t) * sigma_min
        cross, spread = (1 - sigma_min) * noise - (1 - t) * std**2, noise**2 + (1 - t) ** 2 * std**2
        return cross / spread * gap

    start = torch.ones(1, dtype=torch.float64)  # the standard deviation of the noise
    ends = [integrate(growth, start, time_panels(parts).nodes).states[-1].item() for parts in (1, 2)]
    return Estimate(ends[1] - std, abs(ends[1] - ends[0]) + 1e-14, "8th-order steps")


def _swirled(swirl: float, around: str) -> tuple[GaussianCoupling, Tensor, Tensor]:
    """A Gaussian plane and noise; the flow map, and that of the field plus ``swirl`` J grad log p (or J x)."""
    law = GaussianMixture.gaussian([0.0, 0.0], [[1.0, 0.3], [0.3, 0.25]])
    coupling = GaussianCoupling.independent(law, GaussianMixture.gaussian([0.0, 0.0], 1.0))
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)

    def slope(t: float, matrix: Tensor) -> Tensor:
        gain = coupling.velocity(torch.eye(2, dtype=torch.float64), t).T
        score = -torch.linalg.inv(coupling.law(t).cov) if around == "score" else torch.eye(2, dtype=torch.float64)
        return (gain + swirl * quarter @ score) @ matrix

    end = integrate(slope, torch.eye(2, dtype=torch.float64), time_panels(1, halvings=3, order=4).nodes).states[-1]
    return coupling, coupling.flow().end, end


@claim(
    "flow_matching.field.swirl_keeps_the_law",
    statement="Adding J grad log p, J antisymmetric, to the field changes no marginal: relative covariance error at "
    "the data end, Gaussian plane (the control adds J x).",
    source="lipman2022flow, theorem 3; derived: div(p J grad log p) = 0",
    accepted=near(0.0, 1e-8),
    control={"around": "origin"},
)
def swirl_keeps_the_law(around: str = "score") -> Estimate:
    coupling, _, end = _swirled(0.5, around)
    true = coupling.law(0.0).cov
    return Estimate(((end @ end.T - true).norm() / true.norm()).item(), 1e-10, "8th-order steps")


@claim(
    "flow_matching.field.unique",
    statement="The field that generates the path p_t is unique: relative distance of the end maps of the marginal "
    "field and of the same plus J grad log p, which has the same p_t (repair: ask for a gradient field: no swirl).",
    source="lipman2022flow, theorem 3, as usually quoted",
    accepted=near(0.0, 1e-8),
    control={"swirl": 0.0},
    expected=FAILS,
    finding="Theorem 3 is about the flow map: a path p_t has many fields, as many as there are fields w with "
    "div(p_t w) = 0, and their flow maps differ.",
)
def unique_field(swirl: float = 0.5) -> Estimate:
    _, map_, other = _swirled(swirl, "score")
    return Estimate(((other - map_).norm() / map_.norm()).item(), 1e-10, "8th-order steps")

"""flow_lines against the reference flows and its own velocities; straightness and turning against known curves."""

import math

import pytest
import torch

from theory.flows import (
    Curves,
    Points,
    even_panels,
    flow_jacobians,
    flow_lines,
    follow,
    gauss_panels,
    integrate,
    lambda_panels,
    line_flow,
    time_panels,
)
from theory.process import PROCESSES, LinearPath, TrigonometricPath
from theory.reference import gaussian_flow, ode_flow, quantile_flow
from toy_distributions import LAWS, GaussianMixture

CIRCLE = TrigonometricPath()  # alpha^2 + sigma^2 = 1: its x is the coordinate z


def line(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("rule", [even_panels(0, 3, 5), gauss_panels([0, 0.1, 1, 3]), gauss_panels([0.0, 3.0], 16)])
def test_rules_integrate_polynomials_and_smooth_functions(rule):
    assert rule.nodes[0] == 0 and rule.nodes[-1] == 3
    assert abs(rule.weights @ rule.nodes**15 - 3**16 / 16) < 1e-12 * 3**16
    assert abs(rule.weights @ torch.exp(-rule.nodes) - (1 - math.exp(-3))) < 1e-11


def test_falling_rules_carry_the_sign():
    for rule in (even_panels(1.0, 0.0, 4), time_panels()):
        assert bool((rule.nodes.diff() < 0).all())
        assert abs(rule.weights @ rule.nodes**2 + 1 / 3) < 1e-14


def test_integrate_is_of_the_eighth_order():
    errors = []
    for panels in (2, 4):
        run = integrate(lambda t, y: torch.stack([y[1], -y[0]]), line(0.0, 1.0), torch.linspace(0, 3, panels * 4 + 1))
        errors.append((run.states[-1] - line(math.sin(3.0), math.cos(3.0))).abs().max().item())
    assert errors[1] < 1e-9 and 180 < errors[0] / errors[1] < 800  # 2^8 = 256; the next order would show as 512 at most


def test_straightness_turning_and_energy_of_known_curves():
    """A parabola x = s^2: S = 1/3. A quarter circle at unit angular speed: it turns by pi/2, S = (pi/2)^2 - 2."""
    rule = even_panels(0.0, 2.0, 20)
    s = 0.5 * rule.nodes
    parabola = Curves(rule.nodes, rule.weights, (s**2)[:, None, None], s[:, None, None])
    assert abs(parabola.straightness - 1 / 3) < 1e-13 and abs(parabola.energy - 4 / 3) < 1e-13
    angle = 0.5 * math.pi * s
    x = torch.stack([angle.cos(), angle.sin()], -1)[:, None]
    velocity = 0.25 * math.pi * torch.stack([-angle.sin(), angle.cos()], -1)[:, None]
    arc = Curves(rule.nodes, rule.weights, x, velocity)
    assert abs(arc.turning - math.pi / 2) < 1e-3 and arc.turning < math.pi / 2 + 1e-12
    assert abs(arc.straightness - (math.pi**2 / 4 - 2)) < 1e-12
    still = Curves(rule.nodes, rule.weights, torch.ones_like(x), 1e-16 * torch.randn_like(x))
    assert still.turning == 0


@pytest.mark.parametrize("name", ["gaussian_1d", "mixture_1d", "gaussian_2d", "mixture_2d", "two_points", "circle"])
def test_flow_lines_end_where_the_reference_flow_ends(name):
    law = LAWS[name]()
    first, last = CIRCLE.level_at(-3.0), CIRCLE.level_at(3.0)
    z = law.noised(first.alpha, first.sigma).sample(2, generator=torch.Generator().manual_seed(0))
    lines = flow_lines(law, z, even_panels(-3.0, 3.0, 16))
    expected = ode_flow(law, z, first, last, rtol=1e-12)
    assert (lines.z[-1] - expected).abs().max() < 1e-8
    if isinstance(law, GaussianMixture) and law.components == 1:
        assert (lines.z[-1] - gaussian_flow(law, z, first, last)).abs().max() < 1e-10
    if law.dim == 1 and not law.singular:
        assert (lines.z[-1] - quantile_flow(law, z, first, last)).abs().max() < 1e-8
    wrong = flow_lines(LAWS["dirac" if law.dim == 2 else "box_1d"](), z, even_panels(-3.0, 3.0, 16))
    assert (wrong.z[-1] - expected).abs().max() > 1e-2


@pytest.mark.parametrize("process", PROCESSES.names())
def test_along_any_process_the_velocities_are_the_derivative_of_the_states(process):
    """int |x'|^2 = S + |chord|^2 only if x' integrates to the chord, and the times are the process's own."""
    law, made = LAWS["mixture_2d"](), PROCESSES[process]()
    rule = even_panels(-3.8, 4.5, 16)
    z = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    curves = flow_lines(law, z, rule).along(made)
    assert torch.allclose(curves.clock, made.time_at(rule.nodes))
    carried = torch.einsum("t,tnd->nd", curves.weights, curves.velocity)
    size = curves.x.abs().max()
    assert (carried - curves.chord).abs().max() < 1e-8 * size
    balance = curves.energy - curves.straightness - (curves.chord**2).sum(-1)
    assert balance.abs().max() < 1e-8 * size**2


def test_scaled_lines_are_those_of_the_edm_process():
    law, z = LAWS["mixture_2d"](), torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    lines = flow_lines(law, z, even_panels(-3.8, 4.5, 16))
    ours, edm = lines.scaled(), lines.along(PROCESSES["edm"]())
    assert torch.allclose(ours.x, edm.x) and torch.allclose(ours.clock, edm.clock)
    assert torch.allclose(ours.straightness, edm.straightness, rtol=1e-9)


def test_whole_lines_of_a_gaussian_have_the_closed_form():
    law = GaussianMixture.gaussian(0.7, 0.25)
    points, lines = line_flow(law, n=101)
    s = points.expect(lines.along(LinearPath(), whole=True).straightness)
    assert abs(s.value - 0.5 * (2 - math.pi / 2)) < 1e-11
    cut = points.expect(lines.along(LinearPath()).straightness)  # without the ends it is a little off
    assert 1e-9 < abs(cut.value - s.value) < 1e-5


def test_line_flow_ends_at_the_quantiles():
    law = LAWS["mixture_1d"]()
    points, lines = line_flow(law)
    ranks = torch.special.ndtr(points.x)
    inner = (ranks > 1e-6) & (ranks < 1 - 1e-6)
    assert (lines.z[-1][inner] - law.quantile(ranks[inner])).abs().max() < 1e-6


def test_jacobians_are_finite_differences_of_the_map():
    law, rule = LAWS["mixture_2d"](), lambda_panels(order=3)
    z = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    end, jacobians = flow_jacobians(law, z, rule)
    assert torch.equal(end, flow_lines(law, z, rule).z[-1]) or torch.allclose(end, flow_lines(law, z, rule).z[-1])
    h = 1e-5
    for j in range(2):
        step = h * torch.eye(2, dtype=torch.float64)[j]
        ahead, behind = (flow_lines(law, z + sign * step, rule).z[-1] for sign in (1, -1))
        assert ((ahead - behind) / (2 * h) - jacobians[..., j]).abs().max() < 1e-6 * jacobians.abs().max()


def test_points_give_expectations_with_an_honest_error():
    law = LAWS["mixture_1d"]()
    second = law.cov.item() + law.mean.item() ** 2
    by_rank = Points.of_ranks(law)
    estimate = by_rank.expect(by_rank.x[:, 0] ** 2)
    assert abs(estimate.value - second) <= estimate.error + 1e-11 and estimate.error < 1e-6
    plane = LAWS["mixture_2d"]()
    grid = Points.of_grid(plane.noised(1.0, 1.0), 41, reach=6.5)
    estimate = grid.expect((grid.x**2).sum(-1))
    assert abs(estimate.value - (plane.cov.trace() + (plane.mean**2).sum() + 2).item()) < estimate.error + 1e-6
    sample = Points.of_sample(law, 4000, seed=0)
    estimate = sample.expect(sample.x[:, 0] ** 2)
    assert abs(estimate.value - second) < estimate.error < 0.1
    for wrong in (lambda: Points.of_grid(law), lambda: Points.of_grid(plane, 40)):
        with pytest.raises(ValueError, match="odd n"):
            wrong()


def test_follow_solves_its_equation():
    curves = follow(lambda x, t: -x + t, torch.tensor([[2.0]], dtype=torch.float64), even_panels(0.0, 2.0, 4))
    exact = lambda t: t - 1 + 3 * torch.exp(-t)
    assert (curves.x[:, 0, 0] - exact(curves.clock)).abs().max() < 1e-12
    assert (curves.velocity[:, 0, 0] - (curves.clock - curves.x[:, 0, 0])).abs().max() < 1e-14

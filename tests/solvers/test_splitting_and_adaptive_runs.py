"""Guided sampling in turns has the order it says; adaptive runs keep their tolerance at the cost theory predicts."""

import math

import pytest
import torch

from theory import Exact, VPLinear, solve, uniform_lambda, uniform_time
from theory.adaptive import solve_adaptive
from theory.reference import flow
from theory.slope import observed_order
from theory.solvers import DDIM, DPM2, DPM3, DPM12, DPM23, AdamsBashforth, Heun, QuasiTaylor, RungeKutta, Split
from theory.solvers.tableau import MIDPOINT
from toy_distributions import LAWS, GaussianMixture, Labelled

PROCESS = VPLinear()
TARGET = GaussianMixture.gaussian(1.2, 0.04)
JOINT = Labelled([0.8, 0.2], [GaussianMixture([0.4, 0.6], [[-1.0], [0.4]], [0.05, 0.1]), TARGET])
MIXTURE = LAWS["mixture_1d"]()


def towards_the_target(x, at):
    """Guidance of scale one: the flow is then the one of the target's own law, which is known."""
    return -at.sigma * JOINT.class_score(x, at.alpha, at.sigma)[..., 1, :]


def guided_order(steps=(30, 50, 80, 120, 180), **how):
    x, errors, h = torch.linspace(-2, 2, 5, dtype=torch.float64).unsqueeze(-1), [], []
    exact = flow(TARGET, x, PROCESS.level_at(-0.5), PROCESS.level_at(2.5))
    for n in steps:
        grid = uniform_lambda(PROCESS, n, start=-0.5, end=2.5)
        end = solve(Split(towards_the_target, **how), Exact(JOINT.marginal, PROCESS), x, grid, keep=False).end
        errors.append((end - exact).abs().max().item())
        h.append(grid.h_max)
    return observed_order(h, errors, floor=1e-12)


MIDPOINT_STEPS = {"substeps": "midpoint"}


@pytest.mark.parametrize(
    "how",
    [
        {"scheme": "lie", "inner": Heun("k")},
        {"inner": Heun("k")},
        {"inner": DDIM(), **MIDPOINT_STEPS},
        {"inner": Heun("k"), **MIDPOINT_STEPS},
        {"inner": RungeKutta(MIDPOINT), **MIDPOINT_STEPS},
        {"inner": AdamsBashforth(2), **MIDPOINT_STEPS},
        {"inner": AdamsBashforth(4, constant=True), **MIDPOINT_STEPS},
    ],
    ids=str,
)
def test_splitting_has_its_order(how):
    declared = Split(towards_the_target, **how).facts.order
    order = guided_order(**how)
    assert abs(order.value - declared) < 0.1 and order.error < 0.1, order


def test_guidance_taken_twice_does_not_converge():
    assert guided_order(full=True).value < 0.1


@pytest.mark.parametrize("degree", [1, pytest.param(2, marks=pytest.mark.slow), 3])
def test_quasi_taylor_has_its_degree_on_a_point_and_order_one_elsewhere(degree):
    for law, expected in ((GaussianMixture.dirac(0.3), degree), (MIXTURE, 1)):
        x, errors, counts = torch.tensor([[1.3]], dtype=torch.float64), [], (60, 100, 160, 260, 420)
        exact = flow(law, x, PROCESS.level(1.0), PROCESS.level(0.2))
        for n in counts:
            grid = uniform_time(PROCESS, n, start=1.0, end=0.2)
            end = solve(QuasiTaylor(degree), Exact(law, PROCESS), x, grid, keep=False).end
            errors.append((end - exact).abs().max().item())
        order = observed_order([1 / n for n in counts], errors, floor=1e-15)
        assert abs(order.value - expected) < 0.1, (law, order)


X = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(-1)


def adaptive(pair, tolerance, x=X):
    return solve_adaptive(pair, Exact(MIXTURE, PROCESS), x, start=-3.0, end=2.0, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("pair", "plain"), [(DPM12(), DPM2()), (DPM23(), DPM3())], ids=["12", "23"])
def test_a_pair_is_its_higher_method_and_its_error_is_that_to_the_lower(pair, plain):
    grid = uniform_lambda(PROCESS, 7)
    assert (
        solve(pair, Exact(MIXTURE, PROCESS), X, grid).end - solve(plain, Exact(MIXTURE, PROCESS), X, grid).end
    ).abs().max() < 1e-14
    lower = {2: DDIM(), 3: DPM2(r1=1 / 3)}[pair.facts.order]
    model, (s, t) = Exact(MIXTURE, PROCESS), grid.levels[2:4]
    found = pair.step(model, X, s, t, None, None)
    assert (found.x - found.error - lower.step(model, X, s, t, None, None).x).abs().max() < 1e-14


@pytest.mark.parametrize("pair", [DPM12(), DPM23()], ids=["12", "23"])
def test_an_adaptive_run_errs_in_proportion_to_its_tolerance_at_the_predicted_cost(pair):
    exact = flow(MIXTURE, X, PROCESS.level_at(-3.0), PROCESS.level_at(2.0))
    tolerances = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
    runs = [adaptive(pair, tolerance) for tolerance in tolerances]
    for tolerance, run in zip(tolerances, runs, strict=True):
        found = run.trajectory
        assert (found.end - exact).abs().max() < 20 * tolerance
        assert found.evaluations == pair.facts.evaluations * (found.grid.steps + run.rejected)
        assert len(found.states) == found.grid.steps + 1 and found.grid.times[-1] == PROCESS.time_at(2.0)
    slope = math.log(runs[-1].trajectory.grid.steps / runs[1].trajectory.grid.steps) / math.log(1e-3)
    assert abs(slope + 1 / pair.facts.order) < 0.1 / pair.facts.order  # steps ~ tolerance^(-1/p)


def test_a_loose_step_size_control_is_caught():
    """Without the rejections the error is no longer in proportion: the check above can fail."""
    exact = flow(MIXTURE, X, PROCESS.level_at(-3.0), PROCESS.level_at(2.0))
    assert (adaptive(DPM12(), 0.3).trajectory.end - exact).abs().max() > 20 * 1e-4


def test_a_sample_depends_on_its_batch_in_an_adaptive_run():
    alone = adaptive(DPM23(), 1e-2, X[:1]).trajectory.end
    assert (alone - adaptive(DPM23(), 1e-2).trajectory.end[:1]).abs().max() > 1e-6


def test_bad_input_is_refused():
    model = Exact(MIXTURE, PROCESS)
    with pytest.raises(ValueError, match="needs a solver with an error estimate"):
        solve_adaptive(DPM2(), model, X, start=-3.0, end=2.0)
    with pytest.raises(ValueError, match="start must be < end"):
        solve_adaptive(DPM12(), model, X, start=2.0, end=-3.0)
    with pytest.raises(ValueError, match="most must allow"):
        solve_adaptive(DPM12(), model, X, start=-3.0, end=2.0, rtol=1e-9, atol=1e-9, most=10)
    with pytest.raises(ValueError, match="scheme must be one of"):
        Split(towards_the_target, scheme="trotter")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="degree must be 1, 2 or 3"):
        QuasiTaylor(4)

"""Evaluations counted, runs resumable, rows independent, dtypes kept, bad input refused in one sentence."""

import pytest
import torch

from theory import (
    SOLVERS,
    VE,
    Counted,
    Exact,
    Independent,
    Kind,
    Model,
    PerRow,
    Perturbed,
    Prediction,
    TimeGrid,
    VPLinear,
    solve,
    uniform_lambda,
)
from theory.noise import no_noise
from theory.solvers import DDIM, DDPM, DPM2, Churn, Heun

from .problems import PLANE

PROCESS = VPLinear()
GRID = uniform_lambda(PROCESS, 8, start=-2, end=2)
MODEL = Exact(PLANE, PROCESS)


def starts(n=6, seed=0):
    first = GRID.levels[0]
    return PLANE.noised(first.alpha, first.sigma).sample(n, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SOLVERS)
def test_evaluations_are_what_the_solver_declares(name):
    solver = SOLVERS[name]()
    run = solve(solver, MODEL, starts(), GRID, noise=Independent(0))
    assert run.evaluations == solver.facts.cost(GRID.steps)
    assert len(run.states) == GRID.steps + 1
    denoised = solve(solver, MODEL, starts(), GRID, noise=Independent(0), last="denoise", keep=False)
    assert denoised.evaluations == run.evaluations + 1 and len(denoised.states) == 1
    torch.testing.assert_close(denoised.end, MODEL(run.end, GRID.levels[-1]).x0)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_asks_for_noise_exactly_if_it_says_it_is_stochastic(name):
    solver = SOLVERS[name]()
    if solver.facts.stochastic:
        with pytest.raises(ValueError, match=r"this solver draws noise"):
            solve(solver, MODEL, starts(), GRID, noise=no_noise)
    else:
        solve(solver, MODEL, starts(), GRID, noise=no_noise)


@pytest.mark.parametrize("name", SOLVERS)
def test_steps_are_pure_and_runs_can_be_cut_and_resumed(name):
    solver, x, memory = SOLVERS[name](), starts(), None
    whole = solve(solver, MODEL, x, GRID, noise=PerRow(range(6))).end
    noise, kept = PerRow(range(6)), x.clone()
    for s, t in zip(GRID.levels, GRID.levels[1:], strict=False):
        before = x.clone()
        x_next, memory, _ = solver.step(MODEL, x, s, t, memory, noise)
        assert torch.equal(x, before), "a step must not change its input"
        x = x_next
    assert torch.equal(x, whole) and torch.equal(kept, starts())


@pytest.mark.parametrize("name", SOLVERS)
def test_a_row_does_not_depend_on_its_batch(name):
    solver, x = SOLVERS[name](), starts()
    together = solve(solver, MODEL, x, GRID, noise=PerRow(range(6))).end
    alone = solve(solver, MODEL, x[3:4], GRID, noise=PerRow([3])).end
    torch.testing.assert_close(together[3:4], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_float32_agrees_within_its_own_rounding(name):
    solver = SOLVERS[name]()
    double = solve(solver, MODEL, starts(), GRID, noise=PerRow(range(6))).end
    single_model = Exact(PLANE.to(torch.float32), PROCESS)
    single = solve(solver, single_model, starts().float(), GRID, noise=PerRow(range(6))).end
    assert single.dtype == torch.float32
    # a step adds a few roundings of the state; the exact flow amplifies them by less than 30 on this problem
    evaluations = solver.facts.cost(GRID.steps)
    assert (single - double).abs().max() < 30 * 2**-23 * evaluations * (1 + starts().abs().max())


def test_any_leading_shape_is_a_batch():
    x = starts(6)
    flat, shaped = solve(DDIM(), MODEL, x, GRID).end, solve(DDIM(), MODEL, x.reshape(2, 3, 2), GRID).end
    assert torch.equal(flat.reshape(2, 3, 2), shaped)


def test_a_perturbed_model_is_off_by_exactly_its_size():
    x, at = starts(), GRID.levels[3]
    gap = Perturbed(MODEL, 0.1)(x, at).eps - MODEL(x, at).eps
    torch.testing.assert_close(gap.norm(dim=-1), torch.full((6,), 0.1, dtype=torch.float64))
    counted = Counted(MODEL)
    counted(x, at)
    assert counted.evaluations == 1


def test_churn_never_leaves_the_process():
    grid = TimeGrid(PROCESS, [PROCESS.t_max, 0.5])
    solve(Churn(Heun(), rate=5.0), MODEL, starts(), grid, noise=Independent(0))


def test_bad_runs_are_refused_in_one_sentence():
    x = starts()
    with pytest.raises(ValueError, match=r"model and grid must share one process"):
        solve(DDIM(), Exact(PLANE, VE()), x, GRID)
    with pytest.raises(ValueError, match=r"last must be 'stop' or 'denoise'; got 'zero'"):
        solve(DDIM(), MODEL, x, GRID, last="zero")
    with pytest.raises(ValueError, match=r"x must be finite"):
        solve(DDIM(), MODEL, torch.full_like(x, float("nan")), GRID)
    with pytest.raises(ValueError, match=r"floating-point tensor of states; got torch.int64"):
        solve(DDIM(), MODEL, torch.ones(1, 2, dtype=torch.int64), GRID)
    with pytest.raises(ValueError, match=r"x must have shape \(\.\.\., 2\)"):
        solve(DDIM(), MODEL, torch.ones(3, 1, dtype=torch.float64), GRID)
    for wrong in (
        lambda: DDIM(eta=1.5),
        lambda: DPM2(r1=0.0),
        lambda: DDPM("huge"),
        lambda: Heun("s"),
        lambda: Churn(rate=0),
    ):
        with pytest.raises(ValueError, match=r"must .*; got"):
            wrong()
    with pytest.raises(ValueError, match=r"no solver named 'dpmpp.2m'; did you mean 'dpm_pp.2m'\?"):
        SOLVERS["dpmpp.2m"]


class Diverging(Model):
    """Stands for a network that overflows after a few calls."""

    process, calls = PROCESS, 0

    def __call__(self, x, at):
        self.calls += 1
        return Prediction(Kind.X0, x * (float("inf") if self.calls == 4 else 1.0), x, at)


def test_a_run_that_leaves_the_finite_numbers_says_where():
    with pytest.raises(ValueError, match=r"the run must stay finite; DDIM.* left the finite numbers at step 4 of 8"):
        solve(DDIM(), Diverging(), starts(), GRID)

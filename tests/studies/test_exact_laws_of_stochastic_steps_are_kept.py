"""Langevin moves and restarts are held to their exact laws on a Gaussian: right ones keep them, wrong ones do not."""

from dataclasses import dataclass, field, replace

import pytest

from studies.certificate import WIDE
from studies.certificate.in_law import affine_step
from studies.mutants import MUTANTS
from studies.testing import check_solver
from theory import VPLinear, law_of, uniform_lambda
from theory.solvers import DDPM, AnnealedLangevin, Churn, EulerMaruyama, PredictorCorrector, Restart, Solver, Step

RIGHT = [
    AnnealedLangevin(),
    AnnealedLangevin(moves=3, step_size=1e-4),
    AnnealedLangevin(moves=1, step_size=1.5),
    PredictorCorrector(),
    PredictorCorrector(predictor=EulerMaruyama(), moves=2, snr=0.05),
    Restart(),
    Churn(),
]
WRONG = [
    name for name in MUTANTS
    if name.startswith(("langevin", "predictor_corrector", "edm.churn", "restart")) and "repeat too few" not in name
]  # fmt: skip


@pytest.mark.parametrize("process", ["vp_linear", "ve"])
@pytest.mark.parametrize("solver", RIGHT, ids=repr)
def test_right_solvers_keep_their_laws(solver, process):
    rows = check_solver(solver, sections=("exact law",), process=process)
    assert rows and all(row.verdict == "HOLDS" for row in rows)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_ones_do_not(name):
    with pytest.raises(AssertionError, match=r"of its moves are others|left behind|change where the flow is exact"):
        check_solver(MUTANTS[name].wrong(), sections=("exact law",))


def test_what_declares_no_such_law_has_no_row():
    assert check_solver(DDPM(), sections=("exact law",)) == []
    assert check_solver(Restart(noise_scale=1.1), sections=("exact law",)) == []  # it says that it keeps none
    assert not Churn(noise_scale=1.1).facts.keeps_law


def test_a_long_run_at_one_level_has_the_stationary_law():
    """By the other route: the law of a run of 400 moves from a start far from it, over a vanishing step of levels."""
    solver, process = AnnealedLangevin(moves=400, step_size=0.6), VPLinear()
    grid = uniform_lambda(process, 1, start=0.5, end=0.5 + 1e-9)
    at = grid.levels[-1]
    total = float(at.alpha) ** 2 * 4.0 + float(at.sigma) ** 2
    a = 0.6 * float(at.sigma) ** 2
    found = law_of(solver, WIDE, process, grid)
    assert float(found.cov) == pytest.approx(total / (1 - a / (4 * total)), rel=1e-9)
    assert abs(float(found.cov) / total - 1) > 1e-3  # which is not the law of the data: the bias of the step
    _, gain, fresh = affine_step(replace(solver, moves=1), process, at, at)
    assert (gain, float(fresh[0])) == (pytest.approx(1 - a / (2 * total)), pytest.approx(a**0.5))


@dataclass(frozen=True)
class Hurries(Solver):
    """Annealed Langevin with a step too large by 1e-9 of it."""

    inner: AnnealedLangevin = field(default_factory=AnnealedLangevin)

    @property
    def facts(self):
        return self.inner.facts

    def step(self, model, x, s, t, memory, noise) -> Step:
        hurried = replace(self.inner, step_size=self.inner.step_size * (1 + 1e-9))
        return hurried.step(model, x, s, t, memory, noise)


def test_a_small_error_is_seen_and_a_law_that_cannot_be_asked_is_open():
    with pytest.raises(AssertionError, match="gain and the variance of its moves"):
        check_solver(Hurries(), sections=("exact law",))

    @dataclass(frozen=True)
    class Closed(Solver):
        @property
        def facts(self):
            return Restart().facts

        def step(self, model, x, s, t, memory, noise) -> Step:
            return Restart().step(model, x, s, t, memory, noise)

    (row,) = check_solver(Closed(), sections=("exact law",))
    assert row.verdict == "OPEN" and "no solver in a field inner" in row.reason

"""A wrong two-step method is caught on unequal steps and passes on equal ones; mutants fail, the right ones do not."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from studies.certificate import LAWS as CERTIFIED
from studies.certificate import SECTIONS, order_on, rows, unequal
from studies.certify import certify, settings
from studies.target import FunctionTarget, load
from studies.testing import check_solver
from theory import Exact, VPLinear, solve, uniform_lambda
from theory.solvers import DDIM, DPM2, AdamsBashforth, DPMpp2M, DPMpp2S, DPMpp3M, DPMpp3S, Facts, Heun, Solver, Step

FILE = """
import torch

def two_step(denoiser, x, sigmas, power=1):
    old = None
    for i in range(len(sigmas) - 1):
        s, t = sigmas[i], sigmas[i + 1]
        d = denoiser(x, s * x.new_ones(len(x)))
        h = (s / t).log()
        slope = 0 if old is None else (d - old) / (2 * ((sigmas[i - 1] / s).log() / h) ** power)
        x, old = t / s * x - torch.expm1(-h) * (d + slope), d
    return x

def wrong(denoiser, x, sigmas):
    return two_step(denoiser, x, sigmas, power=-1)

def writes(denoiser, x, sigmas):
    return x.mul_(0.5)

def shape(denoiser, x, sigmas):
    return x[:1]

def sleeps(denoiser, x, sigmas):
    import time
    time.sleep(60)

def dies(denoiser, x, sigmas):
    import os
    os._exit(3)
"""
QUICK = ("reproducible", "batches", "evaluations", "ratios", "float32")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "newcomer.py"
    path.write_text(FILE)
    return path


def test_an_inverted_ratio_is_caught_on_unequal_steps_only(file):
    right, wrong = (load(f"{file}:{name}", {"order": 2}) for name in ("two_step", "wrong"))
    check_solver(right, sections=QUICK)
    with pytest.raises(AssertionError, match="the ratio of the steps"):
        check_solver(wrong, sections=QUICK)
    for grid in (wrong.grid, unequal):  # what is wrong in each step telescopes in the sum
        order = order_on(wrong, CERTIFIED["mixture"], grid, VPLinear(), (40, 80, 160, 320, 640))
        assert abs(order.value - 2) < 0.1 and order.error < 0.1


def test_bad_targets_are_said_in_one_sentence(file):
    for text in ("no_such_solver", f"{file}:absent", f"{file}x:wrong"):
        with pytest.raises((ValueError, KeyError)):
            load(text)
    with pytest.raises(ValueError, match="facts"):
        load(f"{file}:wrong", {"colour": 1})
    with pytest.raises(AssertionError, match="writes into its input"):
        check_solver(load(f"{file}:writes"), sections=("reproducible",))
    with pytest.raises(ValueError, match="must return a tensor like x"):
        check_solver(load(f"{file}:shape"), sections=("reproducible",))
    assert settings(("order=2", "a=b")) == {"order": 2, "a": "b"}


@pytest.mark.parametrize(
    ("function", "why"),
    [(lambda denoiser, x, sigmas: x * math.nan, "finite"), (lambda denoiser, x, sigmas: x[:1], "like x")],
    ids=["NaN", "shape"],
)
def test_a_sampler_that_does_not_run_fails_and_its_rows_are_missing(function, why):
    first, *rest = rows(FunctionTarget("mine", function), VPLinear())
    assert (first.fact, first.verdict) == ("runs", "FAILS") and why in first.reason
    assert [row.fact for row in rest] == list(SECTIONS)
    assert all(row.reason.startswith("missing") for row in rest)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "why"), [("sleeps", "took more than"), ("dies", "status 3")])
def test_a_target_that_does_not_come_back_is_said(file, name, why):
    rows = list(certify(f"{file}:{name}", seconds=15))
    assert rows[-1].verdict == "OPEN" and why in rows[-1].reason


@dataclass(frozen=True)
class Broken(Solver):
    """Another solver with one thing wrong in each step."""

    inner: Solver
    how: str

    @property
    def facts(self) -> Facts:
        return self.inner.facts

    def step(self, model, x, s, t, memory, noise) -> Step:
        how = self.how
        if how == "forgets":
            return self.inner.step(model, x, s, t, None, noise)
        if how == "asks twice":
            model(x, s)
        if how == "mean of the batch":
            x = x + 1e-6 * (x - x.mean(0))
        if how == "writes":
            x.mul_(1.0000001)
        if how == "random":
            x = x + 1e-9 * torch.rand_like(x)
        found = self.inner.step(model, x, s, t, memory, noise)
        if how == "scale":
            found = found._replace(x=found.x * (1 + 0.01 * (t.lam - s.lam)))
        if how == "double":
            found = found._replace(x=found.x.double())
        if how == "stale" and memory is not None:
            found = found._replace(memory=memory)
        return found


ONE_STEP = (DDIM(), Heun("k"), DPM2(), DPMpp2S(), DPMpp3S())
MULTISTEP = (DPMpp2M(), DPMpp3M(), AdamsBashforth(2))
ANY = ("asks twice", "mean of the batch", "writes", "random", "double", "scale")
MUTANTS = [Broken(inner, how) for inner in (*ONE_STEP, *MULTISTEP) for how in ANY]
MUTANTS += [Broken(inner, how) for inner in MULTISTEP for how in ("forgets", "stale")]


def test_every_kind_of_breaking_meets_every_solver_it_can_break():
    """What each does is seen on the solver itself, so none of the mutants is the solver over again."""
    grid = uniform_lambda(VPLinear(), 6)
    x = torch.tensor([[0.4], [-1.1], [0.9]], dtype=torch.float64)
    model = Exact(CERTIFIED["mixture"], grid.process)
    for mutant in MUTANTS:
        start = x.float() if mutant.how == "double" else x.clone()
        found, right = (solve(each, model, start.clone(), grid) for each in (mutant, mutant.inner))
        same = torch.equal(found.end, right.end) and found.end.dtype == right.end.dtype
        assert not same or found.evaluations != right.evaluations or mutant.how == "double", repr(mutant)
    assert {m.how for m in MUTANTS} == {*ANY, "forgets", "stale"}


@pytest.mark.parametrize("solver", (*ONE_STEP, *MULTISTEP), ids=repr)
def test_right_solvers_pass(solver):
    check_solver(solver, sections=QUICK)


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.how in ANY[:5]], ids=repr)
def test_impure_mutants_are_killed(mutant):
    with pytest.raises(AssertionError):
        check_solver(mutant, sections=("reproducible", "batches", "evaluations", "float32"))


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.how not in ANY[:5]], ids=repr)
def test_mutants_of_the_formula_are_killed(mutant):
    with pytest.raises(AssertionError):
        check_solver(mutant, sections=("ratios", "orders"))


@pytest.mark.slow
def test_a_function_may_promise_more_than_it_keeps():
    def euler(denoiser, x, sigmas):
        for s, t in pairwise(sigmas):
            x = x + (t - s) * (x - denoiser(x, s)) / s
        return x

    check_solver(euler, facts=Facts(order=1, evaluations=1), sections=("evaluations", "orders"))
    with pytest.raises(AssertionError, match="more slowly"):
        check_solver(FunctionTarget("euler", euler, Facts(order=2, evaluations=1)), sections=("orders",))

"""A wrong expression makes another map, in each family of solvers; the certificate rejects it and keeps the right."""

import pytest
import torch

from studies.mutants import MUTANTS, Mutant
from studies.sweeps.certificate_mutants import ORIGINALS, failing
from theory import SOLVERS, Exact, Independent, VPLinear, solve, uniform_lambda
from toy_distributions import GaussianMixture

LAW = GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [0.6, -0.4]], [[0.3, 0.08], [0.05, 0.2]])
X = torch.tensor([[0.4, -1.3], [1.1, 0.2]], dtype=torch.float64)
UNTOUCHED = {"ipndm"}
"""Its weights are those of equal steps, so on unequal ones the certificate rejects the method itself."""
QUICK = (
    "dpm_pp.2m: inverted ratio",
    "dpm_pp.3m: half the second derivative",
    "euler.k: alpha of the wrong end",
    "deis.rho_ab4: oldest node forgotten",
)


def _end(solver):
    grid = uniform_lambda(VPLinear(), 6, start=-1.0, end=2.0)
    grid = type(grid)(grid.process, [*grid.times[:3], *grid.times[4:]])  # one step is twice as long
    return solve(solver, Exact(LAW, grid.process), X, grid, noise=Independent(0)).end


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_mutant_is_another_map_with_the_same_facts(mutant):
    right, wrong = mutant.right(), mutant.wrong()
    assert wrong.facts == right.facts
    assert (_end(wrong) - _end(right)).abs().max() > 1e-6


def test_an_expression_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"must stand 1 times in ddim\.py"):
        Mutant("ddim: nothing", "ddim", "DDIM", "no such expression", "").wrong()
    same = Mutant("ddim: no change", "ddim", "DDIM", "t.sigma / s.sigma", "t.sigma / s.sigma")
    assert torch.equal(_end(same.wrong()), _end(same.right()))  # the copy itself changes nothing


def test_every_family_of_solvers_is_mutated():
    families = {name.split(".")[0] for name in SOLVERS.names()}
    mutated = {name.split(".")[0].split(" ")[0] for name in ORIGINALS}
    assert families - mutated <= UNTOUCHED and mutated <= families
    assert len(MUTANTS) >= 40 and len({(m.file, m.old, m.new) for m in MUTANTS.values()}) == len(MUTANTS)


@pytest.mark.parametrize("name", QUICK)
def test_cheap_rows_kill_some(name):
    assert failing(MUTANTS[name].wrong(), orders=False)
    assert not failing(MUTANTS[name].right(), orders=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_the_certificate_kills_every_mutant(name):
    assert failing(MUTANTS[name].wrong())


@pytest.mark.slow
@pytest.mark.parametrize("name", ORIGINALS)
def test_no_right_solver_is_rejected(name):
    assert not failing(ORIGINALS[name].right())

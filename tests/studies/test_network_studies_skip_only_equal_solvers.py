"""Solvers that the study of networks runs on coarse grids only are the maps of others that it runs on fine ones."""

import pytest
import torch

from studies.sweeps.network_orders import DETERMINISTIC, TWINS, _grid
from theory import SOLVERS, Exact, solve
from toy_distributions import LAWS


def gap(one, other):
    grid = _grid("shipped", 7)
    x = grid.levels[0].sigma * torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = Exact(LAWS["mixture_2d"](), grid.process)
    return (solve(SOLVERS[one](), model, x, grid).end - solve(SOLVERS[other](), model, x, grid).end).abs().max().item()


@pytest.mark.parametrize("twin", TWINS)
def test_twins_are_one_map(twin):
    assert gap(twin, TWINS[twin]) < 1e-11


@pytest.mark.parametrize("twin", TWINS)
def test_other_solvers_are_not(twin):
    others = [name for name in DETERMINISTIC if name != TWINS[twin] and TWINS.get(name) != TWINS[twin]]
    assert all(gap(twin, other) > 1e-6 for other in others)

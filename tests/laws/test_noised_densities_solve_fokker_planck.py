"""The noised density of every law solves the Fokker-Planck equation of every process: forward, reverse and ODE."""

import pytest
import torch

from tests.laws.checks import typical
from theory.fokker_planck import residual
from theory.process import PROCESSES
from toy_distributions import LAWS

LAMBDA = 0.7
KAPPAS = {"forward SDE": 1.0, "probability-flow ODE": 0.0, "reverse SDE": -1.0}


def found(name, process, kappa, **wrong):
    law, at = LAWS[name](), PROCESSES[process]()
    level = at.level_at(LAMBDA)
    x = typical(law, float(level.alpha), float(level.sigma), n=6)
    return residual(law, at, float(level.t), x, kappa=kappa, **wrong)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", LAWS)
def test_residuals_vanish(name, process):
    for kappa in KAPPAS.values():
        left = found(name, process, kappa)
        if name == "standard_normal" and left.error > 1:  # noise looks like data: every term of the ODE is zero
            assert kappa == 0 and process in ("vp_linear", "vp_cosine", "trigonometric_path")
            continue
        assert left.error < 1e-7 and left.value <= 2 * left.error + 1e-12, (kappa, left)


@pytest.mark.parametrize("name", LAWS)
def test_a_drift_one_per_mille_off_is_caught(name):
    process = sorted(PROCESSES)[torch.tensor(list(name.encode())).sum().item() % len(PROCESSES)]
    left = found(name, process, -1.0, drift_factor=1.001)
    assert left.value > 10 * left.error, left

"""scipy's methods reach the exact flow as their tolerance falls, at the calls that they count."""

import math

import pytest
import torch

from studies.adapters.scipy_ode import METHODS, Setting, trace
from theory import VE
from theory.reference import flow
from toy_distributions import GaussianMixture

LAW = GaussianMixture([0.3, 0.7], [[-1.0], [0.8]], [0.05, 0.1])
Y = torch.tensor([[0.4], [-1.3], [2.1]], dtype=torch.float64)
KS = (math.exp(0.5), 1.0, math.exp(-2.5))


class Denoiser:
    calls = 0

    def __call__(self, x, alpha, sigma):
        self.calls += 1
        return LAW.posterior_mean(x, alpha, sigma)


def _error(setting):
    denoiser = Denoiser()
    run = trace(setting, denoiser, Y, KS)
    assert run.evaluations == denoiser.calls
    process = VE()
    exact = flow(LAW, Y, process.level_at(-0.5), process.level_at(2.5))
    return float((run.end - exact).abs().max()), denoiser.calls


@pytest.mark.parametrize("name", METHODS)
def test_tighter_tolerances_are_nearer_the_flow_and_dearer(name):
    (loose, few), (tight, many) = (_error(Setting(name, 10.0**-n, 10.0 ** -(n + 2))) for n in (3, 7))
    assert tight < 1e-5 and tight < 0.02 * loose and many > 1.3 * few


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="name must be one of RK23, RK45, DOP853; got 'LSODA'"):
        Setting("LSODA")
    with pytest.raises(ValueError, match="rtol must be > 0"):
        Setting(rtol=0.0)
    with pytest.raises(ValueError, match="sigma = 0"):
        trace(Setting(), Denoiser(), Y, KS, through=True)

"""Likelihoods and flows in the process's own time agree with closed forms and with the flow in lambda."""

import math

import pytest
import torch

from theory.likelihood import flow_in_time, flow_with_divergence, ode_log_likelihood
from theory.models import Exact
from theory.process import PROCESSES, VPLinear
from theory.reference import ode_flow
from toy_distributions.mixture import GaussianMixture

TILTED = GaussianMixture.gaussian([0.7, -0.2], [[0.25, 0.1], [0.1, 0.5]])
PLANE = GaussianMixture([0.4, 0.6], [[1.0, 0.0], [-1.0, 0.5]], [[[0.2, 0.05], [0.05, 0.1]], [[0.1, 0.0], [0.0, 0.3]]])


@pytest.mark.parametrize("name", ["vp_linear", "linear_path", "edm"])
def test_expansion_of_a_gaussian_flow(name):
    """The flow of N(m, V) is linear with the factors sqrt(S_t / S_s) along the eigenvectors of V."""
    process = PROCESSES[name]()
    s, t = process.level_at(1.5), process.level_at(-1.0)
    x = TILTED.noised(float(s.alpha), float(s.sigma)).sample(1, generator=torch.Generator().manual_seed(0))
    variances = torch.linalg.eigvalsh(TILTED.cov)
    spreads = [float(at.alpha) ** 2 * variances + float(at.sigma) ** 2 for at in (s, t)]
    exact = 0.5 * (spreads[1] / spreads[0]).log().sum()
    assert (flow_with_divergence(Exact(TILTED, process), x, s, t).expansion - exact).abs().max() < 1e-10


def test_expansion_is_the_log_determinant_of_the_flow_in_lambda():
    """Jacobian by central differences of an ODE in another variable, on a law whose flow is not linear."""
    process = VPLinear()
    s, t = process.level_at(1.0), process.level_at(-0.5)
    x, h = torch.tensor([[0.1, 0.2]], dtype=torch.float64), 1e-4
    ends = ode_flow(PLANE, x + h * torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64), s, t)
    columns = [(ends[i] - ends[i + 1]) / (2 * h) for i in (0, 2)]
    exact = torch.linalg.slogdet(torch.stack(columns, -1)).logabsdet.item()
    end, expansion = flow_with_divergence(Exact(PLANE, process), x, s, t)
    assert abs(expansion.item() - exact) < 1e-7  # differences: h^2 = 1e-8, and the flow's 1e-13 over h
    assert (end - ode_flow(PLANE, x, s, t)).abs().max() < 1e-10
    assert (flow_in_time(Exact(PLANE, process), x, s, t) - end).abs().max() < 1e-10


def test_flow_there_and_back():
    process, model = VPLinear(), Exact(PLANE, VPLinear())
    s, t = process.level_at(-1.0), process.level_at(1.0)
    x = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    assert (flow_in_time(model, flow_in_time(model, x, s, t), t, s) - x).abs().max() < 1e-10


@pytest.mark.parametrize(("factor", "gap"), [(1.0, 0.0), (0.5, 0.1)])
def test_likelihood_of_a_mixture(factor, gap):
    process = VPLinear()
    s, t = process.level_at(1.5), process.level_at(-1.0)
    prior, clean = (PLANE.noised(float(at.alpha), float(at.sigma)) for at in (t, s))
    x = torch.tensor([[0.9, 0.1]], dtype=torch.float64)
    found = ode_log_likelihood(Exact(PLANE, process), x, s, t, prior, trace_factor=factor)
    error = (found - clean.log_prob(x)).abs().item()
    assert error < 1e-9 if gap == 0 else error > gap


def test_likelihood_reaches_data_without_noise():
    """On N(0, 1) the flow of VP stands still, so the density may be asked at a sigma of 1e-4."""
    process = VPLinear()
    s, t = process.level_at(math.log(1e4)), process.level_at(-2.0)
    law = GaussianMixture.gaussian(0.0, 1.0)
    x = torch.tensor([[0.7]], dtype=torch.float64)
    found = ode_log_likelihood(Exact(law, process), x, s, t, law.noised(float(t.alpha), float(t.sigma)))
    assert (found - law.log_prob(x)).abs().item() < 1e-9

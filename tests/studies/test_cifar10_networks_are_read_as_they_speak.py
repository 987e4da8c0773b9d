"""A network that says exactly what a Gaussian's denoiser would say is, as a model, that denoiser: in every dialect."""

import dataclasses
import json
import math

import pytest
import torch
from torch import nn

from studies.cifar10 import loading, validation
from studies.cifar10 import served as by_name
from studies.cifar10.conventions import Conventions, VPTable, of_training
from studies.cifar10.loading import CARD, WEIGHTS, load, save
from studies.cifar10.model import NetworkModel
from studies.cifar10.network import SIZES, UNet
from studies.cifar10.objective import PARAMETERISATIONS, PRECONDITIONING
from studies.sweeps.network_errors import network_errors
from theory import EDM, SOLVERS, Exact, LinearPath, VPLinear, solve, uniform_lambda
from theory.elbo import elbo
from theory.grid import TimeGrid
from theory.prediction import Kind, Prediction
from toy_distributions import GaussianMixture

VARIANCES = torch.linspace(0.05, 0.6, 3072, dtype=torch.float64)
LAW = GaussianMixture.gaussian(torch.full((3072,), 0.1, dtype=torch.float64), VARIANCES)
PROCESSES = [EDM(), VPLinear(), LinearPath()]


class Perfect(nn.Module):
    """What a network of this parameterisation would say of LAW if it were perfect; a label shifts the mean of x_0."""

    labels = 10

    def __init__(self, name: str):
        super().__init__()
        self.name, self.how = name, PARAMETERISATIONS[name]

    def forward(self, inner, noise, label=None):
        at = self.how.process.level_at(-4 * noise[0].item())
        x = inner.flatten(1) if self.how.kind else inner.flatten(1) / PRECONDITIONING.c_in(float(at.sigma))
        x0 = Exact(LAW, self.how.process)(x, at).x0
        if label is not None:
            x0 = x0 + 0.01 * (label - self.labels).unsqueeze(-1)
        if self.how.kind is None:
            k = float(at.sigma)
            said = (x0 - PRECONDITIONING.c_skip(k) * x) / PRECONDITIONING.c_out(k)
        else:
            said = getattr(Prediction(Kind.X0, x0, x, at), self.name)
        return said.view_as(inner)


def served(name: str, process, **how) -> NetworkModel:
    return NetworkModel(Perfect(name).eval(), of_training(name, 10), process, **how)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize("name", PARAMETERISATIONS)
@pytest.mark.parametrize("lam", [-3.0, 0.0, 4.0])
def test_every_dialect_on_every_process_is_the_exact_denoiser(name, process, lam):
    at = process.level_at(lam)
    x = LAW.noised(float(at.alpha), float(at.sigma)).sample(3, generator=torch.Generator().manual_seed(0))
    exact = Exact(LAW, process)(x, at).x0
    assert torch.allclose(served(name, process)(x, at).x0, exact, rtol=0, atol=1e-10)
    images = served(name, process)(x.view(3, 3, 32, 32), at).x0
    assert torch.allclose(images.flatten(1), exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("truth", PARAMETERISATIONS)
@pytest.mark.parametrize("taken_for", PARAMETERISATIONS)
def test_a_network_taken_for_another_kind_is_not(truth, taken_for):
    process = EDM()
    at = process.level_at(-0.5)
    x = LAW.noised(1.0, float(at.sigma)).sample(3, generator=torch.Generator().manual_seed(0))
    model = NetworkModel(Perfect(truth).eval(), of_training(taken_for, 10), process)
    off = (model(x, at).x0 - Exact(LAW, process)(x, at).x0).abs().max()
    assert (off < 1e-10) == (truth == taken_for)


def test_guidance_extrapolates_from_no_label_to_the_label():
    at, x = EDM().level_at(0.0), torch.zeros(2, 3072, dtype=torch.float64)
    labels = torch.tensor([3, 5])
    plain = served("edm", EDM())(x, at).x0
    for w in (0.0, 1.0, 3.0):
        found = served("edm", EDM(), labels=labels, guidance=w)(x, at).x0
        assert torch.allclose(found, plain + w * 0.01 * (labels - 10).unsqueeze(-1), atol=1e-12)


def test_solvers_run_on_it_as_on_the_law():
    grid = uniform_lambda(VPLinear(), 6)
    x = torch.randn(2, 3072, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for solver in (SOLVERS["dpm_pp.2m"](), SOLVERS["heun.k"]()):
        ends = [solve(solver, m, x, grid).end for m in (served("v", VPLinear()), Exact(LAW, VPLinear()))]
        assert torch.allclose(*ends, atol=1e-10)


def test_what_a_network_cannot_answer_is_refused():
    at, x = EDM().level_at(0.0), torch.zeros(2, 3072)
    with pytest.raises(ValueError, match=r"points \(n, 3072\) or images"):
        served("edm", EDM())(x[:, :100], at)
    with pytest.raises(ValueError, match="one for each state; got 3 for 2"):
        served("edm", EDM(), labels=torch.zeros(3).long())(x, at)
    with pytest.raises(ValueError, match="guidance needs labels"):
        served("edm", EDM(), guidance=2.0)
    with pytest.raises(ValueError, match="one level for all states"):
        served("edm", EDM())(x, EDM().level(torch.tensor([1.0, 2.0])))
    clean = served("edm", EDM())(x, EDM().level(0.0))
    assert torch.equal(clean.x0, x)


# a cosine schedule of twenty entries: k from 0.05 to 1e2 in its own images
SHORT = VPTable(tuple(1 - math.cos(math.pi * (i + 1) / 43) ** 2 / math.cos(math.pi * i / 43) ** 2 for i in range(20)))


@pytest.mark.parametrize("black", [-1.0, 0.0, -3.0])
def test_studies_ask_a_network_where_it_was_trained(monkeypatch, black):
    """Outside its table a network is refused or asked at an index it never saw; inside, both ends are answered."""
    does = Conventions("eps", SHORT, "t", (black, 1.0), 0, None)
    network = NetworkModel(Perfect("eps").eval(), does, SHORT)
    monkeypatch.setattr(by_name, "_loaded", lambda name: network)
    wide = 1e9, 1e-9
    ends = by_name.reach("short", *wide)
    for k, index in zip(ends, (19.0, 0.0), strict=True):
        own = SHORT.level_at(-math.log(k) - math.log(does.scale))
        assert does.told(own) == pytest.approx(index, abs=1e-6) and 0 <= does.told(own) <= 19
    inside = math.sqrt(ends[0] * ends[1])
    assert by_name.reach("short", 1.01 * inside, inside) == (1.01 * inside, inside)
    with pytest.raises(ValueError, match=r"lambda must lie in \["):
        SHORT.level_at(-math.log(1.001 * ends[0]) - math.log(does.scale))
    asked = {cell["lam"] for cell in network_errors.cells()}
    assert asked == {lam for lam in network_errors.axes["lam"] if ends[1] <= math.exp(-lam) <= ends[0]}
    assert len(asked) < len(network_errors.axes["lam"])


def test_the_usual_ends_are_those_of_a_network_with_more_noise():
    assert by_name.reach("shipped", 80.0, 2e-2) == (80.0, 2e-2)


def test_denoising_errors_are_posterior_variances():
    x0 = LAW.sample(32, generator=torch.Generator().manual_seed(2))
    for lam in (-1.0, 2.0):
        k2 = math.exp(-2 * lam)
        best = (VARIANCES * k2 / (VARIANCES + k2)).mean().item()
        errors = validation.denoising_errors(Exact(LAW, EDM()), x0, lam, seed=3)
        assert errors.mean().item() == pytest.approx(best, abs=4 * errors.std().item() / 32**0.5)
        again = validation.denoising_errors(served("eps", VPLinear()), x0, lam, seed=3)
        assert torch.allclose(again, errors, atol=1e-10)


def test_bits_by_the_ode_tend_to_the_exact_density():
    x0 = LAW.sample(4, generator=torch.Generator().manual_seed(4))
    step, k = 2 / 255, 4e-3
    shift = torch.rand(x0.shape, generator=torch.Generator().manual_seed(5)) - 0.5
    exact = -LAW.noised(1.0, k).log_prob(x0 + step * shift.to(x0)) / (3072 * math.log(2)) - math.log2(step)
    off = []
    for steps in (32, 64, 128):
        grid = uniform_lambda(EDM(), steps, start=-math.log(80), end=-math.log(k))
        bits = validation.ode_bits(Exact(LAW, EDM()), x0, grid, seed=5, prior_variance=0.3)
        off.append((bits.mean() - exact.mean()).item())
    # diagonal covariances leave Hutchinson's estimate without variance: all that is left is the step's error
    assert 3 < off[0] / off[1] < 5
    assert 3 < off[1] / off[2] < 5
    assert abs(off[2]) < 0.006


def test_the_bound_of_a_network_is_the_bound_of_its_law():
    """Against theory.elbo on one coordinate: same formulas, written a second time; the optimal variance is the best."""
    law = GaussianMixture.gaussian(torch.tensor([0.2], dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64))
    process = VPLinear()
    times = [process.t_max, 0.6, 0.3, 0.1, 0.0]
    grid, shorter = TimeGrid(process, times), TimeGrid(process, times[:-1])
    mse = [0.3 * float(at.sigma) ** 2 / (float(at.alpha) ** 2 * 0.3 + float(at.sigma) ** 2) for at in grid.levels[:-1]]
    found = {}
    for which in validation.VARIANCES:

        def variance(s, t, which=which):
            return validation.reverse_variance(which, s, t, mse[grid.levels.index(s)]) if float(t.sigma) else 1.0

        terms = elbo(law, grid, variance)
        _, steps = validation.elbo_bits(shorter, mse, which, 0.34)
        assert steps * math.log(2) == pytest.approx(sum(t.value for t in terms.steps), rel=1e-12)
        found[which] = steps
    assert found["optimal"] < min(found["beta"], found["beta_tilde"])


def test_pixels_cost_what_their_cells_weigh():
    grey = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).unsqueeze(-1).expand(256, 3072)[:, :64]
    at = EDM().level_at(-math.log(0.02))
    k, step = 0.02, 1 / 255
    noise = validation.normals(256, seed=7, dtype=torch.float64)[:, :64]
    original = validation.normals
    try:
        validation.normals = lambda n, **more: noise
        bits = validation.pixel_bits(grey, at, seed=7)
    finally:
        validation.normals = original
    y, normal = grey + k * noise, torch.distributions.Normal(0.0, k)
    low, high = normal.cdf(grey - step - y), normal.cdf(grey + step - y)
    low[0], high[-1] = 0.0, 1.0
    assert torch.allclose(bits, -(high - low).log2().mean(-1), atol=1e-9)


def test_straightness_is_that_of_the_exact_flow():
    flat = GaussianMixture.gaussian(
        torch.zeros(3072, dtype=torch.float64), torch.full((3072,), 0.25, dtype=torch.float64)
    )
    z = validation.normals(2, seed=0, dtype=torch.float64)
    first, last = 80.0, 0.1
    t = torch.linspace(first / (1 + first), last / (1 + last), 100_001, dtype=torch.float64)
    f = (0.25 * (1 - t) ** 2 + t**2).sqrt()
    chord = (f[-1] - f[0]) / (t[-1] - t[0])
    slope = (t - 0.25 * (1 - t)) / f
    exact = torch.trapezoid((slope - chord) ** 2, t) / (chord**2 * (t[-1] - t[0]))
    grid = uniform_lambda(EDM(), 400, start=-math.log(first), end=-math.log(last))
    found = validation.straightness(Exact(flat, EDM()), SOLVERS["dpm_pp.2m"](), z, grid)
    assert found == pytest.approx(exact.item(), rel=2e-3)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    network = UNet(**SIZES["tiny"])
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    save(network, tmp_path, name="tiny", architecture=SIZES["tiny"], parameterisation="v")
    return tmp_path, network


def test_weights_come_back_as_they_went(folder):
    path, network = folder
    model = load(path)
    assert model.conventions == of_training("v", 10)
    for mine, theirs in zip(network.parameters(), model.network.parameters(), strict=True):
        assert torch.equal(mine.half().float(), theirs)
    assert not model.network.training
    assert sorted(file.name for file in path.iterdir()) == [CARD, WEIGHTS]


def _card(path, **changes):
    card = json.loads((path / CARD).read_text()) | changes
    (path / CARD).write_text(json.dumps({k: v for k, v in card.items() if v is not None}))


def _resave(path, change):
    from safetensors.torch import load as parse

    state = parse((path / WEIGHTS).read_bytes())
    change(state)
    packed = loading.pack(state)
    (path / WEIGHTS).write_bytes(packed)
    _card(path, sha256=loading.hashlib.sha256(packed).hexdigest())


def _hollow(state):
    state["enter.weight"][0, 0, 0, 0] = math.nan


BROKEN = {
    "no card": (lambda p: (p / CARD).unlink(), "must hold card.json and weights.safetensors"),
    "no weights": (lambda p: (p / WEIGHTS).unlink(), "must be a file that can be read"),
    "half a card": (lambda p: (p / CARD).write_text((p / CARD).read_text()[:100]), "card.json"),
    "unknown field": (lambda p: _card(p, colour="red"), "got also colour"),
    "undeclared conventions": (lambda p: _card(p, conventions=None), "must declare conventions"),
    "truncated": (lambda p: (p / WEIGHTS).write_bytes((p / WEIGHTS).read_bytes()[:999]), "sha256"),
    "nan": (lambda p: _resave(p, _hollow), "finite"),
    "missing key": (lambda p: _resave(p, lambda s: s.pop("enter.weight")), "enter.weight"),
    "surplus key": (lambda p: _resave(p, lambda s: s.update(more=torch.zeros(1))), "more"),
    "wrong shape": (lambda p: _resave(p, lambda s: s.update({"enter.bias": torch.zeros(3)})), "enter.bias"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_refused_in_one_sentence(folder, kind):
    path, _ = folder
    change, words = BROKEN[kind]
    change(path)
    with pytest.raises(ValueError, match=words):
        load(path)


def test_the_card_says_all_there_is_to_say(folder):
    path, _ = folder
    assert {f.name for f in dataclasses.fields(loading.Card)} == set(json.loads((path / CARD).read_text()))

"""A network in any kind, time, process and range is the exact denoiser under its own conventions, and no others."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from studies.cifar10.conventions import ALL_PROCESSES, Conventions, VPTable, from_json
from studies.cifar10.model import NetworkModel
from theory import EDM, VE, Exact, LinearPath, SubVP, TrigonometricPath, VPCosine, VPLinear
from theory.prediction import Kind
from toy_distributions import GaussianMixture

MEAN, STD = 0.1, 0.4
BETAS = tuple(1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000))
OURS = (-1.0, 1.0)


def conventions(kind, process, time, span=OURS, **more) -> Conventions:
    return Conventions(kind, process, time, span, 0, None, **more)


DIALECTS = [
    conventions("edm", EDM(), "c_noise", sigma_data=0.5),
    conventions("edm", EDM(1e4), "sigma", (0.0, 255.0), sigma_data=64.0),
    conventions("eps", VPLinear(), "t", time_scale=999.0),
    conventions("eps", VE(), "sigma"),
    conventions("eps", VPTable(BETAS), "t"),
    conventions("v", VPTable(BETAS), "t", (0.0, 1.0)),
    conventions("v", TrigonometricPath(), "log_snr"),
    conventions("velocity", LinearPath(), "t"),
    conventions("velocity", LinearPath(), "t", time_scale=1000.0, time_reversed=True),
    conventions("x0", LinearPath(), "t", (0.0, 1.0), time_reversed=True),
    conventions("x0", EDM(), "log_snr"),
]
PROCESSES = [EDM(), VPLinear(), LinearPath(), VPCosine(), SubVP()]


def ratio(does: Conventions, told: float) -> float:
    """k of what the network is told, by formulas of the test's own."""
    t = told / does.time_scale
    match does.time, does.process:
        case "sigma", _:
            return told
        case "c_noise", _:
            return math.exp(4 * told)
        case "log_snr", _:
            return math.exp(-told / 2)
        case _, VPLinear():
            return math.sqrt(math.expm1(0.1 * t + 9.95 * t * t))
        case _, LinearPath():
            t = 1 - t if does.time_reversed else t
            return t / (1 - t)
        case _, VPTable():  # ln k linear between the entries
            i = min(int(t), len(BETAS) - 2)
            ends = [0.5 * math.log(1 / math.prod(1 - b for b in BETAS[: j + 1]) - 1) for j in (i, i + 1)]
            return math.exp(ends[0] + (t - i) * (ends[1] - ends[0]))
    raise AssertionError(does)


class Linear(nn.Module):
    """What a perfect network of these conventions says of a Gaussian of the mean and deviation above, in its range."""

    def __init__(self, does: Conventions, dtype=torch.float64):
        super().__init__()
        self.does = does
        self.unit = nn.Parameter(torch.ones((), dtype=dtype), requires_grad=False)
        self.asked = []

    def forward(self, x, told, label=None):
        assert x.dtype == told.dtype == self.unit.dtype and label is None and x.shape[1:] == (3, 32, 32)
        self.asked.append(len(x))
        does, k = self.does, ratio(self.does, told[0].item())
        low, high = does.range
        half, middle = (high - low) / 2, (high + low) / 2
        mean, variance = half * MEAN + middle, (half * STD) ** 2
        if isinstance(does.process, EDM | VE):
            alpha = 1.0
        elif isinstance(does.process, LinearPath):
            alpha = 1 / (1 + k)
        else:
            alpha = 1 / math.sqrt(1 + k * k)
        sigma = k * alpha
        d2 = None if does.sigma_data is None else does.sigma_data**2
        if d2 is not None:
            x = x * math.sqrt(k * k + d2)
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        x0 = mean + gain * (x - alpha * mean)
        eps = (x - alpha * x0) / sigma
        match does.kind:
            case "x0":
                return x0
            case "eps":
                return eps
            case "v":
                return alpha * eps - sigma * x0
            case "velocity":
                return x0 - eps if does.time_reversed else eps - x0
            case _:
                return (x0 - d2 / (k * k + d2) * x) / (k * math.sqrt(d2 / (k * k + d2)))


def law(dtype=torch.float64):
    return GaussianMixture.gaussian(torch.full((3072,), MEAN, dtype=dtype), torch.full((3072,), STD**2, dtype=dtype))


def miss(model: NetworkModel, lam: float, dtype=torch.float64) -> float:
    """Largest difference to the exact denoiser, on six states."""
    at = model.process.level_at(lam)
    x = law().noised(float(at.alpha), float(at.sigma)).sample(6, generator=torch.Generator().manual_seed(0))
    exact = Exact(law(), model.process)(x, at).x0
    found = model(x.to(dtype), at)
    assert found.value.dtype == dtype and found.value.shape == x.shape
    return (found.x0 - exact).abs().max().item()


def served(does, process, *, truth=None, dtype=torch.float64, **more):
    return NetworkModel(Linear(truth or does, dtype).eval(), does, process, **more)


@pytest.mark.parametrize("does", DIALECTS, ids=lambda d: f"{d.kind}-{d.process}-{d.time}")
@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_every_convention_serves_every_process(does, process):
    for lam in (-1.7, 0.3, 2.9):
        assert miss(served(does, process, chunk=4), lam) < 1e-12


@pytest.mark.parametrize("does", DIALECTS, ids=lambda d: f"{d.kind}-{d.process}-{d.time}")
def test_a_network_in_float32_serves_states_in_both(does):
    for dtype in (torch.float32, torch.float64):
        assert miss(served(does, EDM(), dtype=torch.float32), 1.1, dtype) < 2e-6


WRONG = [
    (0, {"sigma_data": 0.6}),
    (0, {"time": "sigma"}),
    (1, {"range": (0.0, 1.0)}),
    (2, {"kind": "v"}),
    (2, {"time_scale": 1000.0}),
    (3, {"process": EDM(), "time": "t", "time_scale": 2.0}),
    (4, {"process": VPTable(BETAS[1:])}),
    (4, {"process": VPTable(tuple(0.99 * b for b in BETAS))}),
    (5, {"range": OURS}),
    (6, {"kind": "eps"}),
    (6, {"time": "c_noise"}),
    (7, {"time_reversed": True}),
    (8, {"time_reversed": False}),
    (9, {"time_reversed": False}),
    (9, {"range": OURS}),
    (10, {"process": VPLinear()}),
]


@pytest.mark.parametrize(("which", "change"), WRONG)
def test_another_convention_is_another_denoiser(which, change):
    """The control: what is declared wrongly is seen in the answer."""
    truth = DIALECTS[which]
    assert miss(served(replace(truth, **change), EDM(), truth=truth), 0.3) > 1e-4


def test_states_are_asked_in_chunks_that_do_not_matter():
    does, at = DIALECTS[0], EDM().level_at(0.0)
    x = torch.randn(7, 3072, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole, parts = served(does, EDM()), served(does, EDM(), chunk=3)
    assert torch.equal(whole(x, at).x0, parts(x, at).x0)
    assert whole.network.asked == [7] and parts.network.asked == [3, 3, 1]


def test_an_eps_network_keeps_its_digits_where_noise_is_small():
    found = served(DIALECTS[2], EDM())(torch.zeros(1, 3072), EDM().level_at(6.0))
    assert found.kind is Kind.EPS


def test_a_table_is_a_process():
    table = VPTable(BETAS)
    for t in (*range(0, 999, 37), 999):
        bar = math.prod(1 - b for b in BETAS[: t + 1])
        at = table.level(float(t))
        assert at.alpha == pytest.approx(math.sqrt(bar), rel=1e-12)
        assert at.sigma == pytest.approx(math.sqrt(1 - bar), rel=1e-9)
    for t in (0.0, 0.4, 17.25, 998.5, 999.0):
        at, h = table.level(t), 1e-4
        assert table.time_at(at.lam) == pytest.approx(t, abs=1e-9)
        assert at.alpha**2 + at.sigma**2 == pytest.approx(1.0, rel=1e-14)
        if 0 < t < 999:
            up, down = table.level(t + h), table.level(t - h)
            assert at.alpha_dot == pytest.approx((up.alpha - down.alpha) / (2 * h), rel=1e-6)
            assert at.sigma_dot == pytest.approx((up.sigma - down.sigma) / (2 * h), rel=1e-6)
    times = torch.tensor([0.0, 0.4, 17.25, 999.0], dtype=torch.float64)
    at = table.level(times)
    assert torch.allclose(table.time_at(at.lam), times, atol=1e-9)
    for i, t in enumerate(times.tolist()):
        assert [float(part[i]) for part in at] == pytest.approx(list(table.level(t)), rel=1e-12)
    assert len(repr(table)) < 80


def test_beyond_its_noise_a_network_is_not_asked():
    model = served(DIALECTS[4], EDM(1e4))
    for lam in (-5.2, 4.7):
        with pytest.raises(ValueError, match=r"lambda must lie in \[-5.0.*, 4.6.*\] for VPTable\(1000 betas"):
            miss(model, lam)


def test_labels_are_the_network_s_own():
    does = replace(DIALECTS[0], labels=10, null_label=10)
    quiet = Linear(does).eval()
    for labels, words in (
        (torch.tensor([11]), "from 0 to 9, or 10 for none; got 11"),
        (torch.tensor([-1]), "got -1"),
        (torch.tensor([0.5]), "must be integers"),
        (torch.tensor([[1]]), "must be integers"),
    ):
        with pytest.raises(ValueError, match=words):
            NetworkModel(quiet, does, EDM(), labels)
    without = replace(does, null_label=None)
    with pytest.raises(ValueError, match="has no null label; it needs labels from 0 to 9"):
        NetworkModel(quiet, without, EDM())
    with pytest.raises(ValueError, match="guidance needs a null label"):
        NetworkModel(quiet, without, EDM(), torch.tensor([1]), guidance=2.0)
    with pytest.raises(ValueError, match="labels must be None; got 1"):
        NetworkModel(quiet, DIALECTS[0], EDM(), torch.tensor([1]))
    with pytest.raises(ValueError, match="must be in eval mode"):
        NetworkModel(Linear(does), does, EDM())


def test_images_of_another_range_are_refused():
    does = DIALECTS[5]
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(does.points(images), images.flatten(1) * 2 - 1)
    ours = replace(does, range=OURS)
    for wrong, words in (
        (images, "must fill the range from -1.0 to 1.0; got values from .* to 0.99"),
        (images * 255, "got values from .* to 25"),
        (images * math.nan, "got values from nan to nan"),
        ((images * 255).byte(), "must be floating"),
        (images[:, :1], r"\(n, 3, 32, 32\); got shape \(16, 1, 32, 32\)"),
    ):
        with pytest.raises(ValueError, match=words):
            ours.points(wrong)


@pytest.mark.parametrize("does", DIALECTS, ids=lambda d: f"{d.kind}-{d.process}-{d.time}")
def test_conventions_come_back_from_a_card(does):
    assert from_json(does.as_json()) == does


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "score"}, "kind must be one of"),
        ({"time": "index"}, "time must be one of"),
        ({"process": "vp"}, "must be a noise process"),
        ({"range": (1.0, -1.0)}, "range must be two numbers"),
        ({"range": (0.0, math.nan)}, "range must be two numbers"),
        ({"labels": -1}, "labels must be a number"),
        ({"null_label": 3}, "null_label must be None or"),
        ({"time_scale": 0.0}, "time_scale must be > 0"),
        ({"time": "sigma", "time_reversed": True}, "true only where time is 't'"),
        ({"sigma_data": 0.5}, "for the kind 'edm' only"),
        ({"kind": "edm"}, "needs sigma_data > 0"),
    ],
)
def test_conventions_that_are_none_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(DIALECTS[7], **change)


def test_every_process_can_be_named_in_a_card():
    for name, kind in ALL_PROCESSES.items():
        process = VPTable(BETAS) if name == "vp_table" else kind()
        assert from_json(conventions("eps", process, "log_snr").as_json()).process == process

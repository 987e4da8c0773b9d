"""A perfect denoiser's samples lie at the floor and noise far from it; variances and guidance are what they are named.

The images here are pixels of one Gaussian law, so that their fit is their law and every prediction is exact.
"""

import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from studies import validate
from studies.cifar10 import classifier, data, generated, served
from studies.cifar10.conventions import Conventions
from studies.cifar10.data import Cifar10
from studies.cifar10.model import NetworkModel
from studies.cifar10.network import SIZES, UNet
from studies.cifar10.validation import normals
from studies.figures import draw
from studies.sweeps import network_distances as distances
from studies.sweeps import network_guidance as guidance
from studies.sweeps import network_reverse_variance as reverse
from theory import EDM, Exact, Independent, solve
from theory.covariance import OptimalVariance, beta, beta_tilde
from theory.models import Model
from theory.prediction import Kind, Prediction
from theory.solvers.ddpm import DDPM
from toy_distributions import GaussianMixture

MEAN, SPREAD = 0.2, 0.3
LAW = GaussianMixture.gaussian(torch.full((3072,), MEAN).double(), torch.full((3072,), SPREAD**2).double())


class Fake(Model):
    """A law's denoiser in float32, in place of a network without labels; noisy: it sees noise everywhere."""

    def __init__(self, process=None, noisy=False):
        self.process, self.noisy = process or EDM(), noisy
        self.conventions = SimpleNamespace(labels=0, null_label=None, process=EDM(), scale=1.0)
        self.exact = Exact(LAW.to(torch.float32), self.process)

    def serving(self, process, **_):
        return Fake(process, self.noisy)

    def __call__(self, x, at):
        if self.noisy:
            return Prediction(Kind.X0, torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), x, at)
        return self.exact(x, at)


def images(n: int, seed: int) -> Cifar10:
    points = MEAN + SPREAD * normals(n, seed=seed)
    return Cifar10(data.as_images(points), torch.arange(n) % 10)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    torch.manual_seed(0)
    classifier.write(classifier.Classifier(), tmp_path / "classifier.safetensors", {})
    monkeypatch.setattr(classifier, "WEIGHTS", tmp_path / "classifier.safetensors")
    for name, value in {"IMAGES": 80, "REFERENCE": 800, "FLOORS": 2}.items():
        monkeypatch.setattr(generated, name, value)
    monkeypatch.setattr(reverse, "IMAGES", 20)
    splits = {"train": images(800, 1), "test": images(200, 2)}
    monkeypatch.setattr(data, "load", lambda split: splits[split])
    monkeypatch.setattr(data, "unavailable", lambda **_: None)
    monkeypatch.setattr(generated, "along_axes", lambda: (LAW, torch.eye(3072, dtype=torch.float64)))
    monkeypatch.setattr(served, "_loaded", lambda name: Fake())
    kept = [
        generated.extractor, generated.reference, generated._moments, generated.floor, distances._limit,
        guidance._floor_named, reverse._at_levels,
    ]  # fmt: skip
    for one in kept:
        one.cache_clear()
    yield
    for one in kept:
        one.cache_clear()


def tables(study, **only):
    return pd.DataFrame([{**cell, **study(**cell, seed=study.address(cell).seed)} for cell in study.cells(only)])


def test_a_perfect_denoiser_is_at_the_floor_and_noise_is_far_from_it(monkeypatch):
    only = {"solver": ["dpm_pp.2m"], "steps": ["20"]}
    (row,) = tables(distances.network_distances, **only).to_dict(orient="records")
    assert row["evaluations"] == 21 and row["images"] == 80
    assert row["fd"] == pytest.approx(row["gaussian_fd"], abs=row["gaussian_fd_error"] / 10)  # float32 and float64
    monkeypatch.setattr(served, "_loaded", lambda name: Fake(noisy=True))
    (noise,) = tables(distances.network_distances, **only).to_dict(orient="records")
    assert generated.apart(noise | {"fd": noise["fd"]}, row, "fd") and noise["fd"] > 20 * abs(row["fd"])
    far = noise["floor_fd"] + noise["floor_fd_error"] + noise["fd_error"]
    assert noise["fd"] > 20 * far and noise["kd"] - noise["kd_error"] > noise["floor_kd"] + noise["floor_kd_error"]
    assert row["precision"] > 0.5 > noise["precision"]
    first, second = (distances.words(pd.DataFrame([found])) for found in (row, noise))
    assert "The floor is within the error bar of dpm_pp.2m at 21" in first
    assert "The floor is within the error bar of no cell" in second


def test_few_steps_are_told_from_many_and_the_figure_shows_all():
    table = tables(distances.network_distances, solver=["ddim", "edm.churn"])
    assert set(table["evaluations"]) == {6, 11, 21} and len(table) == 5
    assert "At 6 evaluations ddim is nearest" in distances.words(table)
    figure = draw(distances.distances, table)
    assert [len(ax.containers) for ax in figure.axes] == [2, 2, 2, 2]


def test_a_network_with_labels_is_asked_for_every_class(monkeypatch):
    network = UNet(**SIZES["tiny"]).eval()
    does = Conventions("edm", EDM(), "c_noise", (-1, 1), 10, 10, sigma_data=0.5)
    monkeypatch.setattr(served, "_loaded", lambda name: NetworkModel(network, does, EDM()))
    model = generated.told("any", EDM(), guidance=2.0)
    assert model.labels is not None
    assert model.labels.bincount().tolist() == [8] * 10 and model.guidance == 2.0
    classes = GaussianMixture([0.1] * 10, LAW.means.expand(10, -1).contiguous(), LAW.covs.expand(10, -1).contiguous())
    monkeypatch.setattr(guidance, "classes_along_axes", lambda: (classes, torch.eye(3072, dtype=torch.float64)))
    row = guidance.network_guidance(model="any", scale=2.0, seed=0)
    assert row["evaluations"] == 11 and 0 <= row["accuracy"] <= 1
    assert validate.studies_of("any", quick=True)["network_guidance"].axes["scale"] == [1.0, 3.0]


def test_guidance_is_not_asked_of_a_network_without_labels():
    found = validate.studies_of("any")
    assert "network_distances" in found and "network_guidance" not in found


def test_results_rest_on_the_classifier(monkeypatch, tmp_path):
    study = distances.network_distances
    before = study.code
    torch.manual_seed(1)
    classifier.write(classifier.Classifier(), classifier.WEIGHTS, {})
    assert study.code != before and study.available() is None
    monkeypatch.setattr(classifier, "WEIGHTS", tmp_path / "nothing")
    assert "without the classifier" in (study.available() or "")


@pytest.mark.parametrize("which", ["beta", "beta_tilde"])
def test_each_variance_is_in_the_samples(which):
    """The chain of a denoiser that says 0 is linear: its variance is a sum, which 80 x 3072 normals tell to 0.6 %."""
    grid = reverse._grid("shipped", 5)
    spread = {"beta": float(grid.levels[0].sigma) ** 2}
    spread["beta_tilde"] = spread["beta"]
    for s, t in zip(grid.levels, grid.levels[1:], strict=False):
        shrink = float(t.sigma / s.sigma) * math.exp(-(t.lam - s.lam))
        fresh = -math.expm1(-2 * (t.lam - s.lam))
        spread["beta"] = shrink**2 * spread["beta"] + fresh * float(s.sigma) ** 2
        spread["beta_tilde"] = shrink**2 * spread["beta_tilde"] + fresh * float(t.sigma) ** 2
    silent = Exact(GaussianMixture.dirac(torch.zeros(3072, dtype=torch.float64)), reverse.PROCESS)
    solver = DDPM(reverse.kernel(which, grid, beta))
    z = float(grid.levels[0].sigma) * normals(80, seed=0, dtype=torch.float64)
    end = solve(solver, silent, z, grid, noise=Independent(0)).end
    other = "beta_tilde" if which == "beta" else "beta"
    assert end.var().item() == pytest.approx(spread[which], rel=0.02)
    assert end.var().item() != pytest.approx(spread[other], rel=0.5)  # the control: the two swapped


def test_the_estimate_of_an_exact_network_is_the_optimum():
    grid, x0 = reverse._grid("shipped", 10), MEAN + SPREAD * normals(200, seed=5)
    model = Fake(reverse.PROCESS)
    seen = 0
    for s, t in zip(grid.levels[2:], grid.levels[3:], strict=False):
        power, miss = reverse.measured(model, s, x0, seed=6)
        found, optimum = reverse.analytic(s, t, power), reverse.gaussian_optimum(LAW, s, t)
        assert abs(found.value - optimum) <= 2 * found.error  # 8 levels at 95 %: twice the bar leaves 0.07 % chance
        swapped = found.value + beta(s, t) - beta_tilde(s, t)
        seen += abs(swapped - optimum) > 2 * found.error
        assert miss.value == pytest.approx(SPREAD**2 / (1 + SPREAD**2 * math.exp(2 * s.lam)), rel=0.02)
    assert seen >= 7  # the control: beta in the place of beta-tilde


def test_the_optimum_of_the_fit_is_that_of_the_theory():
    law = GaussianMixture.gaussian(torch.zeros(3).double(), torch.tensor([0.0, 0.3, 2.0]).double())
    s, t = reverse._grid("shipped", 5).levels[1:3]
    found, true = reverse.gaussian_optimum(law, s, t), OptimalVariance(law)(s, t)
    assert found == pytest.approx(true, rel=1e-12)
    assert found - beta_tilde(s, t) != pytest.approx(true - beta(s, t), rel=0.1)  # the control: the two swapped


def test_only_the_last_step_is_clipped_and_unknown_variances_are_refused():
    grid = reverse._grid("shipped", 5)
    made, plain = (reverse.kernel(name, grid, beta) for name in ("analytic_clipped", "analytic"))
    pairs = list(zip(grid.levels, grid.levels[1:], strict=False))
    assert all(made(s, t) == plain(s, t) for s, t in pairs[:-1])
    last = made(*pairs[-1])
    assert last < plain(*pairs[-1])
    size = math.sqrt(last) * normals(20, seed=0).abs().mean().item() * 255 / 2  # in grey levels
    assert size == pytest.approx(reverse.GREYS, rel=0.02)
    with pytest.raises(ValueError, match=r"variance must be one of beta, .*; got 'gamma'"):
        reverse.kernel("gamma", grid, beta)


def test_variances_are_ordered_by_the_numbers_alone():
    table = tables(reverse.network_reverse_variance, steps=["5"])
    rows = {row["variance"]: row for row in table.to_dict(orient="records")}
    best = rows.pop("analytic")  # exact in law for one Gaussian of one variance, on any grid; no other is
    assert all(generated.apart(best, row, "fd") and best["fd"] < row["fd"] for row in rows.values())
    assert "Least is analytic; on the Gaussian fit analytic." in reverse.words(table)
    turned = table.assign(fd=table["fd"].where(table["variance"] != "beta", -1.0))
    assert "Least is beta; on the Gaussian fit analytic." in reverse.words(turned)
    steps = tables(reverse.network_reverse_variance_by_step)
    assert len(steps) == 15 and (steps["achieved"] - steps["gaussian"]).abs().max() < 0.1 * steps["gaussian"].max()
    exact = steps.assign(analytic=steps["gaussian"], achieved=steps["gaussian"], analytic_error=0, achieved_error=0)
    assert "something at 15 of 15 steps" in reverse.words_by_step(exact)
    assert "At 15 of the 15 it agrees" in reverse.words_by_step(exact)
    assert "at 15 of them" in reverse.words_by_step(exact.assign(analytic=2 * exact["analytic"]))
    assert "At 0 of the 15 it agrees" in reverse.words_by_step(exact.assign(analytic=2 * exact["analytic"]))
    assert "something at 0 of 15 steps" in reverse.words_by_step(exact.assign(analytic_error=1e9))
    for make, found in ((reverse.distances, table), (reverse.variances, steps)):
        assert len(draw(make, found).axes) == 2


def test_guided_classes_follow_the_gradient_of_the_label():
    """D_null + w (D_y - D_null) = D_null + w (sigma^2 / alpha) grad log p(y|x), the gradient by differences of logs."""
    means = torch.tensor([[-1.0, 0.5], [0.8, 0.0], [0.1, -1.2]]).double()
    law = GaussianMixture([0.2, 0.5, 0.3], means, torch.tensor([0.4, 0.1]).double().expand(3, 2).contiguous())
    at, labels = EDM().level(0.7), torch.tensor([0, 1, 2, 1])
    x = normals(4, seed=3, dtype=torch.float64)[:, :2].requires_grad_()
    noised = law.noised(1.0, 0.7)
    own = torch.distributions.Normal(means[labels], (law.covs[0] + 0.49).sqrt()).log_prob(x).sum()
    (gradient,) = torch.autograd.grad(own - noised.log_prob(x).sum(), x)
    plain, y = law.posterior_mean(x.detach(), 1.0, 0.7), x.detach()
    for w in (1.0, 2.5):
        found = guidance.GuidedClasses(law, EDM(), labels, w)(y, at).x0
        torch.testing.assert_close(found, plain + w * 0.49 * gradient, rtol=1e-10, atol=1e-12)
        assert (found - plain - (w - 1) * 0.49 * gradient).abs().max() > 0.05  # the control: the other count of w
    with pytest.raises(ValueError, match="one diagonal covariance"):
        guidance.GuidedClasses(GaussianMixture([0.5, 0.5], means[:2], [0.1, 0.2]), EDM(), labels[:2])


def test_the_paragraph_on_guidance_is_of_its_table(monkeypatch):
    base = {"images": 10, "gaussian_fd": 1.0, "gaussian_fd_error": 0.1}
    for name in guidance.SHOWN:
        base |= {f"{p}{name}{e}": 0.5 if not e else 0.01 for p in ("", "gaussian_", "floor_") for e in ("", "_error")}
    table = pd.DataFrame([{**base, "scale": 1.0, "recall": 0.8}, {**base, "scale": 5.0, "fd": 0.1, "recall": 0.2}])
    said = guidance.words(table)
    assert (
        "recall falls from 0.8 ± 0.01 to 0.2 ± 0.01" in said
        and "FD is least at scale 5, on the Gaussian classes at 1 (not told apart from 5)." in said
    )
    assert "precision goes from 0.5 ± 0.01 to 0.5 ± 0.01, within the error bars" in said
    assert "recall rises" in guidance.words(table.assign(recall=[0.2, 0.8]))
    assert len(draw(guidance.guidance, table).axes) == 4


def test_a_mean_needs_two_values():
    assert generated.mean_of([1.0, 3.0]).value == 2.0
    with pytest.raises(ValueError, match="at least 2 values; got 1"):
        generated.mean_of([1.0])

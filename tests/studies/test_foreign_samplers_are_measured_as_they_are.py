"""Foreign samplers keep the order their formula has, a broken one loses it, and the findings reproduce."""

import math
import runpy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from studies.adapters import diffusers, k_diffusion, torchdiffeq
from studies.adapters.catalogue import ENTRIES
from studies.adapters.measure import (
    MEAN,
    VARIANCE,
    Probe,
    law_error,
    law_order,
    levels,
    path_error,
    path_order,
    point_mass,
)
from studies.sweeps.foreign_schedulers import foreign_schedulers
from studies.sweeps.foreign_timesteps import foreign_timesteps
from studies.target import Target, load
from theory import SOLVERS, VE, Exact, VPLinear, solve
from theory.estimate import Verdict, at_least
from theory.grid import TimeGrid
from theory.noise import Independent
from toy_distributions import LAWS, GaussianMixture

pytestmark = [
    pytest.mark.adapters,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
REPRODUCTIONS = Path(diffusers.__file__).parent / "reproductions"


def needs(module):
    return pytest.mark.skipif(module.unavailable() is not None, reason=str(module.unavailable()))


def verdict(entry, kind="uniform", *, claimed=None):
    sampler, more = entry.sampler(precision="double"), {"floor": entry.floor}
    if entry.setting.stochastic:
        found, _ = law_order(sampler, kind, **more)
    else:
        found, _ = path_order(sampler, kind, **more, adaptive=entry.adaptive)
    return at_least((entry.claimed if claimed is None else claimed) - 0.1).judge(found)


@needs(diffusers)
@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler/2M++", "HeunDiscreteScheduler", "DDIMScheduler/eta=1"])
def test_a_scheduler_of_diffusers_has_its_order(name):
    assert verdict(ENTRIES[f"diffusers:{name}"]) is Verdict.HOLDS


@needs(diffusers)
def test_a_scheduler_with_a_broken_coefficient_is_rejected(monkeypatch):
    from diffusers import DPMSolverMultistepScheduler  # pyright: ignore[reportMissingImports]

    update = DPMSolverMultistepScheduler.multistep_dpm_solver_second_order_update

    def doubled(self, outputs, *args, **more):
        """The second difference of the data prediction taken twice."""
        return update(self, [2 * outputs[-2] - outputs[-1], outputs[-1]], *args, **more)

    monkeypatch.setattr(DPMSolverMultistepScheduler, "multistep_dpm_solver_second_order_update", doubled)
    assert verdict(ENTRIES["diffusers:DPMSolverMultistepScheduler/2M++"]) is Verdict.FAILS


@needs(diffusers)
def test_a_noise_of_the_wrong_size_is_rejected(monkeypatch):
    entry = ENTRIES["diffusers:EulerAncestralDiscreteScheduler"]
    assert verdict(entry) is Verdict.HOLDS
    plain = Probe.__call__
    monkeypatch.setattr(Probe, "__call__", lambda self, shape, interval: 2 * plain(self, shape, interval))
    assert verdict(entry, claimed=0.5) is Verdict.FAILS


@needs(diffusers)
def test_the_noise_of_a_point_mass_stays_and_a_wrong_level_moves_it(monkeypatch):
    entry = ENTRIES["diffusers:EulerDiscreteScheduler"]
    assert point_mass(entry.sampler(precision="double"), "rough", 18) < 1e-13
    assert point_mass(entry.sampler(precision="native"), "rough", 18) < 1e-5
    late = diffusers.FAMILIES["ve"]._replace(believed=lambda s, t: float(s.sigmas[diffusers._index(s) + 1]) or 1e-3)
    monkeypatch.setitem(diffusers.FAMILIES, "ve", late)
    assert point_mass(entry.sampler(precision="double"), "rough", 18) > 0.1


@needs(diffusers)
def test_both_modes_agree_where_timesteps_are_levels_and_part_where_they_are_cut():
    plain, cut = (ENTRIES[f"diffusers:DPMSolverMultistepScheduler/{kind}"] for kind in ("2M++", "exponential"))
    for entry, apart in ((plain, False), (cut, True)):
        a, b = (path_error(entry.sampler(precision="double", by=by), "uniform", 72)[1] for by in ("sigma", "timestep"))
        assert (abs(a - b) > 1e-4) is apart


@needs(diffusers)
def test_float32_read_as_float64_is_the_same_algorithm():
    for name in ("DPMSolverMultistepScheduler/2M++", "UniPCMultistepScheduler/2 bh1", "KDPM2DiscreteScheduler"):
        entry = ENTRIES[f"diffusers:{name}"]
        native, double = (path_error(entry.sampler(precision=p), "rough", 18)[1] for p in ("native", "double"))
        assert math.isclose(native, double, rel_tol=2e-3)


@needs(diffusers)
def test_diffusers_2m_is_ours():
    entry, law = ENTRIES["diffusers:DPMSolverMultistepScheduler/2M++"], LAWS["mixture_2d"]()
    ks, y = levels("rough", 18), torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    theirs = entry.sampler(precision="double")(lambda x, a, s: law.posterior_mean(x, a, s), y, ks)
    process = VE()
    grid = TimeGrid(process, [process.time_at(-math.log(k)) for k in ks])
    ours = solve(SOLVERS["dpm_pp.2m"](), Exact(law, process), y, grid)
    assert (theirs.y[-1] - ours.end).abs().max() < 1e-12


@needs(diffusers)
def test_every_entry_runs_and_its_classes_are_named_rightly():
    for name, entry in ENTRIES.items():
        if name.startswith("diffusers:"):
            assert name.split(":")[1].split("/")[0] == entry.setting.name
            assert hasattr(diffusers.scheduler_class(entry.setting.name), "step")
    with pytest.raises(ValueError, match="no scheduler 'NoScheduler'"):
        diffusers.scheduler_class("NoScheduler")


def test_what_is_missing_is_said_with_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"exactscore\[diffusers\]"):
        diffusers.scheduler_class("DDIMScheduler")
    assert "exactscore[k-diffusion]" in str(k_diffusion.unavailable())


# --- k-diffusion


@needs(k_diffusion)
@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_2s_ancestral", "heun/churn", "dpm_adaptive/3"])
def test_a_sampler_of_k_diffusion_has_its_order(name):
    assert verdict(ENTRIES[f"k_diffusion:sample_{name}"]) is Verdict.HOLDS


@needs(k_diffusion)
def test_a_sampler_with_a_broken_coefficient_is_rejected(monkeypatch):
    module = k_diffusion.sampling()
    plain = module.to_d
    monkeypatch.setattr(module, "to_d", lambda x, sigma, denoised: 1.001 * plain(x, sigma, denoised))
    assert verdict(ENTRIES["k_diffusion:sample_heun"]) is Verdict.FAILS


@needs(k_diffusion)
def test_an_adaptive_sampler_of_a_lower_order_is_rejected():
    second = ENTRIES["k_diffusion:sample_dpm_adaptive/2"]
    assert verdict(second, claimed=3) is Verdict.FAILS
    with pytest.raises(ValueError, match="chooses its own levels"):
        k_diffusion.target("sample_dpm_adaptive")


@needs(k_diffusion)
def test_every_sampler_is_in_the_catalogue():
    named = {entry.setting.name for name, entry in ENTRIES.items() if name.startswith("k_diffusion:")}
    assert set(k_diffusion.names()) == named


@needs(k_diffusion)
@pytest.mark.parametrize(
    ("name", "options", "parent"),
    [
        ("dpmpp_2m_sde", {"eta": 0.0}, "dpmpp_2m"),
        ("euler_ancestral", {"eta": 0.0}, "euler"),
        ("dpm_2_ancestral", {"eta": 0.0}, "dpm_2"),
        ("dpmpp_sde", {"eta": 0.0}, "dpmpp_2s_ancestral/eta=0"),
    ],
)
def test_without_noise_a_stochastic_sampler_is_its_parent(name, options, parent):
    law, ks = LAWS["mixture_2d"](), levels("rough", 12)
    y = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    denoiser = lambda x, a, s: law.posterior_mean(x, a, s)
    one = k_diffusion.trace(k_diffusion.Setting(f"sample_{name}", options), denoiser, y, ks).end
    two = ENTRIES[f"k_diffusion:sample_{parent}"].sampler(precision="double")(denoiser, y, ks).end
    assert (one - two).abs().max() < 1e-13
    other = k_diffusion.trace(k_diffusion.Setting("sample_heun"), denoiser, y, ks).end
    assert (one - other).abs().max() > 1e-5


@needs(k_diffusion)
def test_the_adaptive_sampler_follows_its_tolerance():
    errors = []
    for rtol in (1e-3, 1e-4, 1e-5):
        setting = k_diffusion.Setting("sample_dpm_adaptive", {"rtol": rtol, "atol": rtol / 10}, grid="adaptive")
        errors.append(path_error(lambda d, y, k, s=setting: k_diffusion.trace(s, d, y, k), "uniform", 18)[1])
    slopes = [math.log10(a / b) for a, b in pairwise(errors)]
    assert all(0.7 < slope < 1.3 for slope in slopes), errors


@needs(k_diffusion)
def test_the_path_of_a_brownian_tree_matters_to_the_law():
    entry = ENTRIES["k_diffusion:sample_dpmpp_sde"]
    apart = replace(entry, setting=replace(entry.setting, draws="independent"))
    path, independent = (law_error(e.sampler(precision="double"), "uniform", 72)[1] for e in (entry, apart))
    assert independent > 50 * path


# --- the findings, from scripts that use the foreign library alone


def found(script, *args, **more):
    return runpy.run_path(str(REPRODUCTIONS / f"{script}.py"))["main"](*args, **more)


@needs(diffusers)
def test_the_findings_reproduce():
    assert found("dpm_3m_second_difference") == pytest.approx(-0.5, abs=1e-4)
    assert [found("dpm_3m_sde_sign", h) for h in (0.2, 0.1)] == pytest.approx([-1.06, -1.03], abs=0.01)
    assert found("dpm_3s_sde_heun_sign", 0.1) == pytest.approx(-2.0, abs=0.01)
    errors = [found("dpm_2s_sde_order", n) for n in (64, 128)]
    assert 0.8 < math.log2(errors[0] / errors[1]) < 1.1
    assert found("deis_3_float32", 1, 20) < 1e-4 < 0.01 < found("deis_3_float32", 3, 100)
    errors = [found("ipndm_order", n) for n in (64, 128)]
    assert 1.8 < math.log2(errors[0] / errors[1]) < 2.2
    assert found("flow_match_stochastic_sampling", 256) < 0.75
    assert found("ddpm_fixed_large_log")
    assert found("ddim_stride", "leading") < 1e-6 < 0.01 < found("ddim_stride", "trailing")
    assert found("timesteps_cut_to_integers", "exponential") < -0.3 < abs(found("timesteps_cut_to_integers", "karras"))
    assert found("edm_euler_custom_sigmas") > 0.9
    assert found("euler_karras_trailing", 10) > 30
    assert found("unipc_flow_sigmas_list")
    assert found("flow_match_shift_twice") == pytest.approx(2.98, abs=0.01)
    assert found("unipc_nan_at_zero", solver_type="bh1") and found("unipc_nan_at_zero", predict_x0=False)
    assert not found("unipc_nan_at_zero")
    assert found("dpm_nan_at_repeated_sigma", solver_order=3)
    assert not found("dpm_nan_at_repeated_sigma", solver_order=2)


@needs(diffusers)
def test_every_reproduction_is_tried():
    tried = (Path(__file__)).read_text()
    for script in REPRODUCTIONS.glob("[a-z]*.py"):
        assert f'found("{script.stem}"' in tried, script.stem


@needs(diffusers)
def test_the_factor_and_the_sign_repair_the_third_order_updates(monkeypatch):
    """The control of the two findings: the term that the derivation asks for gives the order that is claimed."""
    from diffusers import DPMSolverMultistepScheduler  # pyright: ignore[reportMissingImports]

    update = DPMSolverMultistepScheduler.multistep_dpm_solver_third_order_update

    def repaired(self, outputs, *args, sample, noise=None, **more):
        k = [float(self.sigmas[self.step_index + 1 - i]) for i in range(4)]
        h, h0, h1 = (math.log(b / a) for a, b in pairwise(k))
        first, second = (outputs[-1] - outputs[-2]) * h / h0, (outputs[-2] - outputs[-3]) * h / h1
        bend = (first - second) * h / (h0 + h1)
        z = h if noise is None else 2 * h
        weight = 0.5 - (math.expm1(-z) + z) / z**2
        had = weight if noise is None else weight - 1
        alpha = 1 / math.hypot(1, k[0])
        return update(self, outputs, *args, sample=sample, noise=noise, **more) + alpha * (2 * weight - had) * bend

    entry, stochastic = (ENTRIES[f"diffusers:DPMSolverMultistepScheduler/3M++{kind}"] for kind in ("", " sde"))

    def slope(entry, kind):
        error = law_error if entry.setting.stochastic else path_error
        (h, e), (k, f) = (error(entry.sampler(precision="double"), kind, n) for n in (144, 288))
        return math.log(e / f) / math.log(h / k)

    assert slope(entry, "graded") < 2.2 and slope(stochastic, "uniform") < 1.1
    monkeypatch.setattr(DPMSolverMultistepScheduler, "multistep_dpm_solver_third_order_update", repaired)
    assert slope(entry, "graded") > 2.8 and slope(stochastic, "uniform") > 1.9


@needs(diffusers)
def test_the_probe_gives_the_law_that_samples_have():
    """A wrong sampler is the better test: its law is far from the data's, and its samples agree with the probe."""
    entry = ENTRIES["diffusers:DPMSolverMultistepScheduler/3M++ sde"]
    law = GaussianMixture.gaussian(torch.tensor([MEAN]).double(), torch.tensor([[VARIANCE]]).double())
    ks, n = levels("rough", 18), 40_000
    torch.manual_seed(0)  # the library draws from the global generator
    start = law.noised(1.0, ks[0]).sample(n, generator=torch.Generator().manual_seed(1))
    run = entry.sampler(precision="native")(lambda x, a, s: law.posterior_mean(x.double(), a, s), start, ks)
    deviation = run.y[-1].std().item()
    probed = law_error(entry.sampler(precision="native"), "rough", 18)[1]
    exact = math.sqrt(VARIANCE + ks[-1] ** 2)
    assert probed > 0.05
    assert abs(abs(deviation - exact) - probed) < 4 * deviation / math.sqrt(2 * n)


@needs(diffusers)
def test_a_timestep_off_the_level_moves_a_point_mass():
    cell = foreign_timesteps.cell
    assert cell("DDIMScheduler", "leading", seed=0)["by_timestep"] < 1e-5
    assert cell("DDIMScheduler", "trailing", seed=0)["by_timestep"] > 0.01
    cut = cell("DPMSolverMultistepScheduler", "exponential", seed=0)
    assert cut["by_sigma"] < 1e-4 < 0.1 < cut["by_timestep"]


@needs(diffusers)
@needs(k_diffusion)
def test_a_cell_says_order_claim_and_verdict():
    row = foreign_schedulers.cell("k_diffusion:sample_euler", "uniform", seed=0)
    assert row["verdict"] == "HOLDS" and row["order"] == pytest.approx(1.0, abs=0.05) and row["point_mass"] < 1e-6
    lost = foreign_schedulers.cell("diffusers:DDPMScheduler/fixed_large_log", "uniform", seed=0)
    assert lost["verdict"] == "FAILS" and "leaves the finite numbers in call 1" in lost["problem"]


def test_the_studies_say_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "exactscore[diffusers]" in str(foreign_schedulers.available())
    assert "exactscore[diffusers]" in str(foreign_timesteps.available())


# --- as a target of a certificate, and a generic peer


@needs(diffusers)
@needs(k_diffusion)
@pytest.mark.parametrize(
    ("target", "ours"),
    [
        (lambda: diffusers.target("EulerDiscreteScheduler"), "ddim"),
        (lambda: diffusers.target("DPMSolverMultistepScheduler/2M++"), "dpm_pp.2m"),
        (lambda: diffusers.target("DPMSolverMultistepScheduler", solver_order=1), "ddim"),
        (lambda: k_diffusion.target("sample_heun"), "heun.k"),
        (lambda: k_diffusion.target("sample_heun", s_churn=0.0), "heun.k"),
    ],
)
def test_a_target_runs_as_our_solver_of_the_same_name(target, ours):
    made, process, law = target(), VPLinear(), LAWS["mixture_2d"]()
    grid, model = made.grid(process, 16), Exact(law, process)
    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    theirs, mine = made.run(model, x, grid), solve(SOLVERS[ours](), model, x, grid)
    assert (theirs.end - mine.end).abs().max() < 1e-11 and len(theirs.states) == 17
    assert theirs.evaluations == mine.evaluations == 16 * made.facts.evaluations
    assert isinstance(made, Target)
    assert (theirs.end - solve(SOLVERS["rk4.k"](), model, x, grid).end).abs().max() > 1e-6


@needs(diffusers)
def test_a_stochastic_target_takes_the_noise_it_is_given():
    made, process, law = diffusers.target("EulerAncestralDiscreteScheduler"), VPLinear(), LAWS["mixture_2d"]()
    grid, model, x = made.grid(process, 16), Exact(law, process), torch.zeros(3, 2, dtype=torch.float64)
    ends = [made.run(model, x, grid, noise=Independent(seed)).end for seed in (0, 0, 1)]
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
    assert load("diffusers:EulerAncestralDiscreteScheduler") == made
    with pytest.raises(ValueError, match="no sampler 'AmusedScheduler' that can run"):
        diffusers.target("AmusedScheduler")


@needs(torchdiffeq)
@pytest.mark.parametrize("kind", ["uniform", "rough"])
def test_a_fixed_step_method_of_torchdiffeq_has_its_order(kind):
    assert verdict(ENTRIES["torchdiffeq:heun3"], kind) is Verdict.HOLDS
    assert verdict(ENTRIES["torchdiffeq:midpoint"], kind, claimed=3) is Verdict.FAILS

"""A class shaped as a diffusers scheduler is run by its own calls; a wrong one fails, an unclear one is refused."""

import subprocess
import sys

import pytest
import torch

from studies.certificate import SECTIONS
from studies.target import load
from studies.testing import check_solver
from theory import VPLinear

FILE = '''
import math
import torch


class DDIM:
    """On alphas_cumprod, which trained_betas may give."""

    init_noise_sigma = 1.0
    prediction_type = "epsilon"

    def __init__(self, trained_betas=None, num_train_timesteps=1000, weight=1.0, final_alpha=1.0):
        betas = torch.linspace(1e-4, 0.02, num_train_timesteps) if trained_betas is None else trained_betas
        betas = torch.as_tensor(betas, dtype=torch.float32)
        self.alphas_cumprod = torch.cumprod(1 - betas, 0)
        self.count, self.weight, self.final_alpha = num_train_timesteps, weight, final_alpha

    def set_timesteps(self, n):
        self.stride = self.count // n
        self.timesteps = torch.arange(n).flip(0) * self.stride

    def step(self, model_output, timestep, sample, return_dict=True):
        t = int(timestep)
        a = self.alphas_cumprod[t]
        b = self.alphas_cumprod[t - self.stride] if t >= self.stride else torch.tensor(self.final_alpha)
        x0 = (sample - (1 - a).sqrt() * model_output) / a.sqrt()
        return (b.sqrt() * x0 + self.weight * (1 - b).sqrt() * model_output,)


class Own(DDIM):
    def __init__(self, weight=1.0):
        super().__init__(weight=weight)


class Noisy(DDIM):
    def step(self, model_output, timestep, sample):
        x = super().step(model_output, timestep, sample)[0]
        return x + 0.1 * torch.randn_like(x)


class Writes(DDIM):
    def step(self, model_output, timestep, sample):
        sample.mul_(1.01)
        return super().step(model_output, timestep, sample)


class NoStep:
    prediction_type = "epsilon"
    timesteps = ()

    def set_timesteps(self, n):
        pass


class NoGrid:
    timesteps = ()

    def step(self, model_output, timestep, sample):
        return sample


class Silent(DDIM):
    prediction_type = None


class NoLevels(DDIM):
    def set_timesteps(self, n):
        super().set_timesteps(n)
        del self.alphas_cumprod


class Euler:
    """Karras's levels, states with alpha = 1, and a network that reads them scaled."""

    prediction_type = "v_prediction"

    def __init__(self, scaled=True, begin=1.0):
        self.scaled, self.begin = scaled, begin

    def set_timesteps(self, n):
        self.sigmas = torch.cat([torch.linspace(10 ** 0.5, 0.1 ** 0.5, n, dtype=torch.float64) ** 2, torch.zeros(1)])
        self.timesteps = torch.arange(n)
        self.init_noise_sigma = self.begin * float(self.sigmas[0])

    def scale_model_input(self, sample, timestep):
        return sample / (self.sigmas[int(timestep)] ** 2 + 1) ** 0.5 if self.scaled else 0.5 * sample

    def step(self, model_output, timestep, sample):
        s, t = self.sigmas[int(timestep)], self.sigmas[int(timestep) + 1]
        x0 = sample / (s * s + 1) - model_output * s / (s * s + 1) ** 0.5
        return sample + (t - s) * (sample - x0) / s
'''
CHEAP = ("reproducible", "batches", "evaluations", "ratios")


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return lambda name, **config: load(f"{path}:{name}", {"order": 1} | config)


def test_a_right_scheduler_passes_and_a_wrong_coefficient_fails(target):
    found = check_solver(target("DDIM"), sections=(*CHEAP, "falls", "float32"))
    assert all(row.verdict == "HOLDS" for row in found)
    with pytest.raises(AssertionError, match="it stays, however small the steps"):
        check_solver(target("DDIM", weight=0.98), sections=("falls",))
    with pytest.raises(AssertionError, match="the model counts others"):
        check_solver(target("DDIM", start_up=1), sections=("evaluations",))


@pytest.mark.slow
def test_its_order_is_measured_on_every_grid(target):
    assert all(row.verdict == "HOLDS" for row in check_solver(target("DDIM"), sections=("orders",)))
    with pytest.raises(AssertionError, match="declared 2, measured 1"):
        check_solver(target("DDIM", order=2), sections=("orders",))


def test_levels_of_its_own_are_kept_and_other_grids_open(target):
    right = target("Own")
    found = check_solver(right, sections=(*CHEAP, "falls"))
    assert {row.fact: row.verdict for row in found if "step's" in row.fact} == {"one step's order": "OPEN"}
    assert all(row.verdict == "HOLDS" for row in found if row.fact.startswith(("input", "repro", "batch", "error")))
    grid = right.grid(right.on(VPLinear()), 19)
    table = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    assert float(grid.levels[0].lam) == pytest.approx(0.5 * float(torch.log(table[950] / (1 - table[950]))), abs=1e-9)
    with pytest.raises(AssertionError, match="it stays"):
        check_solver(target("Own", weight=0.98), sections=("falls",))


def test_states_with_alpha_one_and_a_scaled_input_are_understood(target):
    found = check_solver(target("Euler"), sections=("evaluations", "falls"))
    assert {row.fact: row.verdict for row in found}["error falls with the steps"] == "HOLDS"
    with pytest.raises(ValueError, match="must be told what its network reads, by --set input"):
        target("Euler", scaled=False)
    with pytest.raises(ValueError, match="by --set state"):
        target("Euler", begin=0.7)
    assert target("Euler", begin=0.7, state="ve").conventions.kind == "ve"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("NoStep", "must have step, as a scheduler has; it has set_timesteps, timesteps"),
        ("NoGrid", "must have set_timesteps"),
        ("Silent", "be told by --set prediction_type"),
        ("NoLevels", "must show the level of each of its"),
    ],
)
def test_what_is_not_shown_and_not_told_is_refused_in_one_sentence(target, name, why):
    with pytest.raises(ValueError, match=why) as error:
        target(name)
    assert str(error.value).count("\n") == 0 and str(error.value).endswith(".")


def test_an_entry_goes_where_its_name_is_known_or_is_refused(target):
    assert target("Silent", prediction_type="sample").conventions.prediction == "sample"
    with pytest.raises(ValueError, match="got 'colour'"):
        target("DDIM", colour=1)
    with pytest.raises(ValueError, match="must be one of epsilon, sample"):
        target("Silent", prediction_type="eps")


def test_noise_is_declared_and_then_given(target):
    silent = target("Noisy")
    with pytest.raises(ValueError, match="--set stochastic=true"):
        check_solver(silent, sections=("batches",))
    found = check_solver(
        target("Noisy", order=None, stochastic=True, weak_order=1), sections=("reproducible", "batches")
    )
    assert all(row.verdict == "HOLDS" for row in found)
    with pytest.raises(AssertionError, match="writes into its input"):
        check_solver(target("Writes"), sections=("reproducible",))


def test_the_floor_of_its_own_end_is_measured(target):
    def floor(**config):
        row = next(row for row in SECTIONS["end rule"](target("DDIM", **config), VPLinear()) if "own end" in row.fact)
        assert row.verdict == "OPEN"
        return float(row.measured), row.reason

    one, why = floor()
    assert why.endswith("it is x0 = D") and one == pytest.approx(8.9e-3, rel=0.02)
    other, why = floor(final_alpha=0.9)
    assert "from x0 = D" in why and other > 2 * one


def test_diffusers_is_not_needed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    code = (
        "import sys; sys.modules['diffusers'] = None\n"
        "from studies.target import load; from studies.testing import check_solver\n"
        f"print(len(check_solver(load({str(path) + ':DDIM'!r}, {{'order': 1}}), sections=('evaluations',))))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "1", run.stderr

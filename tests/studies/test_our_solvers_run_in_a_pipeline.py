"""Every solver gives under diffusers' protocol what ``solve`` gives, and a real pipeline runs it."""

import math
from types import SimpleNamespace

import pytest
import torch

from studies.adapters.pipeline import TrainedLevels, as_diffusers_scheduler
from theory import SOLVERS, Exact, solve, uniform_lambda
from theory.noise import Independent
from theory.process import LinearPath
from toy_distributions import LAWS, GaussianMixture

CONFIG = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LAW = LAWS["mixture_2d"]()


def start(n=5):
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def run(scheduler, network, x, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for t in scheduler.timesteps:
        xin = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(xin, float(t)), t, x, generator=generator).prev_sample
    return x


def answer(process, kind="epsilon", scale=1.0):
    def network(x, t):
        at = process.level(t / scale)
        x0 = LAW.posterior_mean(x, at.alpha, at.sigma)
        eps = (x - at.alpha * x0) / at.sigma
        return {"epsilon": eps, "sample": x0, "v_prediction": at.alpha * eps - at.sigma * x0}.get(kind, eps - x0)

    return network


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_gives_what_solve_gives(name):
    solver = SOLVERS[name]()
    scheduler = as_diffusers_scheduler(solver, CONFIG)
    process = scheduler._process
    scheduler.set_timesteps(6)
    here = run(scheduler, answer(process), start())
    grid = uniform_lambda(process, 6, start=process.lams[-1], end=process.lams[0])
    there = solve(solver, Exact(LAW, process), start(), grid, noise=Independent(1), last="denoise")
    assert len(scheduler.timesteps) == there.evaluations
    assert (here - there.end).abs().max() < 2e-5  # the pipeline's timesteps are float32


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_every_prediction_type_gives_one_run(kind):
    scheduler = as_diffusers_scheduler(SOLVERS["dpm_pp.2m"](), CONFIG | {"prediction_type": kind})
    scheduler.set_timesteps(10)
    end = run(scheduler, answer(scheduler._process, kind), start())
    plain = as_diffusers_scheduler(SOLVERS["dpm_pp.2m"](), CONFIG)
    plain.set_timesteps(10)
    assert (end - run(plain, answer(plain._process), start())).abs().max() < 1e-5
    wrong = as_diffusers_scheduler(SOLVERS["dpm_pp.2m"](), CONFIG | {"prediction_type": kind})
    wrong.set_timesteps(10)
    other = "sample" if kind == "epsilon" else "epsilon"
    assert (run(wrong, answer(wrong._process, other), start()) - end).abs().max() > 0.1


def test_a_straight_path_reads_a_velocity():
    scheduler = as_diffusers_scheduler(SOLVERS["heun.t"](), {"prediction_type": "flow_prediction"})
    scheduler.set_timesteps(40)
    assert 900 < float(scheduler.timesteps[0]) < 1000
    end = run(scheduler, answer(LinearPath(), "flow", 1000.0), start(400))
    assert (end.mean(0) - LAW.mean).abs().max() < 0.3


def test_a_schedule_of_levels_is_a_process():
    process = TrainedLevels(tuple(3.0 - 0.01 * i for i in range(700)))
    for t in (0.0, 0.5, 17.3, 699.0):
        at = process.level(t)
        assert math.isclose(at.lam, 3.0 - 0.01 * t, abs_tol=1e-12)
        assert math.isclose(process.time_at(at.lam), t, abs_tol=1e-9)
        assert math.isclose(at.lam_dot, -0.01, rel_tol=1e-9)
    many = process.level(torch.tensor([0.5, 17.3], dtype=torch.float64))
    assert torch.allclose(many.alpha**2 + many.sigma**2, torch.ones(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="fall strictly"):
        TrainedLevels((0.0, 1.0))


def test_misuse_is_answered_in_one_sentence():
    scheduler = as_diffusers_scheduler(SOLVERS["ddim"](), CONFIG)
    with pytest.raises(ValueError, match="set_timesteps must be called"):
        scheduler.step(start(), 3.0, start())
    scheduler.set_timesteps(4)
    with pytest.raises(ValueError, match="timestep must be the next"):
        scheduler.step(start(), float(scheduler.timesteps[1]), start())
    with pytest.raises(ValueError, match="prediction_type must be one of"):
        as_diffusers_scheduler(SOLVERS["ddim"](), {"prediction_type": "score"})
    with pytest.raises(ValueError, match="beta_schedule must be"):
        as_diffusers_scheduler(SOLVERS["ddim"](), {"beta_schedule": "cosine"})
    with pytest.raises(ValueError, match="begin_index=3"):
        scheduler.set_begin_index(3)


@pytest.mark.adapters
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_pipeline_of_diffusers_runs_our_solver():
    pipelines = pytest.importorskip("diffusers")
    process = as_diffusers_scheduler(SOLVERS["ddim"](), CONFIG)._process
    law = GaussianMixture.gaussian(torch.zeros(1).double(), torch.tensor([[0.04]]).double())

    class Net(torch.nn.Module):
        """The exact noise prediction of pixels that are independent N(0, 0.04)."""

        config = SimpleNamespace(sample_size=8, in_channels=3)
        device, dtype = torch.device("cpu"), torch.float32

        def forward(self, x, t):
            at = process.level(float(t))
            x0 = law.posterior_mean(x.double().unsqueeze(-1), at.alpha, at.sigma).squeeze(-1)
            return SimpleNamespace(sample=((x - at.alpha * x0) / at.sigma).to(x.dtype))

    ends = []
    for name in ("dpm_pp.2m", "heun.k"):
        pipe = pipelines.DDPMPipeline(unet=Net(), scheduler=as_diffusers_scheduler(SOLVERS[name](), CONFIG))
        pipe.set_progress_bar_config(disable=True)
        out = pipe(batch_size=4, generator=torch.Generator().manual_seed(0), num_inference_steps=60, output_type="np")
        ends.append(torch.as_tensor(out.images))
    assert abs(ends[0].std().item() / 0.1 - 1) < 0.1  # images are x / 2 + 1/2
    assert (ends[0] - ends[1]).abs().max() < 0.02

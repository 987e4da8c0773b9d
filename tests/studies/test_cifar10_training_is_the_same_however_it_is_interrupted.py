"""A run that was stopped or killed goes on to the losses and the weights of the run that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from studies.cifar10 import objective, train
from studies.cifar10.data import Cifar10
from studies.cifar10.network import SIZES, UNet
from studies.cifar10.objective import PARAMETERISATIONS
from theory.models import Exact
from theory.prediction import Kind, Prediction
from toy_distributions import GaussianMixture

TINY = SIZES["tiny"]
SETTINGS = train.Settings(size="tiny", images=96, batch=8, ema_images=40)


@pytest.fixture
def tiny(monkeypatch):
    """A network of a few thousand parameters and 40 images of noise, so that batches cross the ends of epochs."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 32, 32), generator=generator, dtype=torch.uint8)
    data = Cifar10(images, torch.randint(0, 10, (40,), generator=generator))
    monkeypatch.setattr(train, "load", lambda split: data)
    monkeypatch.setattr(train, "LOG_EVERY", 2)


def trained(folder: Path, settings: train.Settings, *, lines: int | None = None) -> train.Run:
    """A run taken to its end, or left alone after so many lines of its log."""
    run = train.Run(settings, folder)
    for count, _ in enumerate(train.train(run, save_every=0.0), 1):
        if count == lines:
            break
    return run


def weights(run: train.Run) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in (*run.network.parameters(), *run.ema)])


def test_an_interrupted_run_ends_where_the_other_ends(tiny, tmp_path):
    whole = trained(tmp_path / "whole", SETTINGS)
    for lines in (1, 2, 1):
        trained(tmp_path / "parts", SETTINGS, lines=lines)
    parts = trained(tmp_path / "parts", SETTINGS)
    assert train.read_log(tmp_path / "parts") == train.read_log(tmp_path / "whole")
    assert torch.equal(weights(parts), weights(whole))
    assert [line["step"] for line in train.read_log(tmp_path / "whole")] == [2, 4, 6, 8, 10, 12]


def test_another_seed_has_other_losses(tiny, tmp_path):
    trained(tmp_path / "0", SETTINGS)
    trained(tmp_path / "1", replace(SETTINGS, seed=1))
    assert train.read_log(tmp_path / "0")[0]["loss"] != train.read_log(tmp_path / "1")[0]["loss"]


def test_lines_after_the_checkpoint_are_dropped(tiny, tmp_path):
    trained(tmp_path, SETTINGS, lines=3)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write(json.dumps({"step": 8, "loss": 1e9}) + '\n{"step": 10, "lo')  # killed while it wrote
    trained(tmp_path, SETTINGS)
    assert max(line["loss"] for line in train.read_log(tmp_path)) < 10


def test_other_settings_in_the_same_folder_are_refused(tiny, tmp_path):
    trained(tmp_path, SETTINGS, lines=1)
    with pytest.raises(ValueError, match="must hold a run with the same settings"):
        trained(tmp_path, replace(SETTINGS, rate=1.0))
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="must be a checkpoint"):
        trained(tmp_path, SETTINGS)


@pytest.mark.parametrize("knob", [{"size": "huge"}, {"batch": 0}, {"rate": -1.0}, {"dtype": "int8"}, {"images": 3}])
def test_settings_that_cannot_be_are_refused(knob):
    with pytest.raises(ValueError, match=next(iter(knob))):
        replace(train.Settings(), **knob)


@pytest.mark.parametrize("name", PARAMETERISATIONS)
def test_the_perfect_network_has_the_least_loss_in_every_parameterisation(name):
    """On a Gaussian the exact denoiser's errors are its posterior variances; an answer that is off does worse."""
    law = GaussianMixture.gaussian(torch.zeros(3072), torch.full((3072,), 0.25))
    how, generator = PARAMETERISATIONS[name], torch.Generator().manual_seed(1)
    x0 = 0.5 * torch.randn(64, 3, 32, 32, dtype=torch.float64, generator=generator)
    answers: list[float] = []
    for off in (0.0, 0.3):

        def perfect(inner, noise, labels, off=off):
            at = how.process.level_at(-4 * noise.double())
            k = torch.as_tensor(at.k)[:, None, None, None]
            x = inner if how.kind else inner / objective.PRECONDITIONING.c_in(k)
            denoised = Exact(law, how.process)(x.flatten(1), at).x0.view_as(x)
            if how.kind is None:
                out = (denoised - objective.PRECONDITIONING.c_skip(k) * x) / objective.PRECONDITIONING.c_out(k)
                return out + off
            return off + getattr(Prediction(Kind.X0, denoised.flatten(1), x.flatten(1), at), name).view_as(x)

        found = objective.losses(perfect, how, x0, torch.zeros(64).long(), torch.Generator().manual_seed(2))
        k2 = torch.exp(-2 * found.lam)
        best = 0.25 * k2 / (0.25 + k2)
        answers.append((found.errors / best).mean().item())
    # each image's error is a mean of 3072 squares: relative standard deviation sqrt(2 / 3072), of 64 images 0.0032
    assert answers[0] == pytest.approx(1.0, abs=0.013)
    assert answers[1] > 1.02


def test_the_network_learns_and_heeds_noise_and_label():
    torch.manual_seed(0)
    network = UNet(**TINY)
    x, noise = torch.randn(4, 3, 32, 32), torch.tensor([-1.0, 0.0, 0.5, 1.0])
    assert torch.equal(network(x, noise), torch.zeros_like(x))  # it begins as the zero map
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    labels = torch.tensor([0, 1, 2, 3])
    for _ in range(30):
        optimiser.zero_grad()
        loss = ((network(x, noise, labels) - 0.5 * x) ** 2).mean()
        loss.backward()
        optimiser.step()
    assert loss < 0.5 * (0.25 * x**2).mean()
    with torch.no_grad():
        there = network(x, noise, labels)
        assert not torch.equal(there, network(x, noise + 0.1, labels))
        assert not torch.equal(there, network(x, noise, labels + 1))
        assert torch.equal(network(x, noise), network(x, noise, torch.full((4,), 10)))
        alone = torch.cat([network(x[i : i + 1], noise[i : i + 1], labels[i : i + 1]) for i in range(4)])
    assert torch.allclose(alone, there, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"channels": (8,)}, {"channels": (8, 12)}, {"blocks": 0}])
def test_networks_that_do_not_fit_together_are_refused(wrong):
    with pytest.raises(ValueError, match="channels"):
        UNet(**TINY | wrong)


@pytest.mark.slow
def test_five_kills_at_random_leave_the_loss_curve_as_it_is(tmp_path):
    script = """
import sys
from pathlib import Path
import torch
from studies.cifar10 import train
torch.set_num_threads(1)
train.LOG_EVERY = 2
run = train.Run(train.Settings(size="tiny", images=1600, batch=8), Path(sys.argv[1]))
for _ in train.train(run, save_every=0.05):
    pass
"""
    command = [sys.executable, "-c", script]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    dice = random.Random(0)
    for _ in range(5):
        process = subprocess.Popen([*command, str(tmp_path / "killed")])
        begun = time.monotonic()
        count = len(train.read_log(tmp_path / "killed"))
        while len(train.read_log(tmp_path / "killed")) < count + 3 and process.poll() is None:
            assert time.monotonic() - begun < 60
            time.sleep(dice.uniform(0.0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    assert train.read_log(tmp_path / "killed") == train.read_log(tmp_path / "whole")
    assert not [name for name in os.listdir(tmp_path / "whole") if name.endswith(".tmp")]

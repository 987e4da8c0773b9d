"""Train, go on, refuse, and hold the network against exact laws: as a user does it, on twelve images."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from studies import validate
from studies.cifar10 import served, train, training
from studies.cifar10.data import Cifar10
from studies.cifar10.loading import load
from studies.cli import main
from studies.discover import registry


@pytest.fixture(autouse=True)
def twelve_images(monkeypatch, tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 3, 32, 32), generator=generator, dtype=torch.uint8)
    monkeypatch.setattr(train, "load", lambda split: Cifar10(images, torch.arange(12) % 10))
    monkeypatch.setattr(training, "quickest", lambda settings, folder, device: (settings, 64.0))
    monkeypatch.setattr(training, "SAMPLE_STEPS", 2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXACTSCORE_HOME", str(tmp_path / "home"))


def run(*words: str):
    return CliRunner().invoke(main, [*words])


def test_training_writes_a_network_that_can_be_loaded_and_goes_on(tmp_path):
    folder = tmp_path / "mine"
    first = run(
        "train", "cifar10", "--size", "tiny", "--parameterisation", "v", "--images", "128", "--out", str(folder)
    )
    assert first.exit_code == 0, first.output
    card = json.loads((folder / "card.json").read_text())
    assert (card["images_seen"], card["parameterisation"]) == (128, "v")
    with Image.open(folder / "samples.png") as picture:
        assert picture.size == (320, 256)
    assert load(folder).conventions.labels == 10
    more = run("train", "cifar10", "--images", "192", "--parameterisation", "v", "--size", "tiny", "--out", str(folder))
    assert more.exit_code == 0, more.output
    assert [line["step"] for line in train.read_log(folder)] == [2, 3]
    assert json.loads((folder / "card.json").read_text())["images_seen"] == 192
    other = run("train", "cifar10", "--size", "small", "--images", "192", "--out", str(folder))
    assert other.exit_code == 2
    assert "must hold a run with the same settings" in other.output


def test_minutes_become_images_by_a_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "draw_samples", lambda run, path: None)
    folder = tmp_path / "timed"
    done = run("train", "cifar10", "--size", "tiny", "--minutes", "0.04", "--out", str(folder))
    assert done.exit_code == 0, done.output
    assert json.loads((folder / "card.json").read_text())["images_seen"] == 128  # 0.04 minutes at 64 a second


def test_the_trial_chooses_among_ways_that_all_work(tmp_path):
    chosen, speed = train.quickest(train.Settings(size="tiny", images=64, batch=2), tmp_path, "cpu", steps=1)
    assert speed > 0
    assert chosen.dtype in ("float32", "bfloat16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said():
    done = run("train", "cifar10", "--device", "cuda")
    assert done.exit_code == 2
    assert "torch sees none" in done.output


def test_a_network_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(validate.data, "unavailable", lambda download: None)
    done = run("validate", str(tmp_path / "nowhere"))
    assert done.exit_code == 2
    assert "nowhere" in done.output
    monkeypatch.setattr(served, "SHIPPED", Path(tmp_path / "nothing"))
    done = run("validate")
    assert done.exit_code == 2
    assert "train one with 'exactscore train cifar10'" in done.output


def test_validation_asks_the_network_studies_of_the_network_named(monkeypatch, tmp_path):
    monkeypatch.setattr(validate.data, "unavailable", lambda download: None)
    monkeypatch.setattr(training, "draw_samples", lambda run, path: None)
    folder = tmp_path / "mine"
    run("train", "cifar10", "--size", "tiny", "--images", "64", "--out", str(folder))
    found = validate.studies_of(str(folder))
    assert set(found) == {name for name in registry("studies").names() if name.startswith("network_")}
    before = {name: study.code for name, study in found.items()}
    assert all(study.axes["model"] == [str(folder)] for study in found.values())
    quick = validate.studies_of(str(folder), quick=True)
    assert 0 < sum(len(study.cells()) for study in quick.values()) < sum(len(study.cells()) for study in found.values())
    run("train", "cifar10", "--size", "tiny", "--images", "128", "--out", str(folder))
    after = validate.studies_of(str(folder))
    assert all(after[name].code != code for name, code in before.items())  # other weights, other results

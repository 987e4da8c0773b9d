"""A network in diffusers' format is taken by its own configuration, and answers as diffusers' own pipeline has it."""

import importlib.util
import json
import math
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from studies.adapters import diffusers
from studies.cifar10 import foreign
from studies.cifar10.conventions import Conventions, VPTable
from studies.cifar10.loading import load
from theory import EDM

pytestmark = [
    pytest.mark.adapters,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
needed = pytest.mark.skipif(diffusers.unavailable() is not None, reason=str(diffusers.unavailable()))
SCHEDULER = {"num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}
CONFIG = {
    "_class_name": "UNet2DModel",
    "sample_size": 32,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": None,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}


@pytest.fixture
def folder(tmp_path):
    """A tiny random network as diffusers itself saves it, beside the configuration of a scheduler."""
    torch.manual_seed(0)
    with diffusers.quiet():
        made(CONFIG).save_pretrained(tmp_path)
    (tmp_path / foreign.SCHEDULER).write_text(json.dumps(SCHEDULER))
    return tmp_path


def made(config):
    from diffusers import UNet2DModel  # pyright: ignore[reportMissingImports]

    return UNet2DModel(**{k: v for k, v in config.items() if k[0] != "_"}).eval()


@needed
@pytest.mark.parametrize("says", ["epsilon", "sample", "v_prediction"])
def test_its_denoiser_is_the_one_of_its_scheduler(folder, says):
    from diffusers import DDIMScheduler, UNet2DModel  # pyright: ignore[reportMissingImports]

    (folder / foreign.SCHEDULER).write_text(json.dumps(SCHEDULER | {"prediction_type": says}))
    with diffusers.quiet():
        theirs = UNet2DModel.from_pretrained(folder).eval()
    scheduler = DDIMScheduler(**SCHEDULER, prediction_type=says, clip_sample=False)
    scheduler.set_timesteps(1000)
    model = load(folder)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for t in (0, 371, 999):
        with torch.no_grad():
            x0 = scheduler.step(theirs(x, t).sample, t, x).pred_original_sample
            # the same on our process of alpha = 1, where the state is x / alpha
            at = EDM().level_at(model.process.level(float(t)).lam) if t < 999 else model.process.level(999.0)
            mine = (model.serving(EDM()) if t < 999 else model)(x * (at.alpha / alpha(t) if t < 999 else 1.0), at).x0
        assert torch.allclose(mine, x0, rtol=2e-4, atol=2e-4 * x0.abs().max().item()), t


def alpha(t):
    return math.sqrt(math.prod(1 - (1e-4 + (0.02 - 1e-4) * i / 999) for i in range(t + 1)))


@needed
def test_a_wrong_kind_or_index_is_seen(folder):
    """The control of the test above."""
    model = load(folder)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    right = model(x, model.process.level(371.0)).x0
    (folder / foreign.SCHEDULER).write_text(json.dumps(SCHEDULER | {"prediction_type": "v_prediction"}))
    other = load(folder)
    assert (other(x, other.process.level(371.0)).x0 - right).abs().max() > 1e-2 * right.abs().max()
    assert (model(x, model.process.level(372.0)).x0 - right).abs().max() > 1e-3 * right.abs().max()


@needed
def test_old_names_folders_and_torch_files_are_understood(folder):
    from safetensors.torch import load_file, save_file

    old = {new: name for name, new in foreign.RENAMED.items()}
    state = load_file(folder / foreign.WEIGHTS[0])
    for new, name in old.items():
        state = {key.replace(f".{new}.", f".{name}."): value for key, value in state.items()}
    assert any(".proj_attn." in key for key in state) and not any(".to_q." in key for key in state)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    first = load(folder)
    right = first(x, first.process.level(100.0)).x0
    save_file(state, folder / foreign.WEIGHTS[0])
    assert torch.equal(load(folder)(x, first.process.level(100.0)).x0, right)
    (folder / foreign.WEIGHTS[0]).unlink()
    torch.save(state, folder / foreign.WEIGHTS[1])
    assert torch.equal(load(folder)(x, first.process.level(100.0)).x0, right)
    for name, inside in ((foreign.CONFIG, "unet"), (foreign.WEIGHTS[1], "unet"), (foreign.SCHEDULER, "scheduler")):
        (folder / inside).mkdir(exist_ok=True)
        (folder / name).rename(folder / inside / name)
    assert torch.equal(load(folder)(x, first.process.level(100.0)).x0, right)


@needed
def test_labels_and_learnt_variances(tmp_path):
    torch.manual_seed(0)
    config = CONFIG | {"num_class_embeds": 10, "out_channels": 6}
    with diffusers.quiet():
        made(config).save_pretrained(tmp_path)
    (tmp_path / foreign.SCHEDULER).write_text(json.dumps(SCHEDULER))
    with pytest.raises(ValueError, match="no null label; it needs labels from 0 to 9"):
        load(tmp_path)
    # without labels there is no answer, so the caller gives them at once
    model = load(tmp_path, labels=torch.tensor([1, 2]))
    assert model(torch.zeros(2, 3072), model.process.level(5.0)).x0.shape == (2, 3072)


@needed
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "_class_name in .* must be 'UNet2DModel'; got UNet2DCond"),
        ({"in_channels": 4}, "in_channels in .* must be 3; got 4"),
        ({"sample_size": 256}, "sample_size in .* must be 32"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type"),
        ({"center_input_sample": True}, "center_input_sample"),
        ({"block_out_channels": [2048, 2048]}, "weights of its declared architecture, 75,497,472 and more"),
        ({"block_out_channels": [10**9]}, "block_out_channels must be"),
        ({"layers_per_block": 10**9}, "layers_per_block must be"),
        ({"layers_per_block": 2}, "it lacks"),
        ({"attention_head_dim": 10**9}, "small number or name"),
        ({"down_block_types": ["os.system", "os.system"]}, "must describe a UNet2DModel"),
    ],
)
def test_another_configuration_is_refused(folder, change, words):
    (folder / foreign.CONFIG).write_text(json.dumps(CONFIG | change))
    with pytest.raises(ValueError, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def scheduler(**changes):
    found = SCHEDULER | changes
    return {k: v for k, v in found.items() if v is not ...}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (scheduler(prediction_type="flow_prediction"), "must be one of epsilon, sample, v_prediction; got flow_pred"),
        (scheduler(beta_schedule=...), "lacks beta_schedule"),
        (scheduler(beta_schedule="exec"), "must be linear, scaled_linear or squaredcos_cap_v2; got exec"),
        (scheduler(beta_end=2), "betas in .0, 1."),
        (scheduler(num_train_timesteps=10**9), "2 to 100,000 steps"),
        (scheduler(rescale_betas_zero_snr=True), "rescale_betas_zero_snr is true"),
        (scheduler(trained_betas=[0.1, "x"]), "trained_betas"),
        (scheduler(trained_betas=[0.1, 1.5]), "two or more numbers in .0, 1."),
    ],
)
def test_a_scheduler_that_does_not_declare_is_refused(found, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        foreign.of_scheduler(found, tmp_path / foreign.SCHEDULER)


@needed
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_tables_are_those_of_diffusers(schedule, tmp_path):
    from diffusers import DDPMScheduler  # pyright: ignore[reportMissingImports]

    table, kind = foreign.of_scheduler(scheduler(beta_schedule=schedule), tmp_path)
    theirs = DDPMScheduler(**scheduler(beta_schedule=schedule)).betas.double()
    assert kind == "eps" and isinstance(table, VPTable)
    assert torch.allclose(torch.tensor(table.betas, dtype=torch.float64), theirs, rtol=2e-4, atol=1e-7)
    wrong, _ = foreign.of_scheduler(scheduler(beta_schedule=schedule, num_train_timesteps=1001), tmp_path)
    assert not torch.allclose(torch.tensor(wrong.betas[:1000], dtype=torch.float64), theirs, rtol=2e-4, atol=1e-7)


class Hub:
    """As much of huggingface_hub as is called, over a folder; ``asked`` keeps what was fetched."""

    constants = SimpleNamespace(ENDPOINT="https://hub.invalid")

    def __init__(self, folder, size=1000):
        self.folder, self.size, self.asked = folder, size, []

    def hf_hub_url(self, name, file):
        return file

    def get_hf_file_metadata(self, file):
        if not (self.folder / file).exists():
            raise OSError("404: no such file")
        return SimpleNamespace(size=self.size)

    def hf_hub_download(self, name, file, local_files_only=False):
        if local_files_only:
            raise OSError("not in the cache")
        self.asked.append((name, file))
        return str(self.folder / file)


def put(monkeypatch, hub):
    def chosen(name):
        return hub if name == "huggingface_hub" else import_module(name)

    monkeypatch.setattr(foreign, "importlib", SimpleNamespace(import_module=chosen, util=importlib.util))
    monkeypatch.setattr(foreign, "reach", lambda address: None)
    return hub


@needed
def test_a_hub_s_name_fetches_json_and_weights_alone(folder, monkeypatch):
    hub = put(monkeypatch, Hub(folder))
    model = load("google/ddpm-cifar10-32")
    assert model.conventions == Conventions("eps", model.process, "t", (-1.0, 1.0), 0, None)
    files = (foreign.CONFIG, foreign.SCHEDULER, foreign.WEIGHTS[0])
    assert hub.asked == [("google/ddpm-cifar10-32", name) for name in files]


def test_what_the_hub_has_not_is_refused(tmp_path, monkeypatch):
    put(monkeypatch, Hub(tmp_path))
    with pytest.raises(ValueError, match=r"must be on the hub, with config.json; it says: 404"):
        load("google/ddpm-cifar10-32")
    (tmp_path / foreign.CONFIG).write_text("{}")
    put(monkeypatch, Hub(tmp_path, size=2**40))
    with pytest.raises(ValueError, match="beyond 536,870,912"):
        load("google/ddpm-cifar10-32")

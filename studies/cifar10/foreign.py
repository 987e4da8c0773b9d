"""Networks in diffusers' format: a UNet2DModel's folder and its scheduler's table, from a disk or from the hub."""

import importlib
import importlib.util
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from studies.cifar10.batches import one_line
from studies.cifar10.conventions import Conventions, VPTable, finite, short, whole
from studies.cifar10.downloads import reach
from studies.cifar10.loading import fits, served
from studies.cifar10.model import NetworkModel
from studies.cifar10.tensors import LARGEST, Entry, read_into, read_json

CONFIG, SCHEDULER = "config.json", "scheduler_config.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
NEEDED = "a network in diffusers' format needs diffusers; run: pip install 'exactscore[diffusers]'"
SAYS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""How attention was spelled in files of before 2023."""


class DiffusersNetwork(nn.Module):
    """A UNet2DModel as F(x, time, label); of six channels the last three, a learnt variance, are left."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        return self.inner(x, time, class_labels=label, return_dict=False)[0][:, :3]


def from_hub(name: str) -> Path:
    """The folder with the files of a network of the hub, fetched into the hub's own cache."""
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ValueError(f"{name} is sought on the hub, which needs: pip install 'exactscore[hub]'.") from error

    def fetch(*choices: str) -> Path:
        for kept in filter(None, (_kept(hub, name, choice) for choice in choices)):
            return Path(kept)
        first: Exception | None = None
        for choice in choices:
            try:
                reach(hub.constants.ENDPOINT)  # one short try: the client itself retries for half a minute
                size = hub.get_hf_file_metadata(hub.hf_hub_url(name, choice)).size
                if not 0 < (size or 0) <= LARGEST:
                    raise ValueError(f"{choice} of {size or 0:,} bytes, beyond {LARGEST:,}")
                return Path(hub.hf_hub_download(name, choice))
            except Exception as error:  # the hub's exception types differ from release to release
                first = first or error
        raise ValueError(f"{name} must be on the hub, with {choices[0]}; it says: {one_line(short(str(first)))}.")

    def place(file: str) -> tuple[str, ...]:
        return (file, f"unet/{file}") if file != SCHEDULER else (file, f"scheduler/{file}")

    found = fetch(*place(CONFIG))
    fetch(*place(SCHEDULER))
    fetch(*(choice for file in WEIGHTS for choice in place(file)))
    return found.parent.parent if found.parent.name == "unet" else found.parent


def _kept(hub: Any, name: str, file: str) -> str | None:
    """The file's place in the hub's own cache, without a network."""
    with suppress(Exception):
        return hub.hf_hub_download(name, file, local_files_only=True)
    return None


def load(folder: Path, labels: Tensor | None = None) -> NetworkModel:
    """The UNet2DModel of a folder, with config.json and scheduler_config.json, alone or under unet/ and scheduler/.

    Its scheduler's betas and prediction_type are its conventions; images run from -1 to 1, the level is told as the
    index in the table, and there is no null label. Raises ValueError in one sentence for what is missing, of another
    kind or broken, and ImportError without diffusers.
    """
    config = _object(_first(folder, CONFIG, "unet"))
    path = _first(folder, SCHEDULER, "scheduler")
    least, known = _checked(config, folder)
    process, kind = of_scheduler(_object(path), path)
    conventions = Conventions(kind, process, "t", (-1.0, 1.0), known, None)
    weights = next((p for name in WEIGHTS for p in (folder / "unet" / name, folder / name) if p.exists()), None)
    if weights is None:
        raise ValueError(f"{folder} must hold {WEIGHTS[0]}; it does not.")
    built: list[nn.Module] = []

    def build(entries: Mapping[str, Entry]) -> dict[str, Tensor]:
        fits(weights, entries, least)
        built.append(_unet(config, folder))
        return built[0].state_dict()

    read_into(weights, build, sha256=None, rename=_renamed)
    return served(DiffusersNetwork(built[0]), conventions, labels)


def of_scheduler(found: Mapping[str, Any], path: Path) -> tuple[VPTable, str]:
    """The table and the kind that a scheduler's configuration declares.

    betas: linear, scaled_linear (linear in the square roots) or squaredcos_cap_v2, or listed as trained_betas. A
    missing prediction_type is epsilon, the format's own default, which files of before it have.
    """
    says = found.get("prediction_type", "epsilon")
    if not isinstance(says, str) or says not in SAYS:
        raise ValueError(f"prediction_type in {path} must be one of {', '.join(SAYS)}; got {short(says)}.")
    if found.get("rescale_betas_zero_snr"):
        raise ValueError(f"{path} must end with signal left; rescale_betas_zero_snr is true, and lambda is infinite.")
    if (trained := found.get("trained_betas")) is not None:
        if not isinstance(trained, list) or not all(map(finite, trained)):
            raise ValueError(f"trained_betas in {path} must be a list of numbers; got {short(trained)}.")
        return VPTable(tuple(trained)), SAYS[says]
    if missing := [n for n in ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end") if n not in found]:
        raise ValueError(f"{path} must declare its betas; it lacks {', '.join(missing)}.")
    n, schedule, first, last = (found[k] for k in ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end"))
    if not whole(n) or not 2 <= n <= 100_000 or not all(finite(b) and 0 < b < 1 for b in (first, last)):
        raise ValueError(
            f"{path} must have 2 to 100,000 steps and betas in (0, 1); "
            f"got {short(n)} steps, {short(first)} to {short(last)}."
        )
    u = [i / (n - 1) for i in range(n)]
    match schedule:
        case "linear":
            betas = [first + (last - first) * x for x in u]
        case "scaled_linear":
            betas = [(first**0.5 + (last**0.5 - first**0.5) * x) ** 2 for x in u]
        case "squaredcos_cap_v2":
            bar = [math.cos((i / n + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(n + 1)]
            betas = [min(1 - b / a, 0.999) for a, b in pairwise(bar)]
        case _:
            raise ValueError(
                f"beta_schedule in {path} must be linear, scaled_linear or squaredcos_cap_v2; got {short(schedule)}."
            )
    return VPTable(tuple(betas)), SAYS[says]


def _first(folder: Path, name: str, inside: str) -> Path:
    for path in (folder / inside / name, folder / name):
        if path.exists():
            return path
    raise ValueError(f"a folder in diffusers' format must hold {name}, alone or under {inside}/; {folder} does not.")


def _object(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold an object; got {type(found).__name__}.")
    return found


def _checked(config: Mapping[str, Any], folder: Path) -> tuple[int, int]:
    """The least number of weights that the configuration needs, and its number of labels."""
    wanted: dict[str, tuple[Any, ...]] = {
        "_class_name": ("UNet2DModel",),
        "sample_size": (32, [32, 32]),
        "in_channels": (3,),
        "out_channels": (3, 6),
        "center_input_sample": (False, None),
        "time_embedding_type": ("positional", None),
        "class_embed_type": (None,),
    }
    for name, accepted in wanted.items():
        if config.get(name) not in accepted or isinstance(config.get(name), float):
            shown = " or ".join(repr(a) for a in accepted if a is not None) or "absent"
            raise ValueError(f"{name} in {folder}'s {CONFIG} must be {shown}; got {short(config.get(name))}.")
    widths, layers = config.get("block_out_channels"), config.get("layers_per_block")
    if (
        not isinstance(widths, list)
        or not 1 <= len(widths) <= 6
        or not all(whole(c) and 4 <= c <= 2048 for c in widths)
    ):
        raise ValueError(f"block_out_channels must be 1 to 6 numbers from 4 to 2048; got {short(widths)}.")
    if not isinstance(layers, int) or not 1 <= layers <= 16:
        raise ValueError(f"layers_per_block must be a number from 1 to 16; got {short(layers)}.")
    labels = config.get("num_class_embeds") or 0
    if not whole(labels) or not 0 <= labels <= 100_000:
        raise ValueError(f"num_class_embeds must be a number up to 100,000; got {short(labels)}.")
    for name, value in config.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (abs(value) <= 10_000 if number else len(str(value)) <= 300):
            raise ValueError(f"{name} in {folder}'s {CONFIG} must be a small number or name; got {short(value)}.")
    return sum(layers * 9 * c * c for c in widths), labels


def _unet(config: Mapping[str, Any], folder: Path) -> nn.Module:
    if importlib.util.find_spec("diffusers") is None:
        raise ImportError(NEEDED)
    kind = importlib.import_module("diffusers").UNet2DModel
    try:
        return kind(**{name: value for name, value in config.items() if not name.startswith("_")})
    except Exception as error:  # whatever a library makes of a stranger's configuration is an answer, not a crash
        raise ValueError(f"{folder}'s {CONFIG} must describe a UNet2DModel; got: {short(str(error))}.") from error


def _renamed(name: str) -> str:
    found = re.fullmatch(r"(.*attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)", name)
    return name if found is None else f"{found[1]}.{RENAMED[found[2]]}.{found[3]}"

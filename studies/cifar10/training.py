"""A training run as a person sees it: a trial of what is fastest, a bar, sample grids, and the finished weights."""

import math
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from studies.cifar10 import cache
from studies.cifar10.conventions import of_training
from studies.cifar10.data import as_images
from studies.cifar10.loading import Card, save
from studies.cifar10.model import NetworkModel
from studies.cifar10.network import SIZES
from studies.cifar10.objective import BINS
from studies.cifar10.train import LOG_EVERY, Run, Settings, quickest, read_log, settings_in, train
from theory import EDM, SOLVERS, karras, solve

MINUTES = 60.0

SAMPLES_EVERY = 180.0
"""Seconds between two grids of samples."""

SAMPLE_STEPS = 18


def run_in_terminal(given: Mapping[str, Any], minutes: float | None, out: Path | None, device: str) -> None:
    """Begins a run, or goes on with the one in ``out``, and shows how it goes.

    given: those Settings that the person chose. Raises ValueError for settings other than those of the run in ``out``
    and for a device that is not there.
    """
    if device == "cuda":
        device = _join_others()
    wanted = Settings(**given)
    folder = out or Path(".exactscore/networks") / f"{wanted.size}-{wanted.parameterisation}"
    theirs = settings_in(folder)
    first = not dist.is_initialized() or dist.get_rank() == 0
    say = lambda line: print(f"exactscore: {line}", file=sys.stderr, flush=True) if first else None
    if theirs is None:
        settings, speed = quickest(wanted, folder, device)
        if "images" not in given:
            images = int(60 * (minutes or MINUTES) * speed / settings.batch) * settings.batch
            settings = replace(settings, images=max(images, settings.batch))
        layout = "channels_last" if settings.channels_last else "contiguous"
        say(f"{settings.dtype}, {layout}{', compiled' * settings.compiled} is fastest: {speed:.0f} images/s.")
    else:
        settings = replace(theirs, **given)
    run = Run(settings, folder, device)
    say(f"{settings.images:,} images in {settings.steps:,} steps, in {folder}{'; goes on' if theirs else ''}.")
    _watch(run, say, first)
    if first:
        card = finish(run)
        say(f"written: {folder} (loss {card.loss:.4f}); 'exactscore validate {folder}' says what it does.")


def draw_samples(run: Run, path: Path) -> None:
    """Eight samples of each class by the averaged weights, from the same noise every time, as one picture."""
    from PIL import Image

    labels = torch.arange(80) % 10
    model = NetworkModel(run.averaged(), of_training(run.settings.parameterisation, run.network.labels), EDM(), labels)
    grid = karras(EDM(), SAMPLE_STEPS, start=-math.log(80.0), end=-math.log(0.02))
    z = torch.randn(80, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(run.device)
    with torch.no_grad():
        end = solve(SOLVERS["dpm_pp.2m"](), model, 80.0 * z, grid, last="denoise", keep=False).end
    pixels = as_images(end.flatten(1).cpu()).view(8, 10, 3, 32, 32).permute(0, 3, 1, 4, 2).reshape(256, 320, 3)
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    Image.fromarray(pixels.numpy()).save(fresh, format="PNG")
    fresh.replace(path)


def finish(run: Run) -> Card:
    """Writes the averaged weights and their card into the run's folder."""
    lines = read_log(run.folder)[-20:]
    sums = torch.tensor([line["errors"] for line in lines]).sum(0)
    counts = torch.tensor([line["counts"] for line in lines]).sum(0)
    middles = (BINS[1:] + BINS[:-1]) / 2
    errors = {
        f"{lam:.2f}": float(total / count)
        for lam, total, count in zip(middles.tolist(), sums[1:-1], counts[1:-1], strict=True)
        if count > 0
    }
    s = run.settings
    return save(
        run.averaged(),
        run.folder,
        name=f"{s.size}-{s.parameterisation}",
        architecture={"labels": run.network.labels, **SIZES[s.size]},
        parameterisation=s.parameterisation,
        data_sha256=cache.KNOWN["train_images"][1],
        settings=asdict(s),
        images_seen=run.step * s.batch,
        seconds=round(run.seconds, 1),
        hardware=_hardware(run.device),
        loss=sum(line["loss"] for line in lines) / len(lines),
        errors=errors,
    )


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} threads, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def _watch(run: Run, say: Any, first: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (first and console.is_terminal)) as bar:
        task = bar.add_task("", total=run.settings.steps)
        said = seen = drawn = time.monotonic()
        for line in train(run):
            now = time.monotonic()
            speed, seen = LOG_EVERY * run.settings.batch / max(now - seen, 1e-9), now
            told = f"loss {line['loss']:.4f}, {speed:.0f} images/s"
            bar.update(task, completed=run.step, description=told)
            if first and (now - drawn > SAMPLES_EVERY or run.step == run.settings.steps):
                draw_samples(run, run.folder / "samples.png")
                drawn = seen = time.monotonic()
            if not console.is_terminal and (now - said > 30 or run.step == run.settings.steps):
                left = (run.settings.steps - run.step) * run.settings.batch / speed / 60
                say(f"step {run.step:,} of {run.settings.steps:,}, {told}, {left:.0f} min left.")
                said = now


def _join_others() -> str:
    """This process's GPU; under torchrun, after joining the others."""
    if not torch.cuda.is_available():
        raise ValueError("device 'cuda' needs a CUDA device, and torch sees none; use 'cpu'.")
    if "RANK" not in os.environ:
        return "cuda"
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl")
    return f"cuda:{os.environ['LOCAL_RANK']}"

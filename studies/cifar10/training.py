"""A training run as a person sees it: a trial of what is fastest, a bar, sample grids, and the finished weights."""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from studies.cifar10.train import LOG_EVERY, Run, Settings, quickest, settings_in, train

MINUTES = 60.0


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


def _watch(run: Run, say: Any, first: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (first and console.is_terminal)) as bar:
        task = bar.add_task("", total=run.settings.steps)
        said = seen = time.monotonic()
        for line in train(run):
            now = time.monotonic()
            speed, seen = LOG_EVERY * run.settings.batch / max(now - seen, 1e-9), now
            told = f"loss {line['loss']:.4f}, {speed:.0f} images/s"
            bar.update(task, completed=run.step, description=told)
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

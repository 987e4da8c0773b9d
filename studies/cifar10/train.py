"""Training on CIFAR-10: deterministic step by step, resumable after any end, on a CPU, a GPU, or several.

Whatever a step draws comes from a seed made of the run's and the step's number, and the learning rate depends on the
step alone, so that a run that was killed has, from its last checkpoint on, the losses that it would have had.
"""

import json
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from studies.cifar10.data import load
from studies.cifar10.network import SIZES, UNet
from studies.cifar10.objective import (
    BINS,
    PARAMETERISATIONS,
    label_dropped,
    losses,
    step_seed,
    warm_stable_decay,
)

WARM = 100
"""Steps over which the learning rate rises."""

LOG_EVERY = 50
"""Steps summed up in one line of the log."""


@dataclass(frozen=True)
class Settings:
    """What decides a run, all of it: two runs with equal settings on equal machines have equal losses, bit by bit."""

    size: str = "small"
    parameterisation: str = "edm"
    images: int = 1_000_000
    batch: int = 64
    rate: float = 1.5e-3
    ema_images: int = 20_000
    label_dropout: float = 0.15
    seed: int = 0
    dtype: str = "float32"
    channels_last: bool = True
    compiled: bool = False

    def __post_init__(self):
        for name, known in (("size", SIZES), ("parameterisation", PARAMETERISATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}.")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be 'float32' or 'bfloat16'; got {self.dtype!r}.")
        if not 1 <= self.batch <= self.images:
            raise ValueError(f"images must be at least one batch; got images={self.images}, batch={self.batch}.")
        if not (self.rate > 0 and self.ema_images > 0 and 0 <= self.label_dropout < 1):
            raise ValueError(
                f"rate and ema_images must be positive, label_dropout in [0, 1); "
                f"got {self.rate}, {self.ema_images}, {self.label_dropout}."
            )

    @property
    def steps(self) -> int:
        return self.images // self.batch

    def network(self) -> UNet:
        """A fresh network of this size, the same for equal seeds."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return UNet(**SIZES[self.size])


class Run:
    """A training run in a folder, which holds log.jsonl and checkpoint.pt, always a whole one."""

    def __init__(self, settings: Settings, folder: Path, device: str = "cpu"):
        self.settings, self.folder, self.device = settings, folder, torch.device(device)
        self.how = PARAMETERISATIONS[settings.parameterisation]
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if settings.batch % self.ranks:
            raise ValueError(f"batch must be a multiple of the {self.ranks} processes; got batch={settings.batch}.")
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.network = settings.network().to(self.device, memory_format=layout)  # pyright: ignore[reportCallIssue]
        self.forward = torch.compile(self.network) if settings.compiled else self.network
        self.ema = [p.detach().clone() for p in self.network.parameters()]
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=settings.rate, betas=(0.9, 0.99), fused=True, eps=1e-8
        )
        self.step, self.seconds = 0, 0.0
        self.data = load("train")
        self._order = (-1, torch.empty(0))
        self._sums = torch.zeros(2, len(BINS) + 1, dtype=torch.float64)

    def batch(self) -> tuple[Tensor, Tensor, torch.Generator]:
        """This process's share of the step's images in [-1, 1] and labels, and the step's generator."""
        s = self.settings
        generator = torch.Generator().manual_seed(step_seed(s.seed, self.step))
        places = torch.arange(self.step * s.batch, (self.step + 1) * s.batch)
        epochs = (places // len(self.data.labels)).unique_consecutive(return_counts=True)
        parts = places.remainder(len(self.data.labels)).split(epochs[1].tolist())
        index = torch.cat([self._order_of(int(e))[part] for e, part in zip(epochs[0], parts, strict=True)])
        labels = label_dropped(self.data.labels[index], self.network.labels, s.label_dropout, generator)
        share = slice(self.rank * s.batch // self.ranks, (self.rank + 1) * s.batch // self.ranks)
        images = self.data.images[index[share]].to(self.device).float().div_(127.5).sub_(1.0)
        if s.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.rank:  # every process its own noise
            generator.manual_seed(step_seed(s.seed + 1000 * self.rank, self.step))
        return images, labels[share].to(self.device), generator

    def _order_of(self, epoch: int) -> Tensor:
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(step_seed(self.settings.seed, -1 - epoch))
            self._order = (epoch, torch.randperm(len(self.data.labels), generator=generator))
        return self._order[1]

    def advance(self) -> Tensor:
        """One step. Returns its loss, not yet waited for."""
        s = self.settings
        images, labels, generator = self.batch()
        for group in self.optimiser.param_groups:
            group["lr"] = s.rate * warm_stable_decay(self.step, s.steps, warm=WARM)
        self.optimiser.zero_grad(set_to_none=True)
        with self.precision():
            found = losses(self.forward, self.how, images, labels, generator)
        found.loss.backward()
        self._share_gradients()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        rate = 1 - math.exp(-s.batch / min(s.ema_images, 0.1 * self.step * s.batch))
        torch._foreach_lerp_(self.ema, list(self.network.parameters()), rate)  # pyright: ignore[reportPrivateImportUsage]
        bins = torch.bucketize(found.lam.float(), BINS)
        self._sums[0].index_add_(0, bins, found.errors.double().cpu())
        self._sums[1].index_add_(0, bins, torch.ones(len(bins), dtype=torch.float64))
        return found.loss.detach()

    def precision(self) -> AbstractContextManager[Any]:
        if self.settings.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.settings.dtype))

    def _share_gradients(self) -> None:
        if self.ranks > 1:
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            flat = torch.cat([g.reshape(-1) for g in gradients])
            dist.all_reduce(flat)
            flat /= self.ranks
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def line(self, loss: float) -> dict[str, Any]:
        """One line of the log: the loss, and sums and counts of the denoiser's errors by bins of lambda."""
        sums, counts = self._sums.tolist()
        self._sums.zero_()
        return {"step": self.step, "loss": loss, "errors": sums, "counts": counts}

    def save(self) -> None:
        """Replaces the checkpoint by one of now, at once or not at all."""
        if self.rank:
            return
        state = {
            "settings": asdict(self.settings),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "ema": self.ema,
            "optimiser": self.optimiser.state_dict(),
        }
        fresh = self.folder / f"checkpoint.{os.getpid()}.tmp"
        with fresh.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.folder / "checkpoint.pt")

    def restore(self) -> bool:
        """Goes on from the checkpoint, if there is one; lines of the log that came after it are dropped.

        Raises ValueError if the folder holds a run with other settings.
        """
        theirs = settings_in(self.folder)
        if theirs is None:
            (self.folder / "log.jsonl").unlink(missing_ok=True)
            return False
        if replace(theirs, images=self.settings.images) != self.settings:
            raise ValueError(
                f"the folder {self.folder} must hold a run with the same settings; got one with {theirs}. "
                "Name another folder with --out, or remove this one."
            )
        state = _checkpoint(self.folder, self.device)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for mine, saved in zip(self.ema, state["ema"], strict=True):
            mine.copy_(saved)
        self.step, self.seconds = state["step"], state["seconds"]
        if not self.rank:
            kept = [line for line in read_log(self.folder) if line["step"] <= self.step]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            (self.folder / "log.jsonl").write_text(text)
        return True

    def averaged(self) -> UNet:
        """A copy of the network with the averaged weights, ready to be used."""
        copy = self.settings.network().to(self.device)
        copy.load_state_dict(self.network.state_dict())
        for parameter, value in zip(copy.parameters(), self.ema, strict=True):
            parameter.data.copy_(value)
        return copy.eval()


def _checkpoint(folder: Path, device: torch.device | str) -> dict[str, Any]:
    path = folder / "checkpoint.pt"
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} must be a checkpoint of a training run; torch says: {str(error)[:200]}") from error


def settings_in(folder: Path) -> Settings | None:
    """The settings of the run in a folder, None if it holds no checkpoint."""
    if not (folder / "checkpoint.pt").exists():
        return None
    return Settings(**_checkpoint(folder, "cpu")["settings"])


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last one cut short by the end of the process is left out."""
    path = folder / "log.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def train(run: Run, *, save_every: float = 60.0, now: Callable[[], float] = time.monotonic) -> Iterator[dict[str, Any]]:
    """Trains to the end, and yields the log's lines as they come. The checkpoint is saved when a line is due, at most
    every ``save_every`` seconds, and at the end."""
    run.folder.mkdir(parents=True, exist_ok=True)
    run.restore()
    begun, saved, total = now() - run.seconds, now(), torch.zeros(())
    while run.step < run.settings.steps:
        total = total + run.advance()
        if run.step % LOG_EVERY == 0 or run.step == run.settings.steps:
            since = (run.step - 1) % LOG_EVERY + 1
            line = run.line(total.item() / since)
            if not math.isfinite(line["loss"]):
                raise ValueError(f"the loss must stay finite; got {line['loss']} near step {run.step}. Lower --rate.")
            total = torch.zeros(())
            run.seconds = now() - begun
            if not run.rank:
                with (run.folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
            if now() - saved > save_every or run.step == run.settings.steps:
                run.save()
                saved = now()
            yield line | {"seconds": run.seconds}


def quickest(settings: Settings, folder: Path, device: str, *, steps: int = 3) -> tuple[Settings, float]:
    """The settings with the fastest arithmetic and layout, by a short trial of each, and its images a second."""
    ways = [replace(settings, dtype=d, channels_last=c) for d in ("float32", "bfloat16") for c in (True, False)]
    if device.startswith("cuda"):
        ways += [replace(way, compiled=True) for way in ways if way.channels_last]
    speeds: dict[Settings, float] = {}
    for way in ways:
        run = Run(way, folder, device)
        run.advance()  # the first step also allocates, chooses kernels and compiles
        begun, taken = time.perf_counter(), 0
        while taken < steps and (taken == 0 or time.perf_counter() - begun < 5):
            run.advance().item()
            taken += 1
        speeds[way] = taken * settings.batch / (time.perf_counter() - begun)
    best = max(speeds, key=lambda way: speeds[way])
    return best, speeds[best]

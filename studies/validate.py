"""The studies of trained networks, asked of one network: the shipped one, or a user's."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from studies.cifar10 import data, served
from studies.discover import registry
from studies.store import Value
from studies.study import Study

QUICK: Mapping[str, Mapping[str, list[Value]]] = {
    "network_orders": {"solver": ["ddim", "heun.k", "dpm_pp.2m", "unipc.2", "dpm.3"], "steps": [5, 10, 20, 40, 80]},
    "network_errors": {"lam": [-2.0, 0.0, 2.0, 4.0]},
    "network_bounds": {},
    "network_paths": {},
    "network_samples": {"solver": ["ddim", "dpm_pp.2m"], "steps": [5, 20]},
    "network_distances": {"solver": ["ddim", "sde_dpm_pp.2m"], "steps": [5, 10]},
    "network_guidance": {"scale": [1.0, 3.0]},
}
"""Axes that a quick validation shortens, by study; it leaves out the studies that are not here."""


def studies_of(model: str, *, quick: bool = False) -> dict[str, Study]:
    """The network studies with ``model`` in place of the shipped one, by name; guidance if it has a null label.

    Raises ValueError, before anything is measured, if the model or the data cannot be had.
    """
    reason = served.unavailable(model) or data.unavailable(download=True)
    if reason:
        raise ValueError(f"cannot validate {model}: {reason}")
    known = model != "shipped" and Path(model).exists()
    name = str(Path(model).resolve()) if known else model  # else a hub's name, or nothing
    guided = served.network(name).conventions.null_label is not None  # a broken network is said at once
    found = {}
    studies = registry("studies")
    for key in studies.names():
        study = studies[key]
        if "model" not in study.axes or (quick and key not in QUICK):
            continue
        if "scale" in study.axes and not guided:
            continue
        axes = {**study.axes, **(QUICK[key] if quick else {}), "model": [name]}
        found[key] = replace(study, axes=axes, rests_on=partial(study.rests_on or served.digest, name))
    return found

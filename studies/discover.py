"""Finding what there is: the registries, and the modules of studies.claims and studies.sweeps that enter into them."""

import importlib
import pkgutil
from functools import cache

from toy_distributions.registry import Registry


@cache
def discover() -> None:
    """Import all claims and studies, so that a new one is one new file. Raises ImportError that names a broken file."""
    import studies.claims
    import studies.sweeps

    for package in (studies.claims, studies.sweeps):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            try:
                importlib.import_module(module.name)
            except Exception as error:
                raise ImportError(f"{module.name} cannot be imported; {type(error).__name__}: {error}") from error


def registry(room: str) -> Registry:
    """The full registry of "laws", "processes", "solvers", "claims" or "studies"."""
    if room == "laws":
        from toy_distributions import LAWS

        return LAWS
    if room in ("processes", "solvers"):
        from theory import PROCESSES, SOLVERS

        return PROCESSES if room == "processes" else SOLVERS
    from studies.claim import CLAIMS
    from studies.study import STUDIES

    discover()
    return CLAIMS if room == "claims" else STUDIES

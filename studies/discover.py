"""Finding claims and studies: every module of studies.claims and studies.sweeps enters its own when imported."""

import importlib
import pkgutil
from functools import cache


@cache
def discover() -> None:
    """Import all claims and studies, so that a new one is one new file."""
    import studies.claims
    import studies.sweeps

    for package in (studies.claims, studies.sweeps):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")

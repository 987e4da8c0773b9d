"""Finding claims and studies: every module of studies.claims and studies.sweeps enters its own when imported."""

import importlib
import pkgutil
from functools import cache


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

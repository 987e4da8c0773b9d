"""Solvers with one expression written wrongly, by hand: what a certificate has to reject.

A mutant is the source of a solver's own file with one expression replaced, which has to stand there exactly as often as
is said; so it keeps every fact that the right solver declares, and keeps none of the promise.
"""

import importlib
import inspect
import re
import sys
from dataclasses import dataclass
from types import ModuleType

from theory.solvers.base import Solver


@dataclass(frozen=True)
class Mutant:
    """One wrong expression. maker: the class or function of ``file`` that makes the solver, with no arguments.

    name: a registry name of the right solver and what is wrong, "dpm_pp.2m: inverted ratio". times: how often the old
    expression stands in the file; all of them are replaced.
    """

    name: str
    file: str
    maker: str
    old: str
    new: str
    times: int = 1

    @property
    def original(self) -> str:
        return self.name.split(":")[0]

    def right(self) -> Solver:
        """The solver as it stands in the library."""
        return getattr(importlib.import_module(f"theory.solvers.{self.file}"), self.maker)()

    def wrong(self) -> Solver:
        """The solver with the expression replaced. Raises ValueError unless the old one stands there as often as said.

        The changed file is a module of its own, whose makers are not entered into the registry.
        """
        name = f"mutant_{self.file}_{abs(hash(self))}"
        if name not in sys.modules:
            source = inspect.getsource(importlib.import_module(f"theory.solvers.{self.file}"))
            if source.count(self.old) != self.times:
                raise ValueError(
                    f"{self.name} replaces {self.old!r}, which must stand {self.times} times in {self.file}.py; "
                    f"it stands there {source.count(self.old)} times."
                )
            module = ModuleType(name)
            sys.modules[name] = module  # dataclasses look their module up
            text = re.sub(r'^@SOLVERS\.add\("[^"]*"\)\n', "", source.replace(self.old, self.new), flags=re.MULTILINE)
            exec(compile(text, f"<{self.name}>", "exec"), module.__dict__)
        return getattr(sys.modules[name], self.maker)()

"""Samplers: frozen dataclasses with a pure ``step``, run by ``solve`` and found by name in ``SOLVERS``."""

import importlib
import pkgutil

from theory.solvers.adams import AdamsBashforth
from theory.solvers.ancestral import Ancestral, GeometricMidpoint
from theory.solvers.base import SOLVERS, Exactness, Facts, Moves, Solver, Step, Trajectory, solve
from theory.solvers.churn import Churn
from theory.solvers.ddim import DDIM
from theory.solvers.ddpm import DDPM
from theory.solvers.dpm import DPM2, DPM3, DPM12, DPM23, DPMFast
from theory.solvers.dpm_pp import DPMpp2M, DPMpp2S, DPMpp3M, DPMpp3S
from theory.solvers.dpm_v3 import DPMv3
from theory.solvers.er_sde import ERSDE
from theory.solvers.euler_heun import Euler, Heun
from theory.solvers.euler_maruyama import EulerMaruyama
from theory.solvers.langevin import AnnealedLangevin, PredictorCorrector
from theory.solvers.pndm import PseudoRungeKutta
from theory.solvers.quasi_taylor import QuasiTaylor
from theory.solvers.restart import Restart
from theory.solvers.runge_kutta import RungeKutta
from theory.solvers.sa_solver import SASolver
from theory.solvers.sde_dpm import SDEDPM
from theory.solvers.seeds import SEEDS
from theory.solvers.splitting import Split
from theory.solvers.unipc import ExponentialAdams

__all__ = [
    "DDIM",
    "DDPM",
    "DPM2",
    "DPM3",
    "DPM12",
    "DPM23",
    "ERSDE",
    "SDEDPM",
    "SEEDS",
    "SOLVERS",
    "AdamsBashforth",
    "Ancestral",
    "AnnealedLangevin",
    "Churn",
    "DPMFast",
    "DPMpp2M",
    "DPMpp2S",
    "DPMpp3M",
    "DPMpp3S",
    "DPMv3",
    "Euler",
    "EulerMaruyama",
    "Exactness",
    "ExponentialAdams",
    "Facts",
    "GeometricMidpoint",
    "Heun",
    "Moves",
    "PredictorCorrector",
    "PseudoRungeKutta",
    "QuasiTaylor",
    "Restart",
    "RungeKutta",
    "SASolver",
    "Solver",
    "Split",
    "Step",
    "Trajectory",
    "solve",
]

for _module in pkgutil.iter_modules(__path__):  # a new solver is one new file: importing it enters it into SOLVERS
    importlib.import_module(f"{__name__}.{_module.name}")

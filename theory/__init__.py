"""The mathematics of noise processes, models, solvers, exact output laws and divergences. No files, no plots."""

from theory.estimate import Estimate, Range, Verdict, at_least, at_most, near
from theory.grid import GRIDS, TimeGrid, karras, log_snr_power, quadratic, uniform_lambda, uniform_time
from theory.laws import Transported, affine_map, law_of
from theory.models import Counted, Exact, Model, Perturbed, Thresholded
from theory.noise import Brownian, Independent, PerRow, no_noise
from theory.prediction import Kind, Prediction
from theory.process import (
    EDM,
    PROCESSES,
    VE,
    Level,
    LinearPath,
    NoiseProcess,
    SubVP,
    TrigonometricPath,
    VPCosine,
    VPLinear,
)
from theory.solvers import SOLVERS, Solver, Trajectory, solve

__all__ = [
    "EDM",
    "GRIDS",
    "PROCESSES",
    "SOLVERS",
    "VE",
    "Brownian",
    "Counted",
    "Estimate",
    "Exact",
    "Independent",
    "Kind",
    "Level",
    "LinearPath",
    "Model",
    "NoiseProcess",
    "PerRow",
    "Perturbed",
    "Prediction",
    "Range",
    "Solver",
    "SubVP",
    "Thresholded",
    "TimeGrid",
    "Trajectory",
    "Transported",
    "TrigonometricPath",
    "VPCosine",
    "VPLinear",
    "Verdict",
    "affine_map",
    "at_least",
    "at_most",
    "karras",
    "law_of",
    "log_snr_power",
    "near",
    "no_noise",
    "quadratic",
    "solve",
    "uniform_lambda",
    "uniform_time",
]

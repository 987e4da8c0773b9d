"""Solvers with one expression written wrongly, by hand: what a certificate has to reject."""

from studies.mutants.base import Mutant
from studies.mutants.multistep import MULTISTEP
from studies.mutants.single_step import SINGLE_STEP
from studies.mutants.stochastic import STOCHASTIC

__all__ = ["MUTANTS", "Mutant"]

MUTANTS = {mutant.name: mutant for mutant in (*SINGLE_STEP, *MULTISTEP, *STOCHASTIC)}

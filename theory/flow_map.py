"""FlowMap: the exact probability-flow map of a Gaussian as a solver, to be wrapped by churn, restart or correctors."""

from dataclasses import dataclass

from theory.reference import gaussian_flow
from theory.solvers.base import Facts, Solver, Step
from toy_distributions.mixture import GaussianMixture


@dataclass(frozen=True)
class FlowMap(Solver):
    """A step without discretisation error on N(m, V) data: what a wrapper does to the law is then all there is to see.

    It knows the law, so it is no entry of SOLVERS, and it leaves the model uncalled.
    """

    law: GaussianMixture

    @property
    def facts(self) -> Facts:
        return Facts(order=None, evaluations=0)

    def step(self, model, x, s, t, memory, noise) -> Step:
        return Step(gaussian_flow(self.law, x, s, t))

"""Quasi-Taylor samplers: the coefficients of DDIM, truncated as Taylor polynomials in the step of time."""

import math
from dataclasses import dataclass

import torch

from theory.prediction import Kind
from theory.process import Level, NoiseProcess
from theory.solvers.base import SOLVERS, Facts, Solver, Step


@dataclass(frozen=True)
class QuasiTaylor(Solver):
    r"""x_t = rho x_s + mu eps(x_s), rho and mu Taylor polynomials of degree ``degree`` in h = t_s - t_t of

        rho = alpha_{s-h} / alpha_s,        mu = sigma_{s-h} - (alpha_{s-h} / alpha_s) sigma_s,

    the coefficients of DDIM. The paper writes them in beta and its derivatives, as the expansion of the flow that the
    score would have if the data were one point; the two agree term by term.

    Order: ``degree`` on a point mass, where DDIM is exact and only the truncation errs. On any other law 1 at every
    degree, since the limit is DDIM. With sigma_s -> 0 the terms of mu grow like h / t: steps must stay below t.
    Source: tachibana2021quasi, section 3.
    """

    degree: int = 2

    def __post_init__(self):
        if self.degree not in (1, 2, 3):
            raise ValueError(f"degree must be 1, 2 or 3; got degree={self.degree}.")

    @property
    def facts(self) -> Facts:
        return Facts(order=1, evaluations=1, reads=Kind.EPS)

    def step(self, model, x, s, t, memory, noise) -> Step:
        alphas, sigmas = _derivatives(model.process, s, self.degree)
        h, rho, sigma = float(s.t - t.t), 0.0, 0.0
        for n in range(self.degree + 1):
            term = (-h) ** n / math.factorial(n)
            rho, sigma = rho + term * alphas[n] / alphas[0], sigma + term * sigmas[n]
        return Step(rho * x + (sigma - rho * sigmas[0]) * model(x, s).eps)


def _derivatives(process: NoiseProcess, at: Level, most: int) -> tuple[list[float], list[float]]:
    """alpha and sigma and their first ``most`` derivatives in time, by automatic differentiation of the schedule."""
    with torch.enable_grad():
        time = torch.tensor(float(at.t), dtype=torch.float64, requires_grad=True)
        level = process.level(time)
        out = []
        for value in (torch.as_tensor(level.alpha, dtype=torch.float64), torch.as_tensor(level.sigma)):
            found = [value]
            for _ in range(most):
                slope = None
                if found[-1].requires_grad:
                    (slope,) = torch.autograd.grad(found[-1], time, create_graph=True, allow_unused=True)
                found.append(torch.zeros_like(time) if slope is None else slope)
            out.append([v.item() for v in found])
    return out[0], out[1]


@SOLVERS.add("quasi_taylor.1")
def _quasi_taylor_1() -> Solver:
    """Quasi-Taylor of degree 1: DDIM with coefficients linear in the step of time."""
    return QuasiTaylor(1)


@SOLVERS.add("quasi_taylor.2")
def _quasi_taylor_2() -> Solver:
    """Quasi-Taylor of degree 2: of order 2 on a point mass, 1 on every other law."""
    return QuasiTaylor(2)


@SOLVERS.add("quasi_taylor.3")
def _quasi_taylor_3() -> Solver:
    """Quasi-Taylor of degree 3: of order 3 on a point mass, 1 on every other law."""
    return QuasiTaylor(3)

"""Law convergence: the exact KL and W2 of the laws that DDPM, DDIM and Euler-Maruyama put out, against their steps."""

from typing import TYPE_CHECKING

from studies.store import Values
from studies.study import study
from theory import SOLVERS, VPLinear, law_of, uniform_lambda, uniform_time
from theory.divergences import kl, w2
from toy_distributions import LAWS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PROCESS = VPLinear()
LAM_START, LAM_END = -3.0, 3.0
GRIDS = {
    "uniform in lambda": lambda steps: uniform_lambda(PROCESS, steps, start=LAM_START, end=LAM_END),
    "uniform in t": lambda steps: uniform_time(
        PROCESS, steps, start=PROCESS.time_at(LAM_START), end=PROCESS.time_at(LAM_END)
    ),
}


@study(
    "law_convergence",
    question="How fast does the law of a sampler's output approach the data law, in KL and in W2?",
    axes={
        "solver": ["ddim", "ddim.eta1", "ddpm.beta", "euler_maruyama"],
        "law": ["gaussian_1d", "mixture_1d"],
        "grid": list(GRIDS),
        "steps": [5, 10, 20, 40, 80],
    },
)
def law_convergence(solver: str, law: str, grid: str, steps: int, *, seed: int) -> Values:
    """KL(exact || output) and W2, both laws exact, at lambda = 3 from the true start. No Monte Carlo."""
    made, data, times = SOLVERS[solver](), LAWS[law](), GRIDS[grid](steps)
    last = times.levels[-1]
    exact = data.noised(float(last.alpha), float(last.sigma))
    output = law_of(made, data, PROCESS, times)
    divergence, distance = kl(exact, output), w2(exact, output)
    return {
        "h_max": times.h_max,
        "evaluations": made.facts.cost(steps),
        "kl_nats": divergence.value,
        "kl_nats_error": divergence.error,
        "w2": distance.value,
        "w2_error": distance.error,
        "method": divergence.method,
        "order": 1.0,
        "stochastic": int(made.facts.stochastic),
    }


@law_convergence.figure("kl", caption="Order 1 in law is order 2 in KL, as KL is quadratic near its zero.")
def kl_against_evaluations(table: "DataFrame") -> "Figure":
    from studies.figures import convergence_panels

    return convergence_panels(table, column="grid", row="law", x="evaluations", y="kl_nats", triangles=(1, 2))


@law_convergence.figure("w2")
def w2_against_evaluations(table: "DataFrame") -> "Figure":
    from studies.figures import convergence_panels

    return convergence_panels(table, column="grid", row="law", x="evaluations", y="w2", triangles=(1,))

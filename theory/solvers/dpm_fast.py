"""DPM-Solver "fast": singlestep methods of orders 3, 2 and 1 in one run, so that the evaluations come out as asked."""

from dataclasses import dataclass

from theory.prediction import Kind
from theory.solvers.base import Exactness, Facts, Solver, Step
from theory.solvers.ddim import DDIM
from theory.solvers.dpm import DPM2, DPM3
from toy_distributions.shapes import count

METHODS: dict[int, Solver] = {1: DDIM(), 2: DPM2(), 3: DPM3()}


@dataclass(frozen=True)
class DPMFast(Solver):
    r"""DPM-Solver of order 3 in all steps but the last, which use up what is left of N ``budget`` evaluations.

    K = floor(N / 3) + 1 steps, equal in lambda, of the orders

        3, ..., 3, 2, 1   if 3 divides N,      3, ..., 3, N mod 3   if it does not,

    which sum to N; 1 is DDIM, 2 and 3 are ``DPM2`` and ``DPM3`` with their usual r. The memory is the number of steps
    done. Not in the registry, as it runs on a grid of its own number of steps, ``len(orders)``, only.

    Order in h_max as N grows: 3 if N = 2 mod 3, else 2. The last steps come once, so their local errors count, not
    their global ones: O(h^3) for DPM2, but O(h^2) for DDIM. Exact for a constant eps.
    lowest_first: takes the orders from the lowest to the highest: still order 2, and another run.

    facts: its cost is that of len(orders) steps. Raises ValueError for a budget below 1 and a grid of more steps.
    Source: lu2022dpm, section 3.4; the orders derived as above.
    """

    budget: int = 20
    lowest_first: bool = False

    def __post_init__(self):
        count("budget", self.budget)

    @property
    def orders(self) -> tuple[int, ...]:
        whole, rest = divmod(self.budget, 3)
        found = (*(3,) * whole, rest) if rest else (*(3,) * (whole - 1), 2, 1)
        return found[::-1] if self.lowest_first else found

    @property
    def facts(self) -> Facts:
        order = 3 if self.budget % 3 == 2 else 2
        beyond = self.budget - 3 * len(self.orders)  # below 0: the last steps take fewer than three
        return Facts(order, 3, reads=Kind.EPS, start_up=beyond, exact=Exactness(Kind.EPS, "lam", 0))

    def step(self, model, x, s, t, memory, noise) -> Step:
        done = memory or 0
        if done >= len(self.orders):
            raise ValueError(
                f"a run of budget={self.budget} has {len(self.orders)} steps; the grid has more. Use a grid of "
                f"len(orders) steps."
            )
        found = METHODS[self.orders[done]].step(model, x, s, t, None, noise)
        return Step(found.x, memory=done + 1)

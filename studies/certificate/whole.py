"""The whole certificate: its sections, and every row of a sampler."""

from collections.abc import Callable, Iterator

from studies.certificate.behaviour import batches, evaluations, reproducible, single_precision
from studies.certificate.in_law import exact_law
from studies.certificate.one_step import exactness, ratios
from studies.certificate.row import LAWS, Row, states, stochastic
from studies.certificate.runs import accurate_start, bias, end_rule, falls, orders, stochastic_orders, time_grids
from studies.target import InputChanged, Target
from theory.models import Exact
from theory.noise import Independent, no_noise
from theory.process import NoiseProcess

SECTIONS: dict[str, Callable[[Target, NoiseProcess], Iterator[Row]]] = {
    "reproducible": reproducible,
    "batches": batches,
    "evaluations": evaluations,
    "ratios": ratios,
    "exactness": exactness,
    "orders": orders,
    "time grids": time_grids,
    "falls": falls,
    "accurate start": accurate_start,
    "stochastic orders": stochastic_orders,
    "bias": bias,
    "exact law": exact_law,
    "float32": single_precision,
    "end rule": end_rule,
}


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def rows(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """Every row of the certificate. A section that cannot be measured gives one OPEN row that says why.

    A sampler that does not get through eight steps on a mixture, with finite states of the right shape, FAILS, and
    nothing else is asked of it.
    """
    law, process = LAWS["mixture"], target.on(process)
    try:
        noise = Independent(0) if stochastic(target) else no_noise
        grid = target.grid(process, 8)
        target.run(Exact(law, process), states(law, process, 4), grid, noise=noise, keep=False)
    except InputChanged:  # which has a row of its own
        pass
    except Exception as error:
        yield Row("runs", "yes", "no", "FAILS", _said(error))
        yield from (Row(name, "-", "-", "OPEN", "missing; it does not run") for name in SECTIONS)
        return
    yield Row("runs", "yes", "yes", "HOLDS")
    for name, section in SECTIONS.items():
        try:
            yield from section(target, process)
        except Exception as error:
            yield Row(name, "-", "-", "OPEN", f"missing; {_said(error)}")

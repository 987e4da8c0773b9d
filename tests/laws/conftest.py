"""Which laws of the zoo wait for the slow lane: those of a class that the quick lane tests by another member."""

from pathlib import Path

import pytest

LATER = {"segment", "lissajous", "swiss_roll", "trefoil"}
"""Curves, like the ellipse and the two moons."""

LATER_IN = {
    "test_total_mass_mean_and_covariance_add_up.py": {"ellipse", "two_moons", "tailed_mixture"},
    "test_cdf_and_quantile_invert_each_other.py": {"cauchy"},
    "test_third_cumulants_are_third_derivatives.py": {"torus"},
}
"""Sums over a lattice of 15,000 points, six times; an oracle that is a long integral; third derivatives of Bessel's."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent != Path(__file__).parent or not isinstance(item, pytest.Function):
            continue
        names = {v for v in getattr(item, "callspec", item).__dict__.get("params", {}).values() if isinstance(v, str)}
        if names & (LATER | LATER_IN.get(item.path.name, set())):
            item.add_marker(pytest.mark.slow)

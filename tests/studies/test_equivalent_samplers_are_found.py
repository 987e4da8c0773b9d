"""Samplers that are one map are joined, for the stated reasons; a difference of 1e-9 is enough to part them."""

import pytest

from studies.sweeps.equivalences import CONTROL, REASONS, SAME, SETTINGS, distance, ends, equivalences, solver_of
from theory import SOLVERS

AFFINE = ("linear_path", "edm")
ONLY_THERE = {("euler.t", "euler.k"): AFFINE, ("heun.t", "heun.k"): ("edm",), ("deis.rho_ab3", "deis.t_ab3"): ("edm",)}


@pytest.mark.parametrize(("a", "b"), [(a, b) for a, b, _ in REASONS], ids=lambda name: name)
def test_each_stated_pair_is_one_map(a, b):
    where = ONLY_THERE.get((a, b))
    for process in where or ("vp_linear", "linear_path"):
        assert distance(ends(solver_of(a), process), ends(solver_of(b), process)) < SAME
    if where:  # and on the others it is not
        assert distance(ends(solver_of(a), "vp_linear"), ends(solver_of(b), "vp_linear")) > 1e-4


def test_the_control_is_joined_to_none():
    gap = distance(ends(solver_of(CONTROL), "vp_linear"), ends(solver_of("dpm_pp.2m"), "vp_linear"))
    assert 1e-11 < gap < 1e-8
    found = equivalences.cell(process="vp_linear", sampler=CONTROL, seed=0)
    assert found["count"] == 0 and found["nearest_distance"] == pytest.approx(gap, rel=1e-3)


def test_different_methods_are_far_apart():
    """Between two samplers of the registry lie either roundings or at least 1e-7: nothing hangs on the tolerance."""
    from studies.sweeps.equivalences import _all

    known = {name: end for name, end in _all("vp_linear").items() if name != CONTROL}
    names = list(known)
    gaps = [distance(known[a], known[b]) for i, a in enumerate(names) for b in names[:i]]
    assert not [gap for gap in gaps if SAME <= gap < 1e-7]
    assert set(names) >= set(SETTINGS) - {CONTROL} and len(set(SOLVERS.names()) - set(names)) == 0

"""Frechet and kernel distances of features agree with closed forms, are unbiased, and say how far they may be off."""

import numpy as np
import pytest

from studies.cifar10.distances import Moments, fd, frechet, kd, kernel, mmd2, name, precision_recall


def draws(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def rotation(d: int, seed: int) -> np.ndarray:
    return np.linalg.qr(draws(seed).standard_normal((d, d)))[0]


def test_frechet_of_commuting_gaussians_is_the_closed_form():
    turn, a, b = rotation(5, 0), np.array([4.0, 1, 0.25, 0, 0]), np.array([1.0, 9, 0, 2, 0])
    mean = np.arange(5.0)
    got = frechet(Moments(mean, turn * a @ turn.T), Moments(0 * mean, turn * b @ turn.T))
    assert got == pytest.approx((mean**2).sum() + ((a**0.5 - b**0.5) ** 2).sum(), rel=1e-7)


def test_frechet_of_gaussians_that_do_not_commute_is_that_of_two_by_two_matrices():
    # tr (AB)^1/2 of 2 x 2 matrices is (tr AB + 2 sqrt(det AB))^1/2, by Cayley and Hamilton
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    cross = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    got = frechet(Moments(np.zeros(2), a), Moments(np.ones(2), b))
    assert got == pytest.approx(2 + np.trace(a) + np.trace(b) - 2 * cross, rel=1e-12)
    commuting = 2 + ((np.sqrt(np.linalg.eigvalsh(a)) - np.sqrt(np.linalg.eigvalsh(b))) ** 2).sum()
    assert abs(got - commuting) > 0.1  # the control: roots of eigenvalues one by one


def test_fd_infinity_covers_the_known_distance_where_the_plain_one_does_not():
    d, n = 16, 400
    true = d * (1.2 - 1) ** 2
    ref, covered, plain_covered, off, plain_off = Moments(np.zeros(d), np.eye(d)), 0, 0, [], []
    for seed in range(20):
        x = 1.2 * draws(seed).standard_normal((n, d))
        got, plain = fd(x, ref), frechet(ref, Moments.of(x))
        covered += got.low <= true <= got.high
        plain_covered += abs(plain - true) <= got.error
        off.append(got.value - true)
        plain_off.append(plain - true)
    assert covered >= 16  # of 20 at 95 %: fewer has a chance under 0.3 %
    bias, error = np.mean(off), np.std(off, ddof=1) / np.sqrt(20)
    assert abs(bias) <= 3 * error
    assert np.mean(plain_off) > 3 * np.std(plain_off, ddof=1) / np.sqrt(20)  # the control is biased, and seen to be
    assert plain_covered < covered


def test_kd_is_unbiased_and_the_v_statistic_is_not():
    unbiased, biased = [], []
    for seed in range(300):
        x, y = draws(seed).standard_normal((2, 20, 4))
        unbiased.append(mmd2(x, y))
        biased.append(float(kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean()))

    def zero(values):
        return abs(np.mean(values)) <= 3 * np.std(values, ddof=1) / np.sqrt(len(values))

    assert zero(unbiased) and not zero(biased)


def test_distances_do_not_change_under_rotation():
    x, y, turn = draws(0).standard_normal((200, 6)), draws(1).standard_normal((200, 6)) + 0.5, rotation(6, 2)
    for measure in (fd, lambda a, b: kd(a, b, block=50), lambda a, b: precision_recall(a, b)[0]):
        assert measure(x @ turn, y @ turn).value == pytest.approx(measure(x, y).value, rel=1e-8)
    stretched = fd(1.1 * x, 1.1 * y).value
    assert stretched == pytest.approx(1.21 * fd(x, y).value, rel=1e-8)  # the control: a stretch is seen


def test_kd_sees_a_shift_and_covers_zero_as_often_as_it_says():
    covered = shifted = 0
    for seed in range(100):
        x, y = draws(seed).standard_normal((2, 200, 4))
        covered += kd(x, y, block=25).low <= 0 <= kd(x, y, block=25).high
        shifted += kd(x + 0.7, y, block=25).low > 0
    assert covered >= 88  # of 100 at 95 %: fewer has a chance under 0.2 %
    assert shifted >= 90


def test_precision_and_recall_of_equal_disjoint_and_narrow_sets():
    x = draws(0).standard_normal((300, 3))
    assert [e.value for e in precision_recall(x, x)] == [1, 1]
    assert [e.value for e in precision_recall(x, x + 100)] == [0, 0]
    precision, recall = precision_recall(0.2 * draws(1).standard_normal((300, 3)), x)
    assert precision.low > 0.9 and recall.high < 0.5


def test_covariances_of_any_rank_are_fine():
    x = draws(0).standard_normal((40, 100))
    assert frechet(Moments.of(x), Moments.of(x)) == pytest.approx(0, abs=1e-5)
    flat = Moments(np.zeros(3), np.zeros((3, 3)))
    assert frechet(flat, Moments(np.ones(3), np.eye(3))) == pytest.approx(6)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Moments(np.zeros(2), np.diag([1.0, -1.0])), "negative eigenvalue"),
        (lambda: Moments(np.zeros(2), np.array([[1.0, 1.0], [0.0, 1.0]])), "symmetric"),
        (lambda: Moments(np.zeros(2), np.eye(3)), "shapes"),
        (lambda: kd(np.full((9, 2), np.nan), np.zeros((9, 2))), "finite"),
        (lambda: precision_recall(np.zeros((9, 2)), np.zeros((9, 3))), "one dimension"),
        (lambda: name("FID", "x"), "'FD' or 'KD'"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, said):
    with pytest.raises(ValueError, match=said):
        call()

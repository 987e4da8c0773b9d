"""The zoo: laws with names. ``LAWS[name]()`` makes a fresh one in float64."""

import math

import torch

from toy_distributions.affine import affine
from toy_distributions.base import Distribution
from toy_distributions.box import Box
from toy_distributions.chains import LinearGaussianChain, MarkovChain
from toy_distributions.conditioned import conditioned, tilted
from toy_distributions.curves import Ellipse, Lissajous, Segment, SwissRoll, Trefoil, TwoMoons
from toy_distributions.field import PowerLawField
from toy_distributions.line import Laplace, StudentT
from toy_distributions.mixture import GaussianMixture
from toy_distributions.mixture_of import Checkerboard, MixtureOf, SimplexCorners
from toy_distributions.product import Product
from toy_distributions.registry import Registry
from toy_distributions.sphere import Circle, Sphere
from toy_distributions.torus import Torus
from toy_distributions.vonmises import VonMisesFisher

LAWS = Registry("law")


@LAWS.add("standard_normal")
def standard_normal() -> Distribution:
    """N(0, I) in the plane: the law on which noise looks like data."""
    return GaussianMixture.gaussian([0.0, 0.0], 1.0)


@LAWS.add("gaussian_1d")
def gaussian_1d() -> Distribution:
    """N(0.7, 0.25) on the line."""
    return GaussianMixture.gaussian(0.7, 0.25)


@LAWS.add("gaussian_2d")
def gaussian_2d() -> Distribution:
    """A Gaussian in the plane with axes 1.2 and 0.3, turned by 30 degrees."""
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    cov = turn @ torch.diag(torch.tensor([1.44, 0.09], dtype=torch.float64)) @ turn.T
    return GaussianMixture.gaussian([0.5, -0.3], 0.5 * (cov + cov.T))


@LAWS.add("mixture_1d")
def mixture_1d() -> Distribution:
    """Three unequal Gaussians on the line."""
    return GaussianMixture([0.3, 0.5, 0.2], [[-1.0], [0.4], [1.2]], [0.05, 0.1, 0.04])


@LAWS.add("mixture_2d")
def mixture_2d() -> Distribution:
    """Three anisotropic Gaussians in the plane, each with axes of its own."""
    covs = [[[0.30, 0.10], [0.10, 0.08]], [[0.05, -0.02], [-0.02, 0.20]], [[0.10, 0.04], [0.04, 0.03]]]
    return GaussianMixture([0.3, 0.5, 0.2], [[-1.0, 0.5], [0.6, -0.4], [1.0, 1.2]], covs)


@LAWS.add("bimodal_wide")
def bimodal_wide() -> Distribution:
    """Two narrow modes far apart on the line, 1 : 3: what a chain without annealing cannot weigh."""
    return GaussianMixture([0.25, 0.75], [[-5.0], [5.0]], [0.04, 0.09])


@LAWS.add("ring_of_gaussians")
def ring_of_gaussians() -> Distribution:
    """Eight equal Gaussians on a circle of radius 2 in the plane."""
    angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    means = 2 * torch.stack([angle.cos(), angle.sin()], -1)
    return GaussianMixture([0.125] * 8, means, [0.02] * 8)


@LAWS.add("two_points")
def two_points() -> Distribution:
    """The points -1 and +1 with equal weight: the smallest discrete law."""
    return GaussianMixture.empirical([[-1.0], [1.0]])


@LAWS.add("dirac")
def dirac() -> Distribution:
    """A single point in the plane."""
    return GaussianMixture.dirac([0.8, -0.6])


@LAWS.add("empirical")
def empirical() -> Distribution:
    """Fifty points on a spiral in the plane, each a Dirac: what a network that has learnt by heart knows."""
    t = torch.linspace(0.15, 1.0, 50, dtype=torch.float64)
    angle = 4 * math.pi * t
    return GaussianMixture.empirical(1.5 * torch.stack([t * angle.cos(), t * angle.sin()], -1))


@LAWS.add("subspace")
def subspace() -> Distribution:
    """A Gaussian on a tilted plane in space: covariance of rank two in R^3."""
    axes = torch.tensor([[1.0, 2.0, 2.0], [2.0, 1.0, -2.0]], dtype=torch.float64) / 3
    return GaussianMixture.gaussian([0.2, -0.1, 0.4], axes.T @ torch.diag(torch.tensor([1.0, 0.25]).double()) @ axes)


@LAWS.add("circle")
def circle() -> Distribution:
    """The uniform law on the unit circle in the plane."""
    return Circle(radius=1.0)


@LAWS.add("sphere_3d")
def sphere_3d() -> Distribution:
    """The uniform law on the unit sphere in space."""
    return Sphere(3, radius=1.0)


@LAWS.add("box_1d")
def box_1d() -> Distribution:
    """The uniform law on [-1, 1]."""
    return Box(-1.0, 1.0)


@LAWS.add("box_2d")
def box_2d() -> Distribution:
    """The uniform law on a rectangle in the plane, 2 by 1."""
    return Box([-1.0, -0.5], [1.0, 0.5])


@LAWS.add("product")
def product() -> Distribution:
    """Circle times interval: a cylinder's side in space."""
    return Product(Circle(radius=1.0), Box(-0.5, 0.5))


@LAWS.add("checkerboard")
def checkerboard() -> Distribution:
    """The uniform law on the black cells of a 4 x 4 checkerboard on [-1, 1]^2."""
    return Checkerboard(4, 1.0)


@LAWS.add("mixture_of_boxes_1d")
def mixture_of_boxes_1d() -> Distribution:
    """Two intervals and a narrow Gaussian between them on the line."""
    return MixtureOf([0.5, 0.3, 0.2], [Box(-2.0, -1.0), Box(0.5, 2.5), GaussianMixture.gaussian(0.0, 0.01)])


@LAWS.add("circle_square_point")
def circle_square_point() -> Distribution:
    """A circle, a square inside it and a point outside, in the plane: three kinds of law in one mixture."""
    square = Box([-0.4, -0.4], [0.4, 0.4])
    return MixtureOf([0.5, 0.3, 0.2], [Circle(radius=1.2), square, GaussianMixture.dirac([1.6, 1.6])])


@LAWS.add("simplex_corners")
def simplex_corners() -> Distribution:
    """The three unit vectors of space with equal weight: a category as a one-hot vector."""
    return SimplexCorners(3)


@LAWS.add("circle_in_space")
def circle_in_space() -> Distribution:
    """The unit circle on a tilted plane in space, off the origin."""
    return affine(
        Circle(radius=1.0), torch.tensor([[2.0, 2.0], [1.0, -2.0], [-2.0, 1.0]]).double() / 3, [0.2, 0.1, 0.0]
    )


@LAWS.add("observed_mixture")
def observed_mixture() -> Distribution:
    """Three Gaussians in the plane after one noisy look at the sum of the coordinates: an exact posterior."""
    return conditioned(mixture_2d(), [[1.0, 1.0]], [0.4], 0.04).law


@LAWS.add("tilted_ring")
def tilted_ring() -> Distribution:
    """Eight Gaussians on a circle, weighed by exp(x_1 / 2 - x_2^2 / 4)."""
    return tilted(ring_of_gaussians(), [0.0, 0.5], [0.5, 0.0]).law


@LAWS.add("field_2x3")
def field_2x3() -> Distribution:
    """A Gaussian field with a power-law spectrum on a periodic grid of 2 x 3 sites: the smallest of images."""
    return PowerLawField((2, 3), 2.0, mean=0.2)


@LAWS.add("segment")
def segment() -> Distribution:
    """The uniform law on a slanted segment in the plane."""
    return Segment([-1.0, -0.4], [0.8, 0.6])


@LAWS.add("ellipse")
def ellipse() -> Distribution:
    """The law on an ellipse in the plane, 2 by 1, uniform by arc length."""
    return Ellipse(1.0, 0.5, centre=[0.1, -0.2])


@LAWS.add("lissajous")
def lissajous() -> Distribution:
    """A Lissajous figure in the plane, 3 : 2, which crosses itself seven times."""
    return Lissajous(3, 2)


@LAWS.add("swiss_roll")
def swiss_roll() -> Distribution:
    """A spiral of one and a half turns in the plane, uniform by arc length."""
    return SwissRoll(1.5)


@LAWS.add("two_moons")
def two_moons() -> Distribution:
    """Two half circles in the plane that reach into each other."""
    return TwoMoons()


@LAWS.add("trefoil")
def trefoil() -> Distribution:
    """The trefoil knot in space."""
    return Trefoil()


@LAWS.add("markov_chain")
def markov_chain() -> Distribution:
    """Three steps of a chain of two states on the line, -1 and +1, that would rather stay: a tiny language."""
    return MarkovChain([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[-1.0], [1.0]], steps=3)


@LAWS.add("state_space")
def state_space() -> Distribution:
    """Two steps of a damped rotation of the plane with noise: a linear-Gaussian state space, on R^4."""
    return LinearGaussianChain([1.0, 0.0], [0.5, 0.1], [[0.6, -0.6], [0.6, 0.6]], 0.05, steps=2)


@LAWS.add("von_mises")
def von_mises() -> Distribution:
    """Von Mises' law on the unit circle, which favours one direction."""
    return VonMisesFisher([1.2, 0.9])


@LAWS.add("von_mises_fisher")
def von_mises_fisher() -> Distribution:
    """Fisher's law on the unit sphere in space, with concentration 3."""
    return VonMisesFisher([1.0, -2.0, 2.0])


@LAWS.add("laplace")
def laplace() -> Distribution:
    """Laplace's law on the line: exponential tails and a kink."""
    return Laplace(0.2, 0.6)


@LAWS.add("student_t")
def student_t() -> Distribution:
    """Student's law with five degrees of freedom on the line: tails like |x|^-6, moments up to the fourth."""
    return StudentT(5.0, 0.2, 0.5)


@LAWS.add("cauchy")
def cauchy() -> Distribution:
    """Cauchy's law on the line, which has no mean."""
    return StudentT(1.0, 0.2, 0.5)


@LAWS.add("tailed_mixture")
def tailed_mixture() -> Distribution:
    """Three laws on the line: exponential tails, tails like a power, and none."""
    return MixtureOf([0.4, 0.4, 0.2], [Laplace(-1.0, 0.3), StudentT(9.0, 1.0, 0.2), Box(-0.5, 0.5)])


@LAWS.add("torus")
def torus() -> Distribution:
    """A ring torus in space of radii 1 and 0.4, uniform by area."""
    return Torus(1.0, 0.4)

"""Laws on R^d with everything known exactly: noised density, score, posterior mean and posterior covariance."""

from toy_distributions.affine import Affine, affine
from toy_distributions.base import Distribution
from toy_distributions.box import Box
from toy_distributions.chains import LinearGaussianChain, MarkovChain
from toy_distributions.conditioned import Posterior, conditioned, tilted
from toy_distributions.curve import Curve
from toy_distributions.curves import Ellipse, Lissajous, Segment, SwissRoll, Trefoil, TwoMoons
from toy_distributions.field import PowerLawField, StationaryField
from toy_distributions.fitted import em_step, fit_gaussian, fit_mixture
from toy_distributions.labelled import Labelled
from toy_distributions.line import Laplace, StudentT
from toy_distributions.mixture import GaussianMixture
from toy_distributions.mixture_of import Checkerboard, MixtureOf, SimplexCorners
from toy_distributions.pieces import memory_budget
from toy_distributions.product import Product
from toy_distributions.registry import Registry
from toy_distributions.sphere import Circle, Sphere
from toy_distributions.torus import Torus
from toy_distributions.vonmises import VonMisesFisher
from toy_distributions.zoo import LAWS

__all__ = [
    "LAWS",
    "Affine",
    "Box",
    "Checkerboard",
    "Circle",
    "Curve",
    "Distribution",
    "Ellipse",
    "GaussianMixture",
    "Labelled",
    "Laplace",
    "LinearGaussianChain",
    "Lissajous",
    "MarkovChain",
    "MixtureOf",
    "Posterior",
    "PowerLawField",
    "Product",
    "Registry",
    "Segment",
    "SimplexCorners",
    "Sphere",
    "StationaryField",
    "StudentT",
    "SwissRoll",
    "Torus",
    "Trefoil",
    "TwoMoons",
    "VonMisesFisher",
    "affine",
    "conditioned",
    "em_step",
    "fit_gaussian",
    "fit_mixture",
    "memory_budget",
    "tilted",
]

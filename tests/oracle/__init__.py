"""Exact answers by another road: mpmath with 50 digits, from the definition, sharing no code with what it judges.

Each oracle takes plain numbers and answers for x = alpha x_0 + sigma eps: log density and score of x, mean and
covariance of x_0 given x, by a sum or an integral of (density of x_0) times (Gaussian kernel).
"""

from tests.oracle.answer import Answer, Input, Question, answer, condition
from tests.oracle.box import box
from tests.oracle.chain import markov_chain, state_space
from tests.oracle.combined import mixture_of
from tests.oracle.curve import curve
from tests.oracle.field import field
from tests.oracle.line import laplace, student_t
from tests.oracle.mixture import low_rank, mixture
from tests.oracle.moved import conditioned, embedded, mapped, tilted
from tests.oracle.sphere import sphere
from tests.oracle.torus import torus
from tests.oracle.vonmises import von_mises_fisher

__all__ = [
    "Answer",
    "Input",
    "Question",
    "answer",
    "box",
    "condition",
    "conditioned",
    "curve",
    "embedded",
    "field",
    "laplace",
    "low_rank",
    "mapped",
    "markov_chain",
    "mixture",
    "mixture_of",
    "sphere",
    "state_space",
    "student_t",
    "tilted",
    "torus",
    "von_mises_fisher",
]

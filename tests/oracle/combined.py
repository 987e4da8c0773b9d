"""Laws made of laws, answered from the answers about their parts."""

from collections.abc import Sequence

import mpmath as mp

from tests.oracle.answer import Answer, Input, Question, plain


def mixture_of(
    weights: Sequence[float], parts: Sequence[tuple[Question, list[Input]]], dim: int
) -> tuple[Question, list[Input]]:
    """The question, and its inputs, for a mixture of laws of which the parts ask, all about one x, alpha and sigma."""
    own = [inputs[: -dim - 2] for _, inputs in parts]
    inputs = plain(*weights) + [i for some in own for i in some] + parts[0][1][-dim - 2 :]

    def question(values, digits):
        point, rest = values[-dim - 2 :], iter(values)
        w = [next(rest) for _ in weights]
        answers = [
            asked([*(next(rest) for _ in some), *point], digits) for (asked, _), some in zip(parts, own, strict=True)
        ]
        return mix(w, answers)

    return question, inputs


def mix(weights: Sequence, answers: Sequence[Answer]) -> Answer:
    """Bayes' rule over the parts, then the laws of total expectation and of total covariance."""
    d = range(len(answers[0].mean))
    logs = [mp.log(w) + a.log_prob[0] for w, a in zip(weights, answers, strict=True)]
    top = max(logs)
    total = mp.fsum(mp.exp(v - top) for v in logs)
    r = [mp.exp(v - top) / total for v in logs]
    score = [mp.fsum(q * a.score[i] for q, a in zip(r, answers, strict=True)) for i in d]
    mean = [mp.fsum(q * a.mean[i] for q, a in zip(r, answers, strict=True)) for i in d]
    cov = [
        mp.fsum(
            q * (a.cov[i * len(mean) + j] + (a.mean[i] - mean[i]) * (a.mean[j] - mean[j]))
            for q, a in zip(r, answers, strict=True)
        )
        for i in d
        for j in d
    ]
    return Answer([top + mp.log(total)], score, mean, cov)

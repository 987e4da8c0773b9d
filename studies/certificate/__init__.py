"""A certificate: what a sampler declares beside what it does, a verdict and a reason for each."""

from studies.certificate.row import LAWS, WIDE, Row, judged_order, order_on, unequal
from studies.certificate.runs import work_precision
from studies.certificate.whole import SECTIONS, rows

__all__ = ["LAWS", "SECTIONS", "WIDE", "Row", "judged_order", "order_on", "rows", "unequal", "work_precision"]

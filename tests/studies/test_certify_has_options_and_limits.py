"""exactscore certify: another process, JSON, a page, and the limits of memory and time of its child."""

import json

import pytest
from click.testing import CliRunner

from studies.certify import certify
from studies.cli import main

FILE = """
def shape(denoiser, x, sigmas):
    return x[:1]

def greedy(denoiser, x, sigmas):
    return x.new_ones(3 * 2**30 // 8)

def sleeps(denoiser, x, sigmas):
    import time
    time.sleep(60)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "newcomer.py"
    path.write_text(FILE)
    return path


def test_rows_come_as_json_and_as_a_page_on_another_process(file, tmp_path):
    page = tmp_path / "deep" / "page.html"
    run = CliRunner().invoke(main, ["certify", f"{file}:shape", "--process", "ve", "--json", "--html", str(page)])
    assert run.exit_code == 1, run.output
    found = json.loads(run.stdout)
    assert found["target"].endswith(":shape") and found["work"] == []
    first, *rest = found["rows"]
    assert (first["fact"], first["verdict"]) == ("runs", "FAILS") and all(row["verdict"] == "OPEN" for row in rest)
    text = page.read_text()
    assert "FAILS" in text and "must return a tensor like x" in text and "<html" in text


def test_memory_beyond_the_limit_is_said(file):
    rows = list(certify(f"{file}:greedy", gib=1.0))
    assert (rows[0].fact, rows[0].verdict) == ("runs", "FAILS") and "memory" in rows[0].reason


def test_time_beyond_the_limit_is_said(file):
    rows = list(certify(f"{file}:sleeps", seconds=2))
    assert rows[-1].verdict == "OPEN" and "took more than 2 s" in rows[-1].reason

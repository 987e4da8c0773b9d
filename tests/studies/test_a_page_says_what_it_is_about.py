"""The written page: of a report with its claims, of one network without them, and the command that writes it again."""

import json

import pytest

from studies.discover import registry
from studies.report import caption, write_report
from studies.store import Store, Value
from studies.study import FigureMaker, Study


@pytest.fixture
def study() -> Study:
    def measure(a: int, *, seed: int) -> dict[str, Value]:
        return {"double": 2.0 * a}

    return Study("doubles", "Is it twice?", {"a": [1, 2]}, 1, measure)


def test_a_page_about_one_network_has_no_claims(tmp_path, study):
    with Store(tmp_path / "store.sqlite") as store:
        status = write_report(
            tmp_path / "out", store=store, progress=False, say=lambda line: None, studies={"doubles": study},
            network="runs/mine",
        )  # fmt: skip
    page, text = (tmp_path / "out" / "index.html").read_text(), (tmp_path / "out" / "README.md").read_text()
    assert status == 0
    assert "<h1>exactscore validation of runs/mine</h1>" in page
    assert "<title>exactscore validation of runs/mine</title>" in page
    assert text.startswith("# Validation of runs/mine\n")
    assert "`exactscore validate runs/mine` writes it again" in text
    for wrong in ('id="main" aria', 'href="#main"', "hold as claimed", "None was checked", "## Claims"):
        assert wrong not in page + text
    assert 'id="study-doubles"' in page
    assert json.loads((tmp_path / "out" / "data" / "run.json").read_text())["files"]


def test_a_report_has_its_claims_even_if_there_are_none(tmp_path, study):
    with Store(tmp_path / "store.sqlite") as store:
        write_report(tmp_path / "out", store=store, progress=False, say=lambda line: None, studies={"doubles": study})
    page, text = (tmp_path / "out" / "index.html").read_text(), (tmp_path / "out" / "README.md").read_text()
    assert "<h1>exactscore report</h1>" in page
    assert 'id="main" aria' in page
    assert "`exactscore report` writes it again" in text
    assert "## Claims" in text


@pytest.mark.parametrize(("study", "says"), [("curvature", "float64"), ("network_orders", "float32 for networks")])
def test_a_caption_says_in_which_arithmetic(study, says):
    maker = FigureMaker(lambda table: pytest.fail("a caption draws nothing"))
    said = caption(registry("studies")[study], maker, "cpu")
    assert f". {says}" in said and "float64 on cpu; seeds" in said

"""The README's Python example runs as it stands, and its example commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.S)


def test_the_python_example_runs():
    example = EXAMPLES[0]
    assert len(example.strip().splitlines()) <= 13
    run = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    mean, divergence = run.stdout.strip().splitlines()
    assert "tensor(" in mean and "quadrature" in divergence


def test_the_example_for_solver_authors_passes_and_can_fail():
    found: dict = {}
    exec(EXAMPLES[1], found)
    found["test_euler_keeps_what_it_declares"]()
    exec(EXAMPLES[1].replace("evaluations=1)", 'evaluations=2), sections=("evaluations",)'), found)
    with pytest.raises(AssertionError, match="the model counts others"):
        found["test_euler_keeps_what_it_declares"]()
    assert len(EXAMPLES) == 2


def test_every_command_shown_exists():
    from studies.cli import main

    shown = set(re.findall(r"^exactscore (\w+)", README, re.M))
    assert shown and shown <= set(main.commands)
    targets = re.findall(r"^make (\w+)", README, re.M)
    makefile = (ROOT / "Makefile").read_text()
    assert targets and all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


def test_every_path_shown_exists():
    for page in ("README.md", "CONTRIBUTING.md"):
        for path in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
            assert (ROOT / path).exists(), f"{page} points at {path}"

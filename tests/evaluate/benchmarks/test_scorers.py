"""Answers are scored as the sets' authors score them; programs run where they can do no harm."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

from zhen.evaluate.harness import scorers
from zhen.evaluate.harness.files import rows_of
from zhen.evaluate.harness.sandbox import passes


@pytest.mark.parametrize(
    ("given", "f1", "exact"),
    [
        ("The 23 years.", 1.0, 1.0),
        ("23", 1.0, 1.0),
        ("about 23 years", 0.8, 0.0),
        ("", 0.0, 0.0),
        ("a red flag", 0.0, 0.0),
    ],
)
def test_squad_counts_words_without_articles_and_punctuation(given: str, f1: float, exact: float) -> None:
    scores = scorers.squad({"answers": ["23 years", "23"]}, [given])
    assert scores == {"f1": pytest.approx(f1), "exact": exact}


@pytest.mark.parametrize(
    ("given", "right", "same"),
    [
        (r"so \boxed{\frac{1}{2}}", r"\boxed{0.5}", True),
        (r"Final Answer: The final answer is $x=3$. I hope it is correct.", r"\boxed{3}", True),
        (r"\boxed{(1, 2)}", r"\boxed{(1,2)}", True),
        (r"\boxed{\sqrt{8}}", r"\boxed{2\sqrt{2}}", True),
        (r"\boxed{4}", r"\boxed{5}", False),
        ("no box", r"\boxed{5}", False),
    ],
)
def test_formulas_are_compared_by_worth(given: str, right: str, same: bool) -> None:
    pytest.importorskip("math_verify")
    assert scorers.mathematics({"solution": right}, [given])["math_verify"] == float(same)


def test_braces_in_a_box_are_matched() -> None:
    assert scorers.boxed(r"\boxed{1} and \boxed{\frac{a}{b}} end") == r"\frac{a}{b}"
    assert scorers.boxed(r"\boxed{never closed") is None


@pytest.mark.parametrize(
    ("program", "works"),
    [
        ("from __future__ import annotations\nimport math\nassert math.pi > 3", True),
        ("assert 1 == 2", False),
        ("import sys; sys.exit(1)", False),
        ("while True: pass", False),
        ("x = bytearray(4 << 30)", False),
        ("open('big', 'wb').write(b'x' * (64 << 20))", False),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", False),
        ("import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))", False),
        ("import time; time.sleep(60)", False),
    ],
)
def test_the_sandbox_ends_what_takes_too_much(program: str, works: bool) -> None:
    assert passes(program, seconds=2) is works


def test_nothing_that_a_program_started_outlives_it(tmp_path: Path) -> None:
    """The child holds one end of a pipe, and the program ends once it does; its death shows at the other end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    child = f"import signal; held = open({str(pipe)!r}, 'w'); print('held', flush=True); signal.pause()"
    program = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "assert child.stdout.readline() == b'held\\n'"
    )
    try:
        assert passes(program)
        assert select.select([end], [], [], 20)[0], "the child lives on"
        assert os.read(end, 1) == b""
    finally:
        os.close(end)


def test_the_authors_own_solutions_pass(shared_data: Path) -> None:
    rows = rows_of(shared_data / "eval" / "humaneval" / "HumanEval.jsonl.gz")[:4]
    for row in rows:
        assert scorers.humaneval(row, [row["canonical_solution"]]) == {"pass@1": 1.0}
        assert scorers.humaneval(row, ["    return None\n"]) == {"pass@1": 0.0}
    for row in rows_of(shared_data / "eval" / "mbpp" / "test.jsonl")[:4]:
        assert scorers.mbpp(row, [row["code"]]) == {"pass@1": 1.0}

"""No read or write that fails, once or for good, costs finished work or ends a run in a traceback.

The tests try some calls of each kind; `make soak` tries all.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest
from on_a_faulty_disk import CASES
from soak import compile_faulty_disk, faulty_disk_cases

pytestmark = pytest.mark.timeout(900)


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("gcc") is None, reason="needs Linux and gcc")
def test_a_run_survives_every_failing_call(tmp_path: Path) -> None:
    assert "LD_PRELOAD" not in os.environ
    library = compile_faulty_disk(tmp_path)
    tried = list(faulty_disk_cases(library, tmp_path / "runs", every=25))
    assert [case for case in tried if case["problems"]] == []
    assert {case["case"] for case in tried} == set(CASES)
    assert {case["code"] for case in tried} == {0, 75, -9}, "some faults end a run, some are got over"

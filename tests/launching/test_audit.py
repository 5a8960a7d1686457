"""What pip-audit says is read; that it says nothing is not taken for good news, nor for bad."""

import json

import pytest

from launch.audit import said, vulnerabilities

FOUND = {
    "dependencies": [
        {"name": "torch", "version": "2.13.0", "vulns": []},
        {"name": "left", "version": "1", "skip_reason": "not on PyPI"},
        {"name": "pad", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]},
        {"name": "pod", "version": "2.0", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]},
    ]
}


def test_each_vulnerability_is_a_line_with_its_fix() -> None:
    lines = vulnerabilities(json.dumps(FOUND))
    assert lines == ["  pad 1.0: PYSEC-1, mended in 1.1", "  pod 2.0: PYSEC-2, mended in "]
    assert vulnerabilities(json.dumps({"dependencies": []})) == []


@pytest.mark.parametrize("output", ["", "Connection refused", "null", "[]", '{"error": 1}'])
def test_no_answer_is_no_finding(output: str) -> None:
    assert vulnerabilities(output) is None


def test_a_command_that_fails_or_is_not_there_says_nothing() -> None:
    assert said(["false"]) is None
    assert said(["/no/such/command"]) is None
    assert said(["echo", "yes"]) == "yes\n"

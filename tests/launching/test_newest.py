"""The tested sets of packages: complete, with digests, within the bounds of the extras."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from launch.newest import OUTSIDE, changes, read_set, wanted

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(("extra", "file"), [("gpu", "requirements-gpu.txt"), ("cpu", "requirements-cpu.txt")])
def test_a_tested_set_holds_what_its_extra_asks_for(extra: str, file: str) -> None:
    tested = read_set((ROOT / file).read_text())
    for text in wanted(PROJECT, extra):
        requirement = Requirement(text)
        if requirement.name == "setuptools":
            continue  # not among the packages of the CPU set
        assert tested[requirement.name.lower()] in requirement.specifier, text


def test_every_package_of_the_gpu_set_has_a_digest() -> None:
    text = (ROOT / "requirements-gpu.txt").read_text()
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]
    assert len(blocks) == len(read_set(text)) > 200
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"file:|/home|@ ", text)


def test_the_gpu_set_goes_together() -> None:
    """TRL 1.16 supports vLLM 0.22 to 0.31 (trl/import_utils.py); DeepSpeed before 0.19.8 breaks ZeRO-3 with LoRA."""
    tested = read_set((ROOT / "requirements-gpu.txt").read_text())
    assert tested["trl"].startswith("1.16.")
    assert tested["vllm"].startswith("0.31.")
    assert tuple(map(int, tested["deepspeed"].split("."))) >= (0, 19, 8)
    assert tested["nvidia-cuda-runtime"].startswith("13.")


def test_changes_are_listed_by_package() -> None:
    tested = read_set("torch==2.13.0+cpu\nnumpy==2.3.5 \\\n    --hash=sha256:1\nold==1.0\n")
    assert changes(tested, {"torch": "2.13.0", "numpy": "2.4.6", "new": "1.0"}) == [
        f"{'new':<32}{'–':<18}→ 1.0",
        f"{'numpy':<32}{'2.3.5':<18}→ 2.4.6",
    ]
    assert not any(requirement.startswith(OUTSIDE) for requirement in wanted(PROJECT, "cpu"))

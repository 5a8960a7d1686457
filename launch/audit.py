"""Known vulnerabilities of the pinned packages: `make audit`. Nothing of the project is changed.

pip-audit (https://github.com/pypa/pip-audit) is installed into a temporary environment and asks PyPI. Where the index
or PyPI does not answer, that is said, and the command succeeds: it found nothing, in one way or the other.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PINS = ("requirements-cpu.txt", "requirements-gpu.txt")
LIMIT_S = 300
"""Longest time for one step, in seconds."""


def main() -> int:
    """Exit code: 1 if a package has a known vulnerability."""
    with tempfile.TemporaryDirectory(prefix="crescent-audit-") as folder:
        python = Path(folder) / "bin" / "python"
        steps = [
            [sys.executable, "-m", "venv", folder],
            [str(python), "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "15", "pip-audit"],
        ]
        for step in steps:
            if said(step) is None:
                print("not audited: pip-audit cannot be installed here")
                return 0
        found: dict[str, list[str]] = {}
        for pins in PINS:
            how = ("--no-deps", "--disable-pip", "--format", "json", "--timeout", "15")
            lines = vulnerabilities(said([str(python), "-m", "pip_audit", "-r", pins, *how], codes=(0, 1)) or "")
            if lines is None:
                print(f"{pins}: not audited: PyPI does not answer")
                continue
            found[pins] = lines
            print("\n".join([f"{pins}: {len(lines)} known vulnerabilities", *lines]))
    return 1 if any(found.values()) else 0


def said(command: list[str], codes: tuple[int, ...] = (0,)) -> str | None:
    """What a command prints; `None` if it fails or takes too long."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout if ended.returncode in codes else None


def vulnerabilities(output: str) -> list[str] | None:
    """A line for each vulnerability in pip-audit's JSON; `None` if the output is none."""
    try:
        packages = json.loads(output)["dependencies"]
        return [
            f"  {package['name']} {package['version']}: {found['id']}, mended in {' '.join(found['fix_versions'])}"
            for package in packages
            for found in package.get("vulns", [])
        ]
    except (ValueError, KeyError, TypeError):
        return None


if __name__ == "__main__":
    sys.exit(main())

"""The picture of who may import whom."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("conf", "crescent", "eval", "launch", "train")
PICTURE = {("train", "crescent"), ("eval", "crescent"), ("crescent", "launch")}
KNOWN_TO_ONE_FILE = {
    "wandb": {"crescent/tracking/wandb.py"},
    "trackio": {"crescent/tracking/trackio.py"},
    "trl": {"train/trainers/sft.py", "train/trainers/dpo.py", "train/trainers/grpo.py"},
    "vllm": set[str](),
    "openai": {"crescent/engine/client.py"},
    "hydra": {"crescent/doors/hydra_door.py"},
}


def imports(path: Path) -> set[str]:
    """Top-level names of everything a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def test_packages_import_each_other_only_along_the_arrows() -> None:
    arrows = set()
    for path in sources():
        package = path.relative_to(ROOT).parts[0]
        arrows |= {(package, other) for other in imports(path) & set(PACKAGES) if other != package}
    assert arrows == PICTURE


def test_each_outside_world_is_known_to_one_file() -> None:
    for library, files in KNOWN_TO_ONE_FILE.items():
        knowing = {path.relative_to(ROOT).as_posix() for path in sources() if library in imports(path)}
        assert knowing == files, library


def test_the_round_reads_in_one_screen() -> None:
    tree = ast.parse((ROOT / "crescent" / "loop.py").read_text())
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1 for node in tree.body if isinstance(node, ast.FunctionDef)
    }
    assert lengths["run_round"] <= 40
    assert lengths["run"] <= 40

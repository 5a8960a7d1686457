"""The picture of who may import whom: between packages, between the wings of crescent/, and to outside libraries."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("conf", "crescent", "eval", "launch", "train")
PICTURE = {("train", "crescent"), ("eval", "crescent"), ("crescent", "launch")}
FLOORS = (
    ("errors",),
    ("records",),
    ("config",),
    ("machine",),
    ("run_folder", "models", "engine", "tasks"),
    ("synthesis",),
    ("selection", "judging"),
    ("workplace", "reading"),
    ("groundwork", "show", "tracking", "library"),
    ("stages", "report"),
    ("observe",),
    ("doors",),
    ("loop", "warm_start"),
    ("commands",),
    ("__main__",),
)
"""Folders and modules of crescent/, lowest first. Each may import from the floors below it, and from no other."""
NOT_FOR = {"train": {"reading", "show", "report", "tracking", "observe", "groundwork", "stages", "doors", "loop"}}
"""Floors that a process the loop starts must not load: the trainer reads no run and shows nothing."""
KNOWN_TO_ONE_PLACE = {
    "wandb": {"crescent/tracking/wandb.py"},
    "trackio": {"crescent/tracking/trackio.py"},
    "trl": {"train/trainers/sft.py", "train/trainers/dpo.py", "train/trainers/grpo.py"},
    "vllm": set[str](),
    "aiohttp": {"crescent/engine/transport.py"},
    "hydra": {"crescent/doors/hydra_door.py"},
    "ray": {"launch/ray.py", "launch/ray_cluster.py", "launch/ray_host.py"},
}


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def packages(path: Path) -> set[str]:
    """Top-level packages that a file imports."""
    return {name.split(".")[0] for name in imports(path)}


def wings(path: Path) -> set[str]:
    """Folders and modules of crescent/ that a file imports; `crescent` itself, which holds the version, is no wing."""
    known = {wing for floor in FLOORS for wing in floor}
    found = {name.split(".")[1] for name in imports(path) if name.startswith("crescent.")}
    return found & known


def wing_of(path: Path) -> str:
    inside = path.relative_to(ROOT / "crescent")
    return inside.parts[0].removesuffix(".py")


def sources(*names: str) -> list[Path]:
    return [path for name in names for path in (ROOT / name).rglob("*.py")]


def test_packages_import_each_other_only_along_the_arrows() -> None:
    arrows = set()
    for path in sources(*PACKAGES):
        package = path.relative_to(ROOT).parts[0]
        arrows |= {(package, other) for other in packages(path) & set(PACKAGES) if other != package}
    assert arrows == PICTURE


def test_every_wing_stands_on_a_floor() -> None:
    there = {wing_of(path) for path in sources("crescent")} - {"__init__"}
    assert there == {wing for floor in FLOORS for wing in floor}


def test_wings_import_only_from_the_floors_below() -> None:
    height = {wing: number for number, floor in enumerate(FLOORS) for wing in floor}
    climbing = {
        (wing, other, path.name)
        for path in sources("crescent")
        if (wing := wing_of(path)) in height
        for other in wings(path)
        if other != wing and height[other] >= height[wing]
    }
    assert not climbing


def test_the_trainer_loads_nothing_that_reads_or_shows_runs() -> None:
    for package, forbidden in NOT_FOR.items():
        for path in sources(package):
            assert not wings(path) & forbidden, path


def test_each_outside_world_is_known_to_one_place() -> None:
    for library, files in KNOWN_TO_ONE_PLACE.items():
        knowing = {path.relative_to(ROOT).as_posix() for path in sources(*PACKAGES) if library in packages(path)}
        assert knowing == files, library


def test_the_map_in_the_package_names_every_wing() -> None:
    text = (ROOT / "crescent" / "__init__.py").read_text()
    for wing in (wing for floor in FLOORS for wing in floor if (ROOT / "crescent" / wing).is_dir()):
        assert f"{wing}/" in text, wing


def test_the_round_reads_in_one_screen() -> None:
    tree = ast.parse((ROOT / "crescent" / "loop.py").read_text())
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1 for node in tree.body if isinstance(node, ast.FunctionDef)
    }
    assert lengths["run_round"] <= 40
    assert lengths["run"] <= 40

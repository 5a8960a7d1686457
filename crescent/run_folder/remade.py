"""What making a damaged stage again means for the stages made from it, and why a finished stage is refused."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from crescent.config import Config
from crescent.run_folder.made_from import ABSENT, as_of_now, differences
from crescent.run_folder.manifest import MANIFEST, Inspection, inspect, manifests_of
from crescent.run_folder.places import SET_ASIDE
from crescent.run_folder.versions import changes_between

INPUT = "input."
"""Prefix of the names of inputs among differences."""
FILES = ("benchmark ", "bait.seeds")
"""Beginnings of the names of inputs that are files of the user, and no stages."""
BENCHMARK = re.compile(r"(eval\.benchmarks\.[\w-]+)\.")
NAMED = 4
"""Stages that a line names; of more it gives the count."""
Manifests = Mapping[str, Mapping[str, Any]]


def made_from(digests: Collection[str], manifests: Manifests) -> list[str]:
    """Stages made from any of these contents, directly or through other stages."""
    found: list[str] = []
    known = set(digests)
    while True:
        later = [
            stage
            for stage, manifest in manifests.items()
            if stage not in found and known & set(map(str, manifest["made_from"]["inputs"].values()))
        ]
        if not later:
            return sorted(found)
        found += later
        known |= {str(manifests[stage]["digest"]) for stage in later}


def describe_damage(root: Path, inspection: Inspection) -> str:
    """Proof of the damage, what making the stage again costs, and what that means for the stages made from it.

    Raises:
        Unreadable: a stage made from it cannot be read.
    """
    manifests = manifests_of(root)
    seconds = inspection.recorded.get("seconds")
    cost = f", which took {duration(seconds)}" if isinstance(seconds, int | float) else ""
    line = f"{inspection.damage}; it is set aside and made again{cost}"
    digest = inspection.recorded.get("digest")
    if not isinstance(digest, str):
        return line
    later = made_from([digest], manifests)
    if not later:
        return line
    took = sum(float(manifests[stage].get("seconds", 0)) for stage in later)
    broken = [f"{name} is damaged, too ({wrong})" for name in later if (wrong := inspect(root / name).damage)]
    line += f". Made from it: {_listed(later)} ({duration(took)}), which stay valid if it comes out the same as before"
    return "; ".join([line, *broken])


def refused_later(
    root: Path, inspection: Inspection, expected: Mapping[str, Mapping[str, Any]], schema: type = Config
) -> str | None:
    """Why the run would end after a damaged stage was made again: a stage made from it has other settings than now."""
    manifests = manifests_of(root)
    digest = inspection.recorded.get("digest")
    for stage in made_from([digest], manifests) if isinstance(digest, str) else []:
        if stage not in expected:
            continue
        recorded = as_of_now(manifests[stage]["made_from"], expected[stage], schema)
        now = {**recorded, "settings": dict(expected[stage])}
        if differences(recorded, now):
            return explain_difference(root, stage, recorded, now)
    return None


def explain_difference(root: Path, stage: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Why a finished stage is refused: other settings, another version of Crescent, or an input that was remade."""
    changed = differences(before, now)
    names = {name for name, _, _ in changed}
    if all(name.startswith(INPUT) for name in names):
        return _explain_inputs(root, stage, changed)
    if names == {"version"}:
        return _explain_version(stage, str(before["version"]), str(now["version"]))
    lines = "\n".join(f"  {name}: {old!r} → {new!r}" for name, old, new in _whole_benchmarks(changed))
    return (
        f"{stage} is finished, but was made with other settings:\n{lines}\n"
        f"give the run a new name (run.name=…), or make this stage and all later ones again (run.redo={stage}); "
        f"{stage} was not changed"
    )


def _whole_benchmarks(changed: list[tuple[str, object, object]]) -> list[tuple[str, object, object]]:
    """The same differences, with one line for a benchmark that was added or taken away, not one for each setting."""
    groups: dict[str, list[tuple[str, object, object]]] = {}
    for name, old, new in changed:
        found = BENCHMARK.match(name)
        groups.setdefault(found[1] if found and ABSENT in (old, new) else name, []).append((name, old, new))
    return [line for key, group in groups.items() for line in _whole(key, group)]


def _whole(key: str, group: list[tuple[str, object, object]]) -> list[tuple[str, object, object]]:
    added = {name: new for name, old, new in group if old == ABSENT}
    taken = {name: old for name, old, new in group if new == ABSENT}
    for values in (added, taken):
        if f"{key}.source" in values and len(values) == len(group):
            told = {name: values.get(f"{key}.{name}") for name in ("source", "family", "path")}
            known = {name: value for name, value in told.items() if value is not None}
            return [(key, ABSENT, known) if values is added else (key, known, ABSENT)]
    return group


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _explain_inputs(root: Path, stage: str, changed: list[tuple[str, object, object]]) -> str:
    stages = {str(manifest["digest"]): name for name, manifest in manifests_of(root).items()}
    former = _set_aside_by_digest(root)
    lines = []
    for name, old, new in changed:
        where = [f"now {stages[str(new)]}" if str(new) in stages else "", former.get(str(old), "")]
        known = f" ({', '.join(filter(None, where))})" if any(where) else ""
        lines.append(f"  {name.removeprefix(INPUT)}: {str(old)[:8]} → {str(new)[:8]}{known}")
    if all(name.removeprefix(INPUT).startswith(FILES) for name, _, _ in changed):
        return (
            f"{stage} is finished, but a file that it was made from has changed since:\n" + "\n".join(lines) + "\n"
            f"put the file back, give the run a new name (run.name=…), or make this stage and all later ones again "
            f"(run.redo={stage}); {stage} was not changed"
        )
    return (
        f"{stage} is finished, but an input was remade and came out differently since:\n" + "\n".join(lines) + "\n"
        f"the settings are the same; make this stage and all later ones again (run.redo={stage}); "
        f"{stage} was not changed"
    )


def _explain_version(stage: str, before: str, now: str) -> str:
    changes = changes_between(before, now, stage.rpartition("/")[2])
    what = "; ".join(changes) or "nothing that is known to change a stage of this kind (see CHANGELOG.md)"
    return (
        f"{stage} was made by Crescent {before}, this is {now}; settings and inputs are the same.\n"
        f"what changed: {what}\n"
        f"to go on with the finished stages of {before} as they are: run.versions=[{before}]; to make this stage and "
        f"all later ones again: run.redo={stage}; {stage} was not changed"
    )


def _set_aside_by_digest(root: Path) -> dict[str, str]:
    """Where stages that were set aside lie, by their digest."""
    found = {}
    for path in sorted((root / SET_ASIDE).glob(f"*/{MANIFEST}")):
        try:
            found[str(json.loads(path.read_bytes())["digest"])] = f"before {path.parent.relative_to(root)}"
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _listed(stages: list[str]) -> str:
    return ", ".join(stages[:NAMED]) + (f" and {len(stages) - NAMED} more" if len(stages) > NAMED else "")

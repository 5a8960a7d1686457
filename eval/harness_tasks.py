"""Find the single tasks behind names of lm-eval. Run by the interpreter that has lm-eval, which need not be ours:

    python -P eval/harness_tasks.py RESULT.json FOLDER_OR_NOTHING NAME…

It only reads task descriptions: it loads no data set and imports nothing of Crescent.
"""

import difflib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NEEDED = ("aiohttp", "requests", "tenacity", "tqdm")
"""Packages that lm-eval needs to ask a server (its extra `api`)."""
LACKING = 69
"""Exit code if lm-eval or one of these packages is not installed."""

Leaf = dict[str, Any]


def leaves(spec: str | Mapping[str, Any], index: Mapping[str, Any]) -> Iterator[Leaf]:
    """The single tasks behind a task, group or tag; a group names its members or describes them inline."""
    name = spec if isinstance(spec, str) else spec.get("group") or spec.get("task")
    entry = index.get(name) if isinstance(name, str) else None
    described = dict((entry and entry.cfg) or {}) | (dict(spec) if isinstance(spec, Mapping) else {})
    if entry is not None and entry.kind.name == "TAG":
        for member in sorted(entry.tags):
            yield from leaves(member, index)
    elif entry is not None and entry.kind.name == "GROUP":
        for member in entry.cfg.get("task") or ():
            yield from leaves(member, index)
    elif isinstance(described.get("task"), list):
        for member in described["task"]:
            yield from leaves(member, index)
    else:
        yield {
            "name": str(name),
            # A task written in Python does not state what it asks for.
            "output_type": described.get("output_type"),
            "data": described.get("dataset_path"),
            "unsafe": bool(described.get("unsafe_code")),
        }


def describe(names: list[str], include_path: str | None) -> dict[str, Any]:
    """`tasks`: the single tasks behind each known name; `unknown`: the similar names for each unknown name."""
    manager = importlib.import_module("lm_eval.tasks").TaskManager(include_path=include_path)
    tasks: dict[str, list[Leaf]] = {}
    unknown: dict[str, list[str]] = {}
    for name in names:
        matching = manager.match_tasks([name])
        if matching:
            tasks[name] = [leaf for match in matching for leaf in leaves(match, manager.task_index)]
        else:
            unknown[name] = difflib.get_close_matches(name, manager.all_tasks, n=5)
    return {"tasks": tasks, "unknown": unknown}


def main(arguments: list[str]) -> int:
    result, include_path, *names = arguments
    lacking = [package for package in ("lm_eval", *NEEDED) if importlib.util.find_spec(package) is None]
    if lacking:
        print(f"not installed: {', '.join(lacking)}", file=sys.stderr)
        return LACKING
    Path(result).write_text(json.dumps(describe(names, include_path or None)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What releases of Crescent changed in the stages they make, so that a run of an earlier one can tell what it gets."""

from collections.abc import Mapping

CHANGES: Mapping[str, Mapping[str, str]] = {
    "0.1.0": {},
}
"""What each release makes differently from the one before it, by kind of stage; oldest first.

Add a release here when its number is set. A kind of stage that is not listed is made the same.
"""


def changes_between(before: str, now: str, kind: str, changes: Mapping[str, Mapping[str, str]] = CHANGES) -> list[str]:
    """What the releases after `before`, up to `now`, changed in a kind of stage; for an unlisted release, that."""
    releases = list(changes)
    unlisted = [version for version in (before, now) if version not in releases]
    if unlisted:
        return [f"{version} is not listed in crescent/run_folder/versions.py" for version in unlisted]
    first, last = sorted((releases.index(before), releases.index(now)))
    found = [(version, changes[version].get(kind)) for version in releases[first + 1 : last + 1]]
    return [f"{version}: {change}" for version, change in found if change is not None]

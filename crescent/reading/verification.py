"""Whether everything in a run folder is as it was written, and what a rerun would do. Nothing is changed."""

from collections.abc import Callable
from pathlib import Path

from crescent.engine.journal import read_journal
from crescent.errors import DataSaysNo, TryAgain
from crescent.run_folder.manifest import Unreadable, inspect, manifests_of
from crescent.run_folder.remade import made_from

JOURNALS = "journal.jsonl"


def verify_run(root: Path, say: Callable[[str], None]) -> None:
    """Check each stage and journal of a run folder, large files too, and say a line about each.

    Raises:
        DataSaysNo: something is damaged.
        TryAgain: something could not be read, and nothing is known to be damaged.
    """
    damaged, unread = 0, 0
    known = manifests_of(root)
    for stage in stages_of(root):
        try:
            inspection = inspect(root / stage, thorough=True)
        except Unreadable as error:
            unread += 1
            say(f"{stage}: {error}")
            continue
        strangers = f"; not made by the run: {', '.join(inspection.strangers)}" if inspection.strangers else ""
        if not inspection.damage:
            say(f"{stage}: intact{strangers}")
            continue
        damaged += 1
        later = made_from([str(inspection.recorded.get("digest"))], known)
        also = f"; made from it: {', '.join(later)}" if later else ""
        say(f"{stage}: {inspection.damage}; a rerun sets it aside and makes it again{also}{strangers}")
    for path in sorted(root.glob(f"*/*.partial/**/{JOURNALS}")):
        name = path.relative_to(root)
        try:
            found = read_journal(path)
        except OSError as error:
            unread += 1
            say(f"{name}: cannot be read ({error.strerror})")
            continue
        damaged += bool(found.damaged)
        torn = "; its last line is torn, as after a kill" if found.torn else ""
        bad = f", {len(found.damaged)} damaged, which a rerun asks again" if found.damaged else ""
        say(f"{name}: {len(found.entries)} completions{bad}{torn}")
    if damaged:
        raise DataSaysNo(f"{root}: {damaged} damaged")
    if unread:
        raise TryAgain(f"{root}: {unread} could not be read")


def stages_of(root: Path) -> list[str]:
    """Folders of finished stages, those without a manifest too."""
    folders = [*root.glob("base/*/"), *root.glob("teacher/*/"), *root.glob("round-*/*/")]
    names = (path.relative_to(root).as_posix() for path in folders if not path.name.startswith("."))
    return sorted(name for name in names if not name.endswith(".partial"))

"""What a process inherits and must not believe: ranks of somebody else's job, modules of the working folder, a missing
home."""

import locale
import os
import pwd
import sys
import tempfile
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

LAUNCHED = "TORCHELASTIC_RUN_ID"
"""Environment variable of processes that torchrun, and so `accelerate launch`, started
(https://docs.pytorch.org/docs/stable/elastic/run.html)."""
RANKS = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_WORLD_SIZE"),
    *("ROLE_RANK", "ROLE_WORLD_SIZE", "CROSS_RANK", "CROSS_SIZE"),
    *("PMI_RANK", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    *("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
)
"""Environment variables by which torch, accelerate and vLLM take a process for one of several that work together. The
ranks of nodes (`launch.node`) are not among them."""


def leave_foreign_ranks(environment: MutableMapping[str, str]) -> None:
    """Forget the ranks of a cluster's job, unless torch's launcher started this process.

    A cluster sets them, sometimes empty, in every shell. A trainer that believed them would wait for the others for
    ever.
    """
    if not environment.get(LAUNCHED):
        for name in RANKS:
            environment.pop(name, None)


def leave_working_folder() -> None:
    """Take the working folder out of the places where modules are looked for, unless this code itself lies there.

    `python -m` puts it first. A module `launch` or a folder `conf` of the user would be executed in place of ours.
    """
    try:
        here = Path.cwd().resolve()
    except OSError:  # it was deleted
        return
    if here == Path(__file__).resolve().parents[2]:
        return

    def is_here(entry: str) -> bool:
        return Path(entry).resolve() == here

    sys.path[:] = [entry for entry in sys.path if not is_here(entry)]
    given = os.environ.get("PYTHONPATH")
    if given:
        kept = [entry for entry in given.split(os.pathsep) if entry and not is_here(entry)]
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)


def write_utf8(environment: MutableMapping[str, str]) -> None:
    """Read and write files in UTF-8 where none is named, here and in child processes, whatever the locale is."""
    environment["PYTHONUTF8"] = "1"
    if locale.getencoding().lower().replace("-", "") != "utf8":
        with suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")


def ensure_home(environment: MutableMapping[str, str]) -> None:
    """Give a process without a home, as of an unknown user in a container, one in the folder for temporary files.

    Libraries keep caches in the home, and some ask for the user's name when they are imported.
    """
    try:
        known = pwd.getpwuid(os.getuid())
    except KeyError:
        known = None
    if not environment.get("HOME") and (known is None or not known.pw_dir):
        environment["HOME"] = str(temporary_home())
    if known is None and not any(environment.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        environment["USER"] = f"user{os.getuid()}"


def temporary_home() -> Path:
    """Folder for temporary files that only this user can write to, the same for all processes of the user."""
    folder = Path(tempfile.gettempdir()) / f"crescent-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if folder.is_symlink() or about.st_uid != os.getuid() or about.st_mode & 0o022:
        # Somebody else's: what lies in it cannot be trusted.
        return Path(tempfile.mkdtemp(prefix="crescent-"))
    return folder

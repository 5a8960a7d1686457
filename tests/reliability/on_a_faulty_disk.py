"""Makes reads and writes of a run fail, one after another: `on_a_faulty_disk.py LIBRARY ROOT EVERY`, with that library
preloaded. Prints one JSON line per case.

The run is small, and everything about its folder is real: lock, config, journal, stages, a stage taken over from
another run, metrics, report. Each case runs in a forked process; then the same command runs undisturbed, and both the
stages and the metrics must be those of a run that was never disturbed.
"""

import ctypes
import errno
import io
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import crescent.doors.hydra_door
import crescent.report
import crescent.stages  # noqa: F401
from crescent.config import Config
from crescent.doors.opening import open_run
from crescent.engine.journal import Journal
from crescent.errors import known_failure
from crescent.machine.disk import write_whole
from crescent.records import Completion, Request, read_lines, write_lines
from crescent.run_folder.manifest import MANIFEST, SCRATCH, tree_digest
from crescent.run_folder.once import Once

READS, WRITES = 0, 1
CASES = {
    "kill -9 at a write": (WRITES, -signal.SIGKILL, 0),
    "ENOSPC at a write": (WRITES, errno.ENOSPC, 0),
    "ENOSPC from a write on": (WRITES, errno.ENOSPC, 1),
    "EROFS from a write on": (WRITES, errno.EROFS, 1),
    "EIO at a write": (WRITES, errno.EIO, 0),
    "EIO at a read": (READS, errno.EIO, 0),
    "EIO from a read on": (READS, errno.EIO, 1),
}
TRY_AGAIN = 75
BUG = 70
"""Exit code of a forked process that ended with a traceback."""


def work(once: Once) -> None:
    """Four stages that use what real ones use; the last is taken over if another run has it."""

    def ask(folder: Path) -> Mapping[str, float]:
        with Journal(folder / SCRATCH / "journal.jsonl") as journal:
            for number in range(3):
                request = Request(f"answer/{number}", "What is 1 + 1?", 1.0, 8, number)
                if journal.find(request) is None:
                    journal.append(request, Completion(f"#### {number}", "stop", 2))
            write_lines(folder / "votes.jsonl", [entry.completion for entry in journal.entries()])
        return {"questions": 3}

    def train(folder: Path) -> Mapping[str, float]:
        for part in ("adapter", "weights"):
            (folder / part).mkdir(exist_ok=True)
            (folder / part / "tensors").write_bytes(bytes(3000))
        write_whole(folder / "metrics.json", b"{}")
        return {"rows": 3}

    votes = once("round-1/synthesis", ask, {}, {})
    seen = read_lines(votes.folder / "votes.jsonl", Completion)
    trained = once("round-1/train", train, {}, {"votes": votes.digest})
    once.drop("round-1/train", "weights")
    once("round-1/eval", train, {}, {"child": trained.digest, "seen": str(len(seen))})


def run(cfg: Config) -> int:
    """Run to an exit code, in silence."""
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said), open_run(cfg) as stages:
            work(stages.once)
    except BaseException as error:
        known = known_failure(error)
        if known is None:
            (cfg.run.folder.parent / "traceback").write_text(traceback.format_exc())
            return BUG
        return known.exit_code
    return 0


def outcome(cfg: Config) -> tuple[str, list[Any]]:
    """Digest of the stages and lines of the metrics, without times."""
    lines = map(json.loads, (cfg.run.folder / "metrics.jsonl").read_text().splitlines())
    return tree_digest(cfg.run.folder), [{**line, "seconds": 0} for line in lines]


def committed(root: Path) -> dict[str, int]:
    found = (path for path in root.glob(f"*/*/{MANIFEST}") if ".partial" not in str(path) and "/." not in str(path))
    return {str(path): path.stat().st_ino for path in found}


def forked(cfg: Config, library: ctypes.CDLL, case: tuple[int, int, int], number: int) -> tuple[int, int]:
    """Exit code of the run with a fault, and the number of calls that it made."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = BUG
        with suppress(BaseException):
            kind, error, lasting = case
            library.fault_arm(str(cfg.run.folder).encode(), kind, number, error, lasting)
            code = run(cfg)
            os.write(writer, str(library.fault_calls()).encode())
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        calls = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), int(calls or 0)


def cases(base: Config, library: ctypes.CDLL, root: Path, every: int) -> Iterator[dict[str, Any]]:
    donor = replace(base, run=replace(base.run, root=str(root / "donor")))
    assert run(donor) == 0
    shutil.rmtree(donor.run.folder / "round-1/synthesis")
    shutil.rmtree(donor.run.folder / "round-1/train")
    usual = replace(base, run=replace(base.run, root=str(root / "usual"), reuse=[str(donor.run.folder)]))
    assert run(usual) == 0
    expected = outcome(usual)
    for name, case in CASES.items():
        _, calls = forked(at(usual, root / f"count of {name}"), library, case, 0)
        for number in range(1, calls + 1, every):
            cfg = at(usual, root / "case")
            code, _ = forked(cfg, library, case, number)
            before = committed(cfg.run.folder)
            again = run(cfg)
            problems = [] if code in ((-signal.SIGKILL,) if case[1] < 0 else (0, TRY_AGAIN)) else [f"exit code {code}"]
            if again != 0:
                problems.append(f"exit code {again} when run again")
            elif outcome(cfg) != expected:
                problems.append("it ends differently")
            if not before.items() <= committed(cfg.run.folder).items():
                problems.append("a committed stage was made again")
            noted = root / "case" / "traceback"
            trace = noted.read_text()[-1500:] if problems and noted.exists() else ""
            yield {"case": name, "call": number, "calls": calls, "problems": problems, "code": code, "trace": trace}
            shutil.rmtree(root / "case")


def at(cfg: Config, root: Path) -> Config:
    root.mkdir(parents=True)
    return replace(cfg, run=replace(cfg.run, root=str(root)))


def main() -> None:
    library, root, every = ctypes.CDLL(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    with initialize_config_module("conf", version_base="1.3"):
        cfg = OmegaConf.to_object(compose("config", overrides=["+experiment=smoke", "tracking.console=plain"]))
    assert isinstance(cfg, Config)
    for found in cases(cfg, library, root, every):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

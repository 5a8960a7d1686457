"""What becomes of commands on a Ray cluster, for `test_ray`: python tests/launching/ray_losses.py ADDRESS FOLDER

In a process of its own, because Ray reads the token when it is imported. Prints a JSON object.
"""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from launch.ray import RayChild, RayLaunch
from launch.ray_cluster import connected, shared_folder

SLEEP = "import time; time.sleep(600)"


def guards(word: str) -> list[psutil.Process]:
    """The guards of commands that have a word."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if {"launch.guard", word} <= set(process.cmdline()):
                found.append(process)
    return found


def lose(child: RayChild, word: str, known: set[int]) -> None:
    """Kill the process of Ray that guards a command, when the command has begun."""
    while child.poll() is None:
        for guard in guards(word):
            if guard.pid not in known:
                known.add(guard.pid)
                guard.parent().kill()
                return
        time.sleep(0.1)


def code_of(child: RayChild) -> int:
    while (code := child.poll()) is None:
        time.sleep(0.1)
    return code


def main(address: str, folder: Path) -> None:
    with connected(address, token=True) as nodes, shared_folder(folder, nodes) as token:
        launch = RayLaunch(token, cpus=1, grace_s=5, restarts=1)
        log, word = folder / "lost.log", str(folder / "lost")
        lost, known = launch.start([sys.executable, "-c", SLEEP, word], log, {}), set[int]()
        failing = launch.start([sys.executable, "-c", "import os; os._exit(7)"], folder / "failed.log", {})
        lose(lost, word, known)
        lose(lost, word, known)
        codes = {"lost": code_of(lost), "failed": code_of(failing)}
        child = launch.start([sys.executable, "-c", SLEEP], folder / "stopped.log", {})
        while not child.is_placed():
            time.sleep(0.1)
        codes["stopped"] = child.stop()
    print(json.dumps({**codes, "begun": len(known), "left": len(guards(word)), "log": log.read_text()}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

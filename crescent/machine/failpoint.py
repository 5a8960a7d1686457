"""Places where tests can break the program. They do nothing unless `CRESCENT_FAILPOINT` is set.

`CRESCENT_FAILPOINT=once.rename:2=kill9` kills the process the second time it reaches `failpoint("once.rename")`.
Actions: `kill9`, `term`, `raise`, `enospc`. With `CRESCENT_FAILPOINT=count`, the name of each failpoint that is reached
is appended to the file `CRESCENT_FAILPOINT_LOG`, so that a test can try all of them.
"""

import errno
import os
import signal
from collections import Counter

_reached: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Break here if the environment asks for it."""
    wanted = os.environ.get("CRESCENT_FAILPOINT")
    if not wanted:
        return
    if wanted == "count":
        with open(os.environ["CRESCENT_FAILPOINT_LOG"], "a") as log:
            log.write(name + "\n")
        return
    _reached[name] += 1
    where, _, action = wanted.partition("=")
    place, _, hit = where.partition(":")
    if place != name or _reached[name] != int(hit or 1):
        return
    match action:
        case "kill9":
            os.kill(os.getpid(), signal.SIGKILL)
        case "term":
            os.kill(os.getpid(), signal.SIGTERM)
        case "raise":
            raise RuntimeError(f"failpoint {wanted}")
        case "enospc":
            raise OSError(errno.ENOSPC, "No space left on device", name)
        case _:
            raise ValueError(f"CRESCENT_FAILPOINT={wanted}: the action must be kill9, term, raise or enospc")

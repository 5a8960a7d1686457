"""A fake engine that misbehaves: `python awkward_engine.py HOW serve WEIGHTS PORT NAME`."""

import os
import sys
import urllib.parse
from typing import Any

from crescent.engine.fakes import FakeEngine, main

CAUSE = "RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist"
INNER = "(EngineCore pid=7) ERROR 11-30 04:13:56 [core.py:1136]"
DYING = (
    "(APIServer pid=6) INFO 11-30 04:13:40 [model.py:2152] GPU KV cache size: 100 tokens, out of memory is far",
    "(APIServer pid=6) WARNING 11-30 04:13:41 [cpu.py:224] No module named 'triton'",
    f"{INNER} EngineCore failed to start.",
    f"{INNER} Traceback (most recent call last):",
    f'{INNER}   File "flashinfer/jit/cpp_ext.py", line 89, in get_cuda_path',
    f"{INNER} {CAUSE}",
    f"{INNER} The above exception was the direct cause of the following exception:",
    f"{INNER} ValueError: warm-up failed",
    *(f"(EngineCore pid=7)   frame {number} of a long traceback" for number in range(200)),
    "(APIServer pid=6) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
)
"""What vLLM prints when its engine core dies: the cause first, then its consequences."""


def reset_answers(how: str) -> list[bool]:
    """Answers to requests to drop the cache: without, and with `reset_running_requests`."""
    return {"keeps-cache": [False, False], "busy-cache": [False, True]}.get(how, [True, True])


def misbehave(how: str) -> None:
    well_behaved, woken = FakeEngine.answer, list[bool]()

    def answer(self: FakeEngine, path: str, body: dict[str, Any]) -> dict[str, Any]:
        url = urllib.parse.urlsplit(path)
        if url.path == "/reset_prefix_cache":
            return {"success": reset_answers(how)["reset_running_requests=true" in url.query]}
        if how == "dies-when-asked" and path == "/v1/load_lora_adapter":
            print("\n".join(DYING), flush=True)
            os._exit(1)
        if how == "sleeps-on" and path == "/wake_up":
            return {"status": "awake"}
        said = well_behaved(self, path, body)
        if how == "forgets-adapters" and path == "/wake_up":
            woken.append(True)
        if woken:  # it says that it has them, and answers as its base
            self.adapters = dict.fromkeys(self.adapters, self.base)
        return said

    FakeEngine.answer = answer  # type: ignore[method-assign]


if __name__ == "__main__":
    if sys.argv[1] == "dies-at-start":
        print("\n".join(DYING), flush=True)
        sys.exit(1)
    misbehave(sys.argv[1])
    main(sys.argv[2:])

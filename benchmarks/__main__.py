"""`python -m benchmarks NAME …`"""

import importlib
import sys

from crescent.errors import run_to_exit_code

COMMANDS = {
    "dedup": "self-deduplication against pairwise Python and FAISS",
    "training": "training speed against two TRL scripts (ten minutes)",
    "votes": "adaptive voting against asking all K, on recorded answers",
    "ablations": "what each default buys, on recorded sums whose truth is known",
    "baits": "what each bait prompt yields on a served model (minutes)",
    "record": "record a real synthesis for the tests and for `votes` and `ablations` (minutes)",
}
"""Modules of this package; each has `main(arguments)`."""


def main() -> None:
    name, *arguments = sys.argv[1:] or [""]
    if name not in COMMANDS:
        print(__doc__, *(f"  {its:<10} {what}" for its, what in COMMANDS.items()), sep="\n")
        sys.exit(2 if name else 0)
    importlib.import_module(f"benchmarks.{name}").main(arguments)


if __name__ == "__main__":
    sys.exit(run_to_exit_code(main))

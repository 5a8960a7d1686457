"""`python -P -m eval job.yaml`: ask a served checkpoint every benchmark item and score the answers."""

import sys

from eval.evaluate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

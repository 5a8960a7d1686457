"""`python -m eval KEY=VALUE…` evaluates any model (see `--help`); `python -P -m eval job.yaml` does a run's job."""

import sys

from eval.standalone import main

if __name__ == "__main__":
    main(sys.argv[1:])

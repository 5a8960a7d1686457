"""`python -P -m train job.yaml`: train one round's child from its pairs."""

import sys

from train.job import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -P -m train job.yaml`: train the child of one round on its pairs."""

import sys

from train.job import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m crescent` is `crescent`."""

from crescent.commands import main

if __name__ == "__main__":
    main()

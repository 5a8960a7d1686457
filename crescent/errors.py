"""Errors that name the value, the rule and the way out, each with the exit code a scheduler can act on."""


class CrescentError(Exception):
    """A failure with a known cause. Its message is shown to the user as it is, without a traceback."""

    exit_code = 1


class BadConfig(CrescentError):
    """A setting that can never work. Found before anything heavy is imported."""

    exit_code = 2


class SettingsChanged(CrescentError):
    """A finished stage was made with other settings than the ones given now."""

    exit_code = 3


class RunLocked(CrescentError):
    """Another supervisor works in this run folder."""

    exit_code = 4


class DataSaysNo(CrescentError):
    """Everything worked, and the data still does not allow to go on (empty round, collapse, non-finite loss)."""

    exit_code = 65


class Missing(CrescentError):
    """Something that has to be installed, downloaded or mounted is not there."""

    exit_code = 69


class TryAgain(CrescentError):
    """Interrupted or temporarily impossible: the same command continues where this one stopped."""

    exit_code = 75

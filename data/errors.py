"""Errors that the lab expects: each is shown as one message, without a traceback."""


class LabError(Exception):
    """A setting, file or argument is wrong. The message names it and says what to do."""

    exit_code = 2


class RunError(LabError):
    """A run failed or was refused: crashed, diverged, overspent, tampered with or failed a probe."""

    exit_code = 1


class TamperError(RunError):
    """The code under test broke a rule: its exit code, EX_NOPERM of sysexits(3), tells `ar` so."""

    exit_code = 77

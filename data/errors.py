"""Errors that the lab expects: each is shown as one message, without a traceback."""


class LabError(Exception):
    """A setting, file or argument is wrong. The message names it and says what to do."""

    exit_code = 2


class RunError(LabError):
    """A run failed or was refused: crashed, overspent, tampered with or failed a probe."""

    exit_code = 1


class DivergedError(RunError):
    """Training diverged, which is a result: its metrics are no numbers, and its exit code is 0."""


class TamperError(RunError):
    """The code under test broke a rule: its exit code, EX_NOPERM of sysexits(3), tells `ar` so."""

    exit_code = 77

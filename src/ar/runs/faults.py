"""Failures that are the machine's and not the experiment's: such a run is tried once more.

Only clear ones: what the kernel and the launcher saw, and messages that nothing else brings about. A run that
prints such a message on purpose gains a second try, and pays for it with a second run.
"""

from __future__ import annotations

import re
import signal

from ar.local.claims import Claim
from ar.runs import outcomes
from ar.stage.files import Cause

_KILLED = 128 + signal.SIGKILL
_LINES = 20  # of the log's end: what ended the run is said there
_SAID = (
    (r"No space left on device|Disk quota exceeded", "the disk was full"),
    (
        r"CUDA-capable devices?(\(s\))? (is/)?are busy or unavailable|No CUDA GPUs are available"
        r"|CUDA error: device(\(s\))? (is )?unavailable|cudaErrorDevicesUnavailable|GPU is lost"
        r"|GPU has fallen off the bus|uncorrectable ECC error|Unable to determine the device handle",
        "the GPU was not available",
    ),
)


def of_run(claim: Claim) -> str:
    """What fault of the machine ended a failed run, in words; empty if none is known."""
    usage = claim.usage
    if usage is None:
        return "its launcher was killed" if claim.begun else ""
    if usage.cause is Cause.MACHINE:
        return usage.why
    if usage.cause is not Cause.NONE:
        return ""  # we ended it ourselves
    if usage.oom_kills:
        return "the kernel killed a process for want of memory"
    if usage.code == _KILLED:
        return "it was killed from outside (SIGKILL)"
    return said(outcomes.tail(claim.log))


def said(text: str) -> str:
    """The fault that a log's end speaks of; empty if it speaks of none."""
    end = "\n".join(text.splitlines()[-_LINES:])
    return next((words for pattern, words in _SAID if re.search(pattern, end, re.IGNORECASE)), "")

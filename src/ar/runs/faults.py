"""Failures that are the machine's and not the experiment's: such a run is tried again.

Only clear ones: what the kernel and the launcher saw, and messages that nothing else brings about. A change
that prints such a message on purpose gains a second try, and pays for it with a second run. The branch as it
is has nobody to gain by that, and nothing can be judged before it is measured: it is tried for as long as the
machine fails it, with growing pauses.
"""

from __future__ import annotations

import re
import signal

from ar.history.messages import BASELINE_AGENT, Message
from ar.local.claims import Claim
from ar.runs import outcomes
from ar.runs.pipeline import Failure
from ar.stage.files import Cause

_KILLED = 128 + signal.SIGKILL
_LINES = 20  # of the log's end: what ended the run is said there
_LONGEST_PAUSE = 20.0  # s
_SAID = (
    (r"No space left on device|Disk quota exceeded", "the disk was full"),
    (
        r"CUDA-capable devices?(\(s\))? (is/)?are busy or unavailable|No CUDA GPUs are available"
        r"|CUDA error: device(\(s\))? (is )?unavailable|cudaErrorDevicesUnavailable|GPU is lost"
        r"|GPU has fallen off the bus|uncorrectable ECC error|Unable to determine the device handle",
        "the GPU was not available",
    ),
)


def of_run(claim: Claim, failure: Failure) -> str:
    """What fault of the machine ended a failed run, in words; empty if none is known."""
    if failure.launcher_died:
        return "its launcher was killed"
    if (usage := claim.usage) is None:
        return ""  # no command came to its end
    if usage.cause is Cause.MACHINE:
        return usage.why
    if usage.cause is not Cause.NONE:
        return ""  # we ended it ourselves
    if usage.oom_kills:
        return "the kernel killed a process for want of memory"
    if usage.code == _KILLED:
        return "it was killed from outside (SIGKILL)"
    return said(outcomes.tail(claim.log))


def pause(message: str, tries: int) -> float | None:
    """Seconds after which a run that a fault ended is tried again; None where it is not.

    Args:
        message: of its commit.
        tries: so many have ended by a fault.
    """
    if tries == 1:
        return 0.0
    if Message.parse(message).agent != BASELINE_AGENT:
        return None
    return min(2.0 ** min(tries - 2, 9), _LONGEST_PAUSE)


def said(text: str) -> str:
    """The fault that a log's end speaks of; empty if it speaks of none."""
    end = "\n".join(text.splitlines()[-_LINES:])
    return next((words for pattern, words in _SAID if re.search(pattern, end, re.IGNORECASE)), "")

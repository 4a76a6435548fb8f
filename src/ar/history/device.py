"""What a run was measured on, and the class of devices within which runs may be compared."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ar.record import Record

# What vendors write around the model of a processor: trade marks, its clock, its number of cores.
_TRIMMINGS = re.compile(r"\((?:R|TM)\)|\bCPU\b|@.*|\b\d+-Core\b|\bProcessor\b", re.IGNORECASE)


@dataclass(frozen=True)
class Device(Record):
    """The machine of a run, and its accelerator where the run was given one.

    Args:
        host: its name.
        cpu: model of the processor.
        cores: that the run could use.
        gpu: model of the accelerator that the run was given; empty where it was given none.
        gpus: how many it could see.
        driver: version of the accelerator's.
        torch: version in the Python that its stages found; empty where there is none.
        work: processor seconds of a fixed small piece of work, by the median; 0 where it was not timed.
        spread: how far the quartiles of its times lie apart, over the median.
    """

    host: str = ""
    cpu: str = ""
    cores: int = 0
    gpu: str = ""
    gpus: int = 0
    driver: str = ""
    torch: str = ""
    work: float = 0.0
    spread: float = 0.0

    @property
    def device_class(self) -> str:
        """The device class: the model of the accelerator, or else of the processor; empty where unknown.

        Driver and torch do not split it: an upgrade would cut a campaign in two, each half without what the
        other knows of the noise, while results move by less than between models. Where it does move them, the
        check of each machine against the others shows it.
        """
        return self.gpu or short(self.cpu)


def short(cpu: str) -> str:
    """A processor's name without what is not its model: `AMD EPYC 7763`."""
    return " ".join(_TRIMMINGS.sub(" ", cpu).split())

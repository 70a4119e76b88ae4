"""How busy the machine is with other things, so that figures can be doubted."""

import os
import resource
import time


class Noise:
    """The share of all processors that is used by others, from now on."""

    def __init__(self):
        self.others, self.start = used_by_others(), time.monotonic()

    def share(self):
        seconds = time.monotonic() - self.start
        noise = (used_by_others() - self.others) / (seconds * (os.cpu_count() or 1))
        return max(noise, 0.0)


def used_by_others():
    """CPU seconds used since boot by anybody but this process's finished children."""
    with open("/proc/stat", encoding="ascii") as stat:
        fields = [int(n) for n in stat.readline().split()[1:9]]
    busy = sum(fields) - fields[3] - fields[4]
    ours = resource.getrusage(resource.RUSAGE_CHILDREN)
    return busy / os.sysconf("SC_CLK_TCK") - ours.ru_utime - ours.ru_stime

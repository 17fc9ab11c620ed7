"""A reader whose decoder takes the process with it, in the way that the file says."""

import ctypes
import os
import signal
import time

from segsvc.readers import ReadLimits
from segsvc.types import Blob, Source

MAGIC = b"CRASHER:"


class CrashingReader:
    name = "crashing"
    endings = (".crash",)

    def sniff(self, head: bytes) -> bool:
        return head.startswith(MAGIC)

    def open(self, blob: Blob, limits: ReadLimits) -> Source:
        how = blob.read_all().removeprefix(MAGIC)
        if how == b"segv":
            ctypes.string_at(0)
        elif how == b"abort":
            os.abort()
        elif how == b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == b"exit":
            os._exit(7)
        elif how == b"hang":
            time.sleep(3600)
        raise ValueError(f"a fault of the reader: {how!r}")

    def example(self) -> bytes:
        return MAGIC + b"raise"


PLUGIN = CrashingReader()

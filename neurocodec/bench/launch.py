"""Run a command and write what it used:  python launch.py REPORT.json LOG COMMAND...

A process of its own, importing next to nothing: Linux counts the memory of whoever starts a
program into that program's peak, and the benchmark itself holds torch. Its standard input is a pipe
from the benchmark; when that closes, however the benchmark ended, the command is ended too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time


def watch() -> None:
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def main() -> int:
    report, log, *command = sys.argv[1:]
    threading.Thread(target=watch, daemon=True).start()
    with open(log, "wb") as output:
        began = time.monotonic()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    with open(report, "w") as file:
        values = {
            "seconds": round(seconds, 4),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 4),
            "peak_bytes": usage.ru_maxrss * scale,
            "status": child.returncode,
        }
        json.dump(values, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The files of a batch on a Ray cluster: each is a task, in a process that does nothing else.

A task whose process or machine was lost is given to another; nothing half-written has the final
name, so it starts afresh. All machines must see the same folders under the same names, and have
this very version of neurocodec.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import socket
import threading
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import Error, InputError, UsageError

LOCAL = "local"  # as an address: a cluster of this machine alone, for as long as it is needed
RETRIES = 2
_REACHED_SECONDS = 10.0  # by when a cluster must have answered
_STOPPED_SECONDS = 30.0  # by when tasks that are cancelled must have ended
_STORE_BYTES = 100_000_000  # for objects, of which there are none; the least is 75 MB


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class RayRunning:
    """The tasks under way."""

    def __init__(self, address: str, jobs: int, threads: int) -> None:
        """address: as of ``ray.init``, or LOCAL. jobs: tasks at once, of LOCAL. threads:
        processors of a task. Raises UsageError, InputError: no cluster there."""
        if address != LOCAL:
            _check_reachable(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or it would report to its makers
        os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # on a busy machine
        try:
            import ray
        except ImportError:
            raise UsageError("--ray needs: pip install 'neurocodec[ray]'") from None
        self._ray: Any = ray
        self.stopped, self._lock = False, threading.Lock()
        self._tasks: set[Any] = set()
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address == LOCAL:
            settings |= {
                "num_cpus": jobs * threads, "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
            }  # fmt: skip
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address, **settings)
        except Exception as error:
            raise InputError(f"--ray {address}: {_reason(error)}") from None
        finally:
            with contextlib.suppress(ValueError):  # not in the main thread: nothing was changed
                signal.signal(signal.SIGTERM, before)  # which Ray takes for itself
        self._task = ray.remote(num_cpus=threads, max_calls=1, max_retries=RETRIES)(run_command)

    def call(self, arguments: list[str]) -> tuple[int, str]:
        """Status and last line of standard error of a command of ours."""
        errors = self._ray.exceptions
        with self._lock:
            if self.stopped:
                return Error.exit_status, "interrupted"
            task = self._task.remote(arguments, str(Path.cwd()), __version__)
            self._tasks.add(task)
        try:
            status, line = self._ray.get(task)
        except errors.TaskCancelledError:
            return Error.exit_status, "interrupted"
        except errors.RayTaskError as error:  # neurocodec is missing there, perhaps
            return Error.exit_status, str(error).strip().splitlines()[-1]
        except errors.RayError:
            line = f"its process was lost {RETRIES + 1} times; out of memory, perhaps"
            return Error.exit_status, line
        finally:
            with self._lock:
                self._tasks.discard(task)
        return status, line

    def stop(self) -> None:
        """End them; they leave nothing half-written."""
        with self._lock:
            self.stopped = True
            tasks = list(self._tasks)
        for task in tasks:
            self._ray.cancel(task)
        if tasks:
            self._ray.wait(tasks, num_returns=len(tasks), timeout=_STOPPED_SECONDS)

    def close(self) -> None:
        """Leave the cluster; end it where it is LOCAL."""
        self._ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raises UsageError, InputError. Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--ray {address}: give HOST:PORT, ray://HOST:PORT, auto or {LOCAL}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACHED_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--ray {address}: no cluster answers: {reason}") from None


def run_command(arguments: list[str], folder: str, version: str) -> tuple[int, str]:
    """A command of ours in this process, called in ``folder``: its status, and why it failed."""
    here = platform.node()
    if version != __version__:
        return Error.exit_status, f"{here}: has neurocodec {__version__}, not {version}"
    try:
        os.chdir(folder)
    except OSError as error:
        return InputError.exit_status, f"{folder}: {error.strerror} on {here}"
    from ..cli import call

    return call(arguments)

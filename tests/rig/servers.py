"""What the real servers of the tests share: processes, ports, and what to say when one cannot be had."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPOSITORY = Path(__file__).parents[2]
# below Linux's range of ports for outgoing connections, so that none takes a stopped server's port
_PORTS = range(20_000, 32_000)


class ServerMissingError(Exception):
    """The machine lacks a program that a server needs; the message says how to get it."""


def free_port() -> int:
    """A TCP port of the loopback address on which nobody listens now."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class ServerProcess:
    """One server process in its own session, its output in a file."""

    def __init__(self, name: str, command: Sequence[str], log_file: Path) -> None:
        self.name = name
        self._command = list(command)
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Raises RuntimeError if it was never started or is stopped."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, answers: Callable[[], bool], timeout_s: float) -> None:
        """Returns when `answers()`; raises RuntimeError with the end of its output if it does not."""
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + timeout_s
        while not answers():
            if not self.running or time.monotonic() > deadline:
                state = "does not answer" if self.running else "ended"
                self.kill()
                raise RuntimeError(f"{self.name} {state}; its output ends with:\n{self._tail()}")
            time.sleep(0.05)

    def stop(self, with_signal: signal.Signals, timeout_s: float) -> None:
        """Asks it to end, and kills it when it has not after `timeout_s`."""
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(with_signal)
        try:
            self._process.wait(timeout_s)
            self._process = None
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """kill -9 of it and of its children: returns when all are gone."""
        if self._process is None:
            return
        family = []
        if self.running:
            parent = psutil.Process(self._process.pid)
            # the parent first, so that it starts no new children
            family = [parent, *parent.children(recursive=True)]
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()
        while any(_alive(process) for process in family):
            time.sleep(0.01)
        self._process = None

    def pause(self) -> None:
        """SIGSTOP: alive, but answers nothing until `resume`."""
        psutil.Process(self.pid).suspend()

    def resume(self) -> None:
        """SIGCONT."""
        psutil.Process(self.pid).resume()

    def _tail(self) -> str:
        return self._log_file.read_text(errors="replace")[-3000:]


def _alive(process: psutil.Process) -> bool:
    try:
        # a child of the killed parent stays a zombie until the machine's init sees to it
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

"""Word to the service manager (sd_notify(3)); silence where there is none."""

from __future__ import annotations

import contextlib
import os
import socket
import time


class ServiceManager:
    """READY, RELOADING, STOPPING, STATUS and the watchdog."""

    def __init__(self) -> None:
        self._enabled = "NOTIFY_SOCKET" in os.environ
        usec = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(usec) / 1e6 if self._enabled and mine and usec.isdigit() else None

    def ready(self, status: str) -> None:
        """Started, or done reloading."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Reading settings and rules again; `ready` ends it. The time is what Type=notify-reload asks for."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """On the way out."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for systemctl status."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """The loop turns: keeps the watchdog quiet."""
        self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if self._enabled:
            path = os.environ["NOTIFY_SOCKET"]
            # A manager that is deaf for a moment ends no daemon.
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.sendto(state.encode(), f"\0{path[1:]}" if path.startswith("@") else path)

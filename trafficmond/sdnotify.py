"""Notifies the service manager (sd_notify(3)), if there is one."""

import contextlib
import os
import socket
import time


class ServiceManager:
    """Sends READY, RELOADING, STOPPING, STATUS and WATCHDOG."""

    def __init__(self) -> None:
        self._enabled = "NOTIFY_SOCKET" in os.environ
        usec = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(usec) / 1e6 if self._enabled and mine and usec.isdigit() else None

    def ready(self, status: str) -> None:
        """Reports the end of the start or of a reload."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Reports the beginning of a reload, which `ready` ends. Type=notify-reload requires the time."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Resets the watchdog."""
        self._send("WATCHDOG=1")

    def busy(self) -> None:
        """Resets the watchdog, and asks for half a minute more for a start or a stop."""
        self._send("WATCHDOG=1\nEXTEND_TIMEOUT_USEC=30000000")

    def _send(self, state: str) -> None:
        if self._enabled:
            path = os.environ["NOTIFY_SOCKET"]
            # The daemon continues if the manager cannot be reached for a moment.
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.sendto(state.encode(), f"\0{path[1:]}" if path.startswith("@") else path)

"""What the daemon is told by signals."""

from __future__ import annotations

import asyncio
import signal


class Signals:
    """What the daemon was told to do. Heeded from the beginning, so that a stop in mid-start leaves nothing behind."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()  # in mid-start: it is done once there is something to read again
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)
        loop.add_signal_handler(signal.SIGUSR1, lambda: None)  # the logs are opened anew in any case

    async def stopped_within(self, seconds: float) -> bool:
        """Waits so long; whether the daemon is to stop."""
        try:
            await asyncio.wait_for(self.stop.wait(), max(seconds, 0.0))
        except TimeoutError:
            return False
        return True

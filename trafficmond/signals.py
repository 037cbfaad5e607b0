"""The signals that stop or reload the daemon."""

import asyncio
import signal


class Signals:
    """Receives signals from the beginning of the start on, so that a stop during the start leaves nothing behind."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()  # SIGHUP during the start: the reload follows after it
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)
        loop.add_signal_handler(signal.SIGUSR1, lambda: None)  # the start opens the logs in any case

    async def stopped_within(self, seconds: float) -> bool:
        """Waits at most `seconds`; returns whether the daemon is to stop."""
        try:
            await asyncio.wait_for(self.stop.wait(), max(seconds, 0.0))
        except TimeoutError:
            return False
        return True

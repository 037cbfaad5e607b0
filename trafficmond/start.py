"""The beginning: the rest of the daemon is imported while the kernel verifies the programs, which takes as long."""

from __future__ import annotations

import asyncio
import os

from trafficmond import heap, part_options
from trafficmond.config.flags import Flags
from trafficmond.config.settings import Settings
from trafficmond.control.listen import open_socket
from trafficmond.datapath.datapath import Datapath
from trafficmond.signals import Signals
from trafficmond.standing import recalled


async def _live(settings: Settings, flags: Flags) -> None:
    signals = Signals()
    listener = open_socket(settings.control_socket)
    try:
        begun = recalled(settings)
        loading = asyncio.get_running_loop().run_in_executor(None, Datapath, part_options.options(begun[0]))
        from trafficmond.daemon import Daemon
        from trafficmond.parts import assemble

        async with assemble(settings, flags, begun, loading) as parts:
            if not signals.stop.is_set():
                await Daemon(parts, signals).run(listener)
    finally:
        listener.close()


def run(settings: Settings, flags: Flags) -> None:
    """Runs the daemon until it is told to stop. Raises TrafficmonError if it cannot start."""
    os.umask(0o027)
    heap.keep_large_apart()
    asyncio.run(_live(settings, flags))

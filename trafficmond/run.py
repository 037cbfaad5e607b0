"""Runs the daemon's event loop, from the loading of the programs to the end."""

import asyncio
from concurrent.futures import Future

from trafficmond import heap, part_options
from trafficmond.config.flags import Flags
from trafficmond.config.settings import Settings
from trafficmond.control.listen import Listener
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.loading import Load
from trafficmond.errors import ConfigError
from trafficmond.parts import assemble
from trafficmond.signals import Signals
from trafficmond.standing import recalled


async def live(
    settings: Settings, flags: Flags, listener: Listener, loading: Future[Load], wrong: ConfigError | None = None
) -> None:
    """Runs the daemon with the result of `loading` until it is stopped. `wrong`: the mistakes of the settings file, in
    place of which `settings` are those that were in force last. Raises TrafficmonError if it cannot start."""
    signals = Signals()
    begun = recalled(settings)
    options = part_options.options(begun[0])
    datapath = asyncio.get_running_loop().run_in_executor(None, lambda: Datapath(options, loading.result()))
    async with assemble(settings, flags, begun, datapath, wrong) as parts:
        if not signals.stop.is_set():
            # Imported only now, when packets are judged and counted already: they must not wait for this import.
            from trafficmond.daemon import Daemon

            heap.give_back()  # memory that loading and imports needed
            await Daemon(parts, signals).run(listener)

"""The data path as the daemon uses it: one load, its maps and attachments."""

import functools
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import numpy as np

from trafficmond import abi, npt
from trafficmond.datapath import ledger, libbpf, loader
from trafficmond.datapath.accounting import Accounting, account
from trafficmond.datapath.attachments import AttachmentChange, Attachments
from trafficmond.datapath.bans import BanTable
from trafficmond.datapath.clock import Clock
from trafficmond.datapath.interfaces import Interface, Selection
from trafficmond.datapath.loading import Load, Options
from trafficmond.datapath.mapped import Mapped
from trafficmond.datapath.names_seen import NamesSeen
from trafficmond.datapath.pins import NOTES
from trafficmond.datapath.predecessor import Predecessors
from trafficmond.datapath.processes_seen import ProcessesSeen
from trafficmond.datapath.sockets import connections
from trafficmond.datapath.tables import Tables
from trafficmond.errors import DatapathError
from trafficmond.flows.batch import Batch, Column, join
from trafficmond.networks import sixteen


class Datapath:
    """Loaded programs and mapped maps. Not thread-safe: one thread owns it."""

    def __init__(self, options: Options, load: Load | None = None) -> None:
        """Uses `load`, whose options need no other load, or loads now. Raises DatapathError; nothing stays open."""
        self.options = options
        with ExitStack() as stack:
            enter = stack.enter_context
            load = enter(closing(load or Load(options)))
            self.sizes, self.pins, self.loaded = load.sizes, load.pins, load.loaded
            maps = self.loaded.maps
            self.inherited = self.pins.are_live()  # an earlier daemon's programs filter
            self.pins.keep_maps(self.loaded)
            self.clock = enter(closing(Clock(self.loaded)))
            if self.loaded.reused and not self.loaded.owners:
                with closing(ledger.mapped(self.loaded, self.sizes, self.clock)) as kept:
                    kept.clear_owners()
            self.bans = BanTable(maps["tm_bans"], maps["tm_ban_services"], self.clock)
            self._config = enter(closing(Mapped(maps["tm_config"], abi.CONFIG, 1)))
            self._config.array["seed"] = self.loaded.seed
            self._totals = enter(closing(Mapped(maps["tm_totals"], abi.TOTALS, self.sizes.entries()["tm_totals"])))
            self._predecessors = enter(closing(Predecessors(self.loaded, self.pins, self.clock, self._totals.array)))
            slots = enter(closing(Mapped(maps["tm_ifslots"], np.dtype(np.uint8), abi.IFINDEX_SLOTS)))
            totals = self._totals.array.reshape(self.sizes.cpus, abi.MAX_INTERFACES, 2)
            where = self.loaded, self.sizes, self.pins, totals, slots.array
            how = options.xdp_mode, options.egress, Selection(options.shared)
            self.attachments = Attachments(*where, *how)
            self.attached, self.refused = self.attachments.attached, self.attachments.refused
            self.names_seen, no_names = _names_seen(options, self.loaded.loader)
            self.processes_seen, no_processes = _processes_seen(options, self.loaded)
            self.unseen = {"dns_names": no_names, "processes": no_processes}  # why these settings have no effect, or ""
            self._observers = [enter(closing(each)) for each in (self.names_seen, self.processes_seen) if each]
            self.tables = Tables(maps, enter(ThreadPoolExecutor(1, "grace")))
            self.configure(options)
            self._opened = stack.pop_all()

    @functools.cached_property
    def ledger(self) -> ledger.Ledger:
        """Mapped when it is first used: packets do not wait for it."""
        return self._opened.enter_context(closing(ledger.mapped(self.loaded, self.sizes, self.clock)))

    def configure(self, options: Options) -> None:
        """Sets the programs' switches from the options and from whether there are bans."""
        self.options = options
        self._enter_connections(options)
        flags = self._config.array["flags"][0]
        flags[abi.CONFIRMED] = self._flags(options)
        # The switches of a probation stay, but a ban made meanwhile applies at once.
        flags[abi.TRIAL] = int(flags[abi.TRIAL]) & ~abi.CFG_BANS | int(flags[abi.CONFIRMED]) & abi.CFG_BANS

    def _flags(self, options: Options) -> int:
        flags = 0
        flags |= abi.CFG_DROP_MALFORMED if options.drop_malformed else 0
        flags |= abi.CFG_DROP_UNPARSED if options.drop_unparsed else 0
        flags |= abi.CFG_ESTABLISHED if options.established else 0
        flags |= abi.CFG_BANS if any(True for _ in self.bans) else 0
        return flags

    def _enter_connections(self, options: Options) -> None:
        """Adds the connections of open sockets, which began before replies were tracked: a default of drop would cut
        them, the administrator's session included."""
        if not options.established or int(self._config.array["flags"][0, abi.CONFIRMED]) & abi.CFG_ESTABLISHED:
            return
        now = self.clock.to_jiffies(time.time()).to_bytes(8, "little")
        for each in connections():
            key = np.zeros(1, abi.CONN_KEY)
            key["remote"], key["local"] = (np.frombuffer(sixteen(end), np.uint8) for end in (each.remote, each.local))
            key["remote_port"], key["local_port"] = each.remote_port, each.local_port
            key["proto"] = each.proto
            libbpf.update(self.loaded.maps["tm_conns"], key.tobytes(), now)
            key["remote_port"] = key["local_port"] = 0
            key["kind"] = abi.CONN_FRAGMENTS
            libbpf.update(self.loaded.maps["tm_conns"], key.tobytes(), now)

    def try_out(self, words: npt.NDArray[np.uint32], options: Options, until: float | None) -> None:
        """Puts a table and its switches on probation until `until` (epoch s): from then on, even without this daemon,
        the kernel uses the confirmed ones. A second probation replaces the first; None keeps the first one's end.

        Raises DatapathError if the kernel has no memory for it; then nothing changed.
        """
        self._enter_connections(options)
        self.tables.put(words, abi.TRIAL)
        self._config.array["flags"][0, abi.TRIAL] = self._flags(options)
        if until is not None:
            self._config.array["until"] = self.clock.to_jiffies(until)

    def confirm(self, words: npt.NDArray[np.uint32], options: Options) -> None:
        """Confirms the table on probation, `words`; no packet sees another table meanwhile. Raises DatapathError if the
        kernel has no memory for it; then the probation continues."""
        self.tables.put(words)
        self.configure(options)
        self.roll_back()

    def roll_back(self) -> None:
        """Ends a probation: the confirmed table is in force."""
        self._config.array["until"] = 0
        self.tables.clear(abi.TRIAL)

    @property
    def on_trial_until(self) -> float | None:
        """The time when a probation ends or ended by itself (epoch s); None: there is none."""
        until = self._config.array["until"]
        return float(self.clock.to_epoch(until)[0]) if until[0] else None

    def attach(self, present: Iterable[Interface], selection: Selection) -> list[AttachmentChange]:
        """Attaches to the present interfaces that are chosen (Attachments.update)."""
        changes = self.attachments.update(present, selection)
        for each in self._observers:
            each.follow(self.attached)
        return changes

    def read_ledger(self) -> Batch:
        """Reads what every flow record gained since the last call (a DELTA batch), by the wall clock of now: by that of
        before it was set back, a flow would not be over until the time that it was set back by has passed."""
        self.clock.calibrate()
        older = self._predecessors.read_ledgers() if self.attachments.ever else []
        return join([*older, self.ledger.read()])

    def inners(self, names: Column) -> dict[int, bytes]:
        """The conversation of each `inner` of a batch (abi.INNER), unless it was evicted."""
        fd, inner_bytes = self.loaded.maps["tm_inners"], abi.INNER.itemsize
        found = libbpf.lookup_each(fd, names.tobytes(), names.itemsize, inner_bytes)
        return {name: inner for name, inner in zip(names.tolist(), found, strict=True) if inner is not None}

    def accounting(self) -> Accounting:
        return account(self._totals.array, self.ledger)

    def abandon(self) -> None:
        """Closes all after a start that failed. Where an earlier daemon's programs filter, they or ours stay."""
        if self.inherited and not (self.loaded.reused or self.attached):
            self.pins.drop_maps()
        self.close(detach=not (self.loaded.reused or self.inherited))

    def close(self, detach: bool) -> None:
        """Closes everything; attachments and maps stay pinned unless `detach`."""
        self.attachments.release(detach)
        if detach:
            self.pins.remove_all()
        self._opened.close()


def _names_seen(options: Options, loader: str) -> tuple[NamesSeen | None, str]:
    """The reader of DNS answers, or the reason why it failed: filtering works without it."""
    try:
        return (NamesSeen(loader, options.pin_dir) if options.dns_names else None), ""
    except DatapathError as error:
        return None, f"DNS answers are not read: {error}"


def _processes_seen(options: Options, loaded: loader.Loaded) -> tuple[ProcessesSeen | None, str]:
    """The programs that note processes, or the reason why they failed: filtering works without them."""
    if not options.processes:
        (options.pin_dir / NOTES).unlink(missing_ok=True)
        return None, ""
    if not loaded.owners:
        return None, "flows have no processes: they need units, which this kernel does not report"
    try:
        seen = ProcessesSeen(loaded.loader, options.pin_dir)
    except DatapathError as error:
        return None, f"flows have no processes: {error}"
    return seen, "" if seen.netns else "incoming flows have no process: that needs Linux 5.14"

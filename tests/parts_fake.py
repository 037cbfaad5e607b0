"""All parts of a daemon but the kernel: the data path is what a test says, everything else is real."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from opened_store import opened

from trafficmond import abi, part_options
from trafficmond.config.flags import parse_flags
from trafficmond.config.load import load_settings
from trafficmond.config.settings import Settings
from trafficmond.datapath.accounting import Accounting
from trafficmond.datapath.attach import Attachment
from trafficmond.datapath.attachments import FAILED, AttachmentChange, Attachments
from trafficmond.datapath.bans import BanTable, KernelBan
from trafficmond.datapath.clock import Clock
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.interfaces import EgressHook, XdpMode
from trafficmond.datapath.ledger import Ledger, Sums
from trafficmond.datapath.loader import Loaded, Sizes
from trafficmond.datapath.loading import Options
from trafficmond.datapath.tables import Tables
from trafficmond.detect.registry import settings_classes
from trafficmond.errors import DatapathError
from trafficmond.export.exports import ExportSet
from trafficmond.flows.batch import DELTA, Batch, Column, empty
from trafficmond.networks import Network
from trafficmond.parts import Parts
from trafficmond.protected import Protected
from trafficmond.ruleset import Guard
from trafficmond.sinks.fanout import SinkSet
from trafficmond.sinks.messages import Message
from trafficmond.units import Units

_SETTINGS = """
interfaces = ["eth0", "tun9"]
cidr_dir = "{folder}/cidr.d"
state_dir = "{folder}"
[[log]]
format = "jsonl"
path = "{folder}/traffic.jsonl"
"""


class FakeClock(Clock):
    """250 jiffies a second since 1970."""

    def __init__(self) -> None:
        self.jump = 0.0  # of the wall clock, to be told once
        self.followers = []

    def calibrate(self) -> None:
        jump, self.jump = self.jump, 0.0
        for follow in self.followers if jump else ():
            follow(jump)

    def to_jiffies(self, epoch: float) -> int:
        return int(epoch * 250)


class FakeLedger(Ledger):
    """Round figures."""

    def __init__(self) -> None:
        pass

    def used(self) -> int:
        return 5

    def evicted_records(self) -> int:
        return 7


class FakeBans(BanTable):
    """A table of bans."""

    def __init__(self) -> None:
        self.held: dict[Network, KernelBan] = {}
        self.full = False

    def put(self, ban: KernelBan) -> None:
        if self.full:
            raise DatapathError("full")
        self.held[ban.network] = ban

    def remove(self, network: Network) -> bool:
        return self.held.pop(network, None) is not None

    def __iter__(self) -> Iterator[KernelBan]:
        return iter(list(self.held.values()))


class FakeTables(Tables):
    """Tables that are only counted."""

    def __init__(self) -> None:
        self.installed = 0

    def put(self, words: Any, place: int = abi.CONFIRMED) -> Any:  # noqa: ARG002
        self.installed += 1
        return words

    def stage(self, words: Any) -> Any:
        return words

    def unstage(self) -> None:
        pass


class FakeAttachments(Attachments):
    """Pins that stay, and round figures."""

    def __init__(self) -> None:
        self.of_eth0 = np.zeros((2, 2), abi.TOTALS)
        self.of_eth0["seen"]["packets"] = 10

    def check_pins(self) -> bool:
        return False

    def totals(self, ifindex: int) -> Any:
        assert ifindex == 2
        return self.of_eth0


class FakeDatapath(Datapath):
    """One attached interface, one that was refused, and round figures."""

    bans: FakeBans
    clock: FakeClock

    def __init__(self, options: Options) -> None:
        self.options = options
        self.sizes = Sizes(2, 64, 64)
        self.clock, self.ledger, self.bans = FakeClock(), FakeLedger(), FakeBans()
        self.loaded = Loaded("libbpf", {}, {}, 0, reused=False)
        self.attached = {2: Attachment(2, "eth0", XdpMode.NATIVE, EgressHook.TCX, ["a note"])}
        self.refused = {3: AttachmentChange(FAILED, "eth1", "cannot attach to eth1")}
        self.counted = Accounting(
            *(Sums(40, 4000), Sums(30, 3000), Sums(1, 60), Sums(4, 400), Sums(5, 500), Sums(2, 9)),
            {"evicted": Sums(20, 2000)},
            {"short_ip": 5},
        )
        self.deltas: list[Batch] = []
        self.tables = FakeTables()
        self.attachments = FakeAttachments()
        self.until: float | None = None  # of a probation

    def configure(self, options: Options) -> None:
        self.options = options

    @property
    def on_trial_until(self) -> float | None:
        return self.until

    def try_out(self, words: Any, options: Options, until: float | None) -> None:  # noqa: ARG002
        self.until = self.until if until is None else until

    def confirm(self, words: Any, options: Options) -> None:  # noqa: ARG002
        self.options, self.until = options, None

    def roll_back(self) -> None:
        self.until = None

    def attach(self, *_: Any) -> list[AttachmentChange]:
        return []

    def read_ledger(self) -> Batch:
        gained: Batch = np.concatenate([empty(DELTA), *self.deltas])
        self.deltas.clear()
        return gained

    def inners(self, names: Column) -> dict[int, bytes]:  # noqa: ARG002
        return {}

    def accounting(self) -> Accounting:
        return self.counted


class FakeProtected(Protected):
    """Guards what a test says."""

    def __init__(self, lifelines: Guard) -> None:
        self.lifelines = lifelines
        self.peers: set[str] = set()  # logged in
        self.guests: set[str] = set()  # connected to SSH's port
        self.ended = False

    def guard(self, settings: Settings) -> Guard:  # noqa: ARG002
        return self.lifelines

    def sessions_ended(self) -> bool:
        return self.ended

    def logins(self) -> set[str]:
        return self.peers

    def ssh_peers(self) -> set[str]:
        return self.peers | self.guests


def listen(parts: Parts) -> list[str]:
    """From now on, what the parts say in their notes."""
    said: list[str] = []

    def note(_message: Message, text: str, *_: Any, **__: Any) -> None:
        said.append(text)

    parts.sinks.note = note  # type: ignore[method-assign, assignment]
    return said


def make_parts(folder: Path, guard: Guard = ()) -> tuple[Parts, FakeDatapath, FakeProtected]:
    """All parts with a folder of their own, to be closed in the end; to be called in a loop."""
    (folder / "cidr.d").mkdir(exist_ok=True)
    (folder / "trafficmond.toml").write_text(_SETTINGS.format(folder=folder))
    flags = parse_flags(["-c", str(folder / "trafficmond.toml")])
    settings = load_settings(None, flags, detectors=settings_classes())
    store = opened(part_options.database(settings), part_options.limits(settings))
    sinks = SinkSet(settings.logs)
    sinks.start()
    datapath, protected = FakeDatapath(part_options.options(settings)), FakeProtected(guard)
    outputs = (store, sinks, ExportSet((), folder))
    parts = Parts(settings, flags, *outputs, datapath, protected, {}, Units(), time.time() - 1)
    parts.host.refresh_names()
    return parts, datapath, protected


def close(parts: Parts) -> None:
    """Ends their threads."""
    parts.questions.close()
    parts.sinks.close(time.monotonic() + 5)
    parts.store.close(5)

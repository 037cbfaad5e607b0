"""The attachments: interfaces, the reasons for choosing them, and their slots of the kernel's totals."""

import os
import time
from collections.abc import Collection, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np

from trafficmond import abi, npt
from trafficmond.config.settings import XdpModeSetting
from trafficmond.dataclass import dataclass, field
from trafficmond.datapath import attach, share
from trafficmond.datapath.accounting import words
from trafficmond.datapath.choices import Choices
from trafficmond.datapath.interfaces import EgressHook, Interface, Selection, XdpMode, stacked
from trafficmond.datapath.loader import Loaded, Sizes
from trafficmond.datapath.pins import Pins
from trafficmond.datapath.predecessor import CARRIED_SLOT
from trafficmond.errors import DatapathError, ForeignProgramError, TrafficmonError

MAX_WATCHED = CARRIED_SLOT - 1  # interfaces; a slot of the totals each

ATTACHED, DETACHED, FAILED, FOREIGN = "attached", "detached", "failed", "foreign"
_COVERED = (
    "{upper}, which is on top of {name}, has an XDP program, and the kernel attaches none below one; leave {upper} or "
    "{name} out of `interfaces`, or stop and start trafficmond, which attaches to {name} first"
)
_JOINING = "its chain of XDP programs is being changed, which may take a minute on a slow host"
_STAYS = (
    "its rules still filter: trafficmon's program could not be taken out of its chain of XDP programs, which is tried "
    "again every minute; see journalctl -t trafficmon-share"
)
AWAY = "it was moved to another network namespace, with its filter; if it comes back, it is watched as before"


@dataclass(frozen=True, slots=True)
class AttachmentChange:
    """A change of an interface's attachment, in words as well."""

    kind: str  # ATTACHED, DETACHED, FAILED or FOREIGN
    interface: str
    text: str
    mode: XdpMode = XdpMode.NONE


@dataclass(eq=False)
class Attachments:
    """Attaches as the settings require. `_totals` are those of all slots (abi.TOTALS), shape (cpus, slots, 2)."""

    _loaded: Loaded
    _sizes: Sizes
    _pins: Pins
    _totals: npt.NDArray[Any]
    _slots: npt.NDArray[np.uint8]
    _mode: XdpModeSetting
    _egress: bool
    _shared: Selection  # interfaces shared with other XDP programs
    attached: dict[int, attach.Attachment] = field(default_factory=dict)
    refused: dict[int, AttachmentChange] = field(default_factory=dict)  # ifindex -> why it is not attached
    steps: "dict[int, Future[attach.Attachment | None]]" = field(default_factory=dict)  # joining or leaving a chain
    ever: bool = False  # whether interfaces were ever checked
    _lost_pins: bool = False
    _slot_base: dict[int, npt.NDArray[Any]] = field(default_factory=dict)  # totals of a slot when its interface got it
    _again: float = 0.0  # when sharing is tried again after a failure, monotonic clock
    _choices: Choices = field(init=False)

    def __post_init__(self) -> None:
        self._choices = Choices(self._pins.directory)

    def update(self, present: Iterable[Interface], selection: Selection) -> list[AttachmentChange]:
        """Attaches to the present interfaces that the settings choose; returns changes and new failures.

        An interface that a pattern once chose stays attached while both exist, whatever happens to routes and names, in
        another network namespace too. A failure of one interface raises nothing: `refused` keeps the reason.
        """
        found = {interface.ifindex: interface for interface in present}
        above = {ifindex: [found[upper] for upper in uppers] for ifindex, uppers in stacked(found.values()).items()}
        self.check_pins()
        changes = [
            self._detach_one(ifindex, found.get(ifindex))
            for ifindex in list(self.attached)
            if not (self._exists(ifindex, found.get(ifindex)) and self._choices.hold(ifindex, selection.patterns))
        ]
        changes += [change for ifindex in self.attached if (change := self._followed(ifindex, ifindex in found))]
        changes += [change for done in self.attached.values() if (change := self._egress_again(done))]
        wanted = {
            ifindex: interface  # the lowest first: the kernel attaches nothing below an interface with an XDP program
            for ifindex, interface in ((ifindex, found[ifindex]) for ifindex in above)
            if selection.choosers(interface) or ifindex in self.attached or self._was_left(ifindex, selection)
        }
        for ifindex in self.refused.keys() - wanted.keys():
            if not (ifindex in found and self._pins.is_shared(ifindex)):
                del self.refused[ifindex]
        for ifindex in [each for each, step in self.steps.items() if each not in wanted and step.done()]:
            if not (step := self.steps.pop(ifindex)).exception() and (done := step.result()):
                self._end(done)
            elif ifindex in found and self._pins.is_shared(ifindex):
                stays = AttachmentChange(FAILED, found[ifindex].name, _STAYS)
                changes += [stays] if self.refused.get(ifindex) != stays else []
                self.refused[ifindex] = stays
        for ifindex, interface in wanted.items():
            if ifindex in self.attached:
                self.attached[ifindex].name = interface.name  # renamed, perhaps
                change = self._native_after_all(interface, above[ifindex])
            else:
                change = self._take_up(interface, above[ifindex])
            changes += [change] if change else []
            if ifindex in self.attached:
                self._choices.add(ifindex, selection.choosers(interface))
        for ifindex in self._pins.attached() - self.attached.keys() - self.steps.keys():
            # An earlier daemon attached to it, or it was removed. What a dispatcher could not replace stays.
            if not self._pins.is_shared(ifindex):
                attach.detach_pinned(ifindex, self._pins)
            elif ifindex not in wanted and time.monotonic() >= self._again:
                self._again = time.monotonic() + share.PAUSE_S
                self.steps[ifindex] = share.STEPS.submit(attach.detach_pinned, ifindex, self._pins)
        self._choices.forget_all_but(self.attached.keys() | self.refused.keys())
        self.ever = True
        return changes

    def check_pins(self) -> bool:
        """Whether pins were removed, so that filtering ends with this daemon."""
        self._lost_pins = self._lost_pins or any(
            done.alive() and not self._pins.holds(ifindex) for ifindex, done in self.attached.items()
        )
        return self._lost_pins

    def _exists(self, ifindex: int, present: Interface | None) -> bool:
        """Whether an attachment exists. A present interface without a program is another one, which has the number of
        one that was moved to another network namespace."""
        done = self.attached[ifindex]
        return done.alive() and (present is None or done.shared is not None or present.xdp_prog_id > 0)

    def _followed(self, ifindex: int, here: bool) -> AttachmentChange | None:
        """Notes whether an interface is in this network namespace; returns the change."""
        done = self.attached[ifindex]
        if done.away is not here:
            return None
        done.away = not here
        if here:
            return AttachmentChange(ATTACHED, done.name, f"watching {done.name} again, as before", done.mode)
        return AttachmentChange(FAILED, done.name, f"{done.name}: {AWAY}")

    def _egress_again(self, done: attach.Attachment) -> AttachmentChange | None:
        """Puts our filter of outgoing packets back if another program has removed it; returns the change."""
        if done.egress is not EgressHook.CLSACT or done.away or attach.has_filter(done.ifindex, attach.JUDGE):
            return None
        text = f"{done.name}: the filter of its outgoing traffic was removed, perhaps with its clsact qdisc"
        try:
            attach.attach_egress(self._loaded, self._pins, done)
        except OSError as error:
            done.egress = EgressHook.NONE
            done.notes.append(f"outgoing traffic of {done.name} is not watched: {error.strerror}")
            return AttachmentChange(FAILED, done.name, f"{text}, and cannot be put back: {error.strerror}")
        return AttachmentChange(FAILED, done.name, f"{text}; it is back, what was sent in between was not judged")

    def _was_left(self, ifindex: int, selection: Selection) -> bool:
        """Whether an interface that no pattern chooses now was attached by an earlier daemon for a pattern still in the
        settings, or by this one before --detach."""
        if self.ever:
            left = ifindex in self.refused and self.refused[ifindex].kind == DETACHED
        elif left := (link := self._pins.link("xdp", ifindex)) is not None:
            os.close(link)
        else:
            left = self._pins.is_shared(ifindex)
        return left and self._choices.hold(ifindex, selection.patterns)

    def _take_up(self, interface: Interface, above: Iterable[Interface]) -> AttachmentChange | None:
        """Attaches to one more interface, which these are on top of; returns the change."""
        ifindex = interface.ifindex
        before = self.refused.get(ifindex)
        shared = bool(self._shared.choosers(interface))
        paused = shared and ifindex not in self.steps and time.monotonic() < self._again
        if before and (before.kind == DETACHED or paused):
            return None
        try:
            done = self._attach_one(interface, shared)
        except (TrafficmonError, OSError) as error:
            kind, text = FOREIGN if isinstance(error, ForeignProgramError) else FAILED, str(error)
            covers = [each.name for each in above if each.xdp_prog_id or each.ifindex in self.attached]
            if kind == FOREIGN and covers and not interface.xdp_prog_id:
                kind, text = FAILED, _COVERED.format(name=interface.name, upper=covers[0])
            self._again = time.monotonic() + share.PAUSE_S
            self.refused[ifindex] = AttachmentChange(kind, interface.name, text)
            return self.refused[ifindex] if self.refused[ifindex] != before else None
        if done is None:
            self.refused[ifindex] = AttachmentChange(FAILED, interface.name, _JOINING)
            return None
        self.attached[ifindex] = done
        self.refused.pop(ifindex, None)
        egress = f"{done.egress} egress" if done.egress else "ingress only"
        beside = f" shared through libxdp ({', '.join(done.shared.chain)})" if done.shared else ""
        text = "; ".join((f"watching {done.name}: {done.mode} XDP{beside}, {egress}", *done.notes))
        return AttachmentChange(ATTACHED, done.name, text, done.mode)

    def _native_after_all(self, interface: Interface, above: Collection[Interface]) -> AttachmentChange | None:
        """Reattaches if the MTU no longer prevents native mode; returns the change. A few packets in between are not
        filtered: the kernel cannot switch modes in place, and below another XDP program refuses it."""
        done = self.attached[interface.ifindex]
        if (
            self._mode != "auto"
            or done.mode is not XdpMode.GENERIC
            or not interface.mtu <= attach.MAX_XDP_MTU < done.mtu
            or any(each.xdp_prog_id for each in above)
        ):
            return None
        self._end(self.attached.pop(interface.ifindex))
        return self._take_up(interface, above)

    def _attach_one(self, interface: Interface, shared: bool) -> attach.Attachment | None:
        """Attaches to an interface; None: the privileged step continues, and the loop does not wait for it."""
        ifindex = interface.ifindex
        if ifindex not in self.steps:
            slots, index = self._slots, ifindex % abi.IFINDEX_SLOTS
            others = {each % abi.IFINDEX_SLOTS for each in (*self.attached, *self.steps)}
            if index in others:  # one place in the kernel's map for two
                what = f"cannot attach to {interface.name}: its index {ifindex} shares a place with another's"
                raise DatapathError(what, hint="remove the interface and make it again: it then gets another index")
            used = {int(slots[each]) & abi.IFSLOT_MASK for each in others}
            slot = int(slots[index]) & abi.IFSLOT_MASK
            if not slot or slot in used:
                slot = self._free_slot(interface, used)
                self._slot_base[slot] = self._totals[:, slot].copy()
            slots[index] = slot | (abi.IFSLOT_RAW_IP if interface.raw_ip else 0)
            how = self._loaded, self._sizes, self._pins, interface, self._mode
            step = partial(attach.attach, *how, egress=self._egress, share_it=shared)
            if not (shared and self.ever):  # at the start nobody is answered yet
                return step()
            self.steps[ifindex] = share.STEPS.submit(step)
        return self.steps.pop(ifindex).result() if self.steps[ifindex].done() else None

    def _free_slot(self, interface: Interface, used: set[int]) -> int:
        """A slot of the totals for an interface, an unused one if there is any left."""
        seen = self._totals["seen"]["packets"].sum(axis=(0, 2))
        free = sorted(set(range(1, MAX_WATCHED + 1)) - used, key=lambda slot: (seen[slot], slot))
        if not free:
            what = f"cannot attach to {interface.name}: at most {MAX_WATCHED} interfaces can be watched"
            raise DatapathError(what, hint="select fewer interfaces with the setting `interfaces`")
        return free[0]

    def _detach_one(self, ifindex: int, present: Interface | None) -> AttachmentChange:
        """Ends an attachment that is no longer chosen, or has ended already; returns the reason in words."""
        ended, pinned = not self._exists(ifindex, present), self._pins.has_xdp(ifindex)
        done = self.attached.pop(ifindex)
        self._end(done)
        self._slots[ifindex % abi.IFINDEX_SLOTS] = 0
        if ended and present and not pinned and not self._lost_pins:
            # No pin: --detach ended it on the same interface. A new interface with an old number has one.
            text = f"{done.name} was detached by trafficmond --detach; restart trafficmond to watch it again"
            self.refused[ifindex] = AttachmentChange(DETACHED, done.name, text)
            return self.refused[ifindex]
        self._choices.forget(ifindex)
        why = "it was removed" if ended else "the setting `interfaces` no longer selects it"
        if ended and present and done.shared:
            why = "another program removed trafficmon from the dispatcher"
        return AttachmentChange(DETACHED, done.name, f"no longer watching {done.name}: {why}")

    def _end(self, done: attach.Attachment) -> None:
        """Detaches; in the background if that needs the privileged step, which has nothing to do if others did it."""
        if done.shared and not done.alive():
            done.release()  # its pins go, unless it is attached again
        elif done.shared:
            self.steps[done.ifindex] = share.STEPS.submit(attach.detach, done, self._pins)
        else:
            attach.detach(done, self._pins)

    def update_due(self) -> bool:
        """Whether `update` is due: a privileged step continues, or an attachment has ended."""
        return bool(self.steps) or not all(done.alive() for done in self.attached.values())

    def totals(self, ifindex: int) -> npt.NDArray[Any]:
        """The totals of one attached interface (abi.TOTALS) by CPU, shape (cpus, 2): [:, 0] ingress, [:, 1] egress. The
        counts of an earlier interface in the same slot are subtracted."""
        slot = int(self._slots[ifindex % abi.IFINDEX_SLOTS]) & abi.IFSLOT_MASK
        totals = self._totals[:, slot].copy()
        base = self._slot_base.get(slot)
        if base is not None:
            words(totals)[:] -= words(base)
        return totals

    def release(self, detach: bool) -> None:
        """Closes all; they stay pinned unless `detach`."""
        for ifindex, step in self.steps.items():
            if not step.exception() and (done := step.result()):  # waits for it
                self.attached[ifindex] = done
        for done in self.attached.values():
            if detach:
                attach.detach(done, self._pins)
            else:
                done.release()
        self.attached.clear()

"""The daemon's own messages: an id that never changes, a priority, and what journalctl -x says about each.

They generate systemd/trafficmond.catalog (`python -m trafficmond.sinks.messages`); a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# syslog(3)
CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG = 2, 3, 4, 5, 6, 7
PRIORITY_NAMES: Mapping[int, str] = {2: "critical", 3: "error", 4: "warning", 5: "notice", 6: "info", 7: "debug"}


@dataclass(frozen=True, slots=True)
class Message:
    """A kind of journal entry. `explanation` may name the entry's fields as @FIELD@."""

    id: str  # 128 bits, hex, as of `systemd-id128 new`
    priority: int
    subject: str
    explanation: str


@dataclass(frozen=True, slots=True)
class Note:
    """One message about the daemon itself, for the journal and people. `fields` get the prefix TRAFFICMON_."""

    message: Message
    text: str
    timestamp: float  # epoch seconds
    fields: Mapping[str, object] = field(default_factory=dict)


EVENT = Message(
    "30fb56ddb22d4063812a297a1c61dd63",
    INFO,
    "A packet was logged or dropped",
    """A packet from @TRAFFICMON_SRC_IP@ to @TRAFFICMON_DST_IP@ got the action @TRAFFICMON_ACTION@
from @TRAFFICMON_RULE@ (@TRAFFICMON_REASON@).

See what decides about an address:    trafficctl explain @TRAFFICMON_SRC_IP@
See all flows that match:             trafficctl flows --src @TRAFFICMON_SRC_IP@
Let its source pass:                  trafficctl add-cidr @TRAFFICMON_SRC_IP@ --action allow --save""",
)
THREAT = Message(
    "d7feef95ab034d068ca4416fd60086c8",
    WARNING,
    "A threat was detected: @TRAFFICMON_DETECTOR@",
    """The detector @TRAFFICMON_DETECTOR@ found a threat of severity @TRAFFICMON_SEVERITY@
(MITRE ATT&CK @TRAFFICMON_TECHNIQUE@).

The evidence and the flows behind it: trafficctl threat @TRAFFICMON_THREAT_ID@
Ban its source:                       trafficctl ban ADDRESS --ttl 1h
Each detector is described in /usr/share/doc/trafficmon/docs/detectors.md.""",
)
STARTED = Message(
    "235cbe13be57495b829f478f8ad25446",
    NOTICE,
    "trafficmond has started",
    """The kernel programs are loaded. They filter and count packets on the interfaces shown.

What it watches, and how: trafficctl status""",
)
STOPPED = Message(
    "0aaf03fd72314536887361c836b54a86",
    NOTICE,
    "trafficmond has stopped",
    """The last flows were read and stored. With on_stop = "keep", and while systemd restarts the service,
filtering continues in the kernel. Otherwise the programs were detached, and packets are not filtered.""",
)
RELOADED = Message(
    "74e396ee7e1246b9907b28429709e4da",
    NOTICE,
    "Rules and settings were reloaded",
    """The files were read and have no mistakes. They took effect at once for every packet.

What is in force: trafficctl rules""",
)
PROBATION_BEGUN = Message(
    "b0895b348e34422ab2204e9d6d50ec28",
    NOTICE,
    "A change is on probation",
    """@TRAFFICMON_WHAT@ is in force for a while. If nobody confirms it, the kernel takes it back by itself, even if the
daemon is not running.

Keep it:      trafficctl confirm
Take it back: trafficctl rollback
Time left:    trafficctl status""",
)
PROBATION_CONFIRMED = Message(
    "c5a2a80145394200b6136ec78f5744b8",
    NOTICE,
    "A change on probation was confirmed",
    """@TRAFFICMON_WHAT@ stays in force.

What is in force: trafficctl rules""",
)
PROBATION_OVER = Message(
    "ef3655785b8a43139890e827397f4d49",
    WARNING,
    "A change on probation was taken back",
    """@TRAFFICMON_WHAT@ was not confirmed. The rules that were confirmed before are in force again. Bans that were
made meanwhile stay. Files that were on probation are refused until they change.

Try them again: trafficctl apply
Who did what:   trafficctl audit""",
)
FILES_WAIT = Message(
    "d71588dd7c1544a1bcaedb324b426289",
    NOTICE,
    "Changed files wait for the end of a probation",
    """Settings or rules have changed while another change is on probation. They are read when that change is
confirmed, rolled back, or over.

Time left:    trafficctl status""",
)
CONFIG_REJECTED = Message(
    "1fdb2d8401014715b3c02b6d429dce54",
    ERROR,
    "Configuration was refused; the last good one stays in force",
    """A file of settings or rules has mistakes. Nothing was changed in the kernel.

See every mistake in its place: trafficctl check
Then correct the files; they are read again when they change.""",
)
NOT_AUDITED = Message(
    "ff7eba1b66d240bcaa165a73612eecba",
    WARNING,
    "A change could not be stored in the audit yet",
    """The change is in force, and this entry describes it. flows.db cannot be written: its disk is full or
read-only, or another process has locked it. The change is stored in the audit when that is possible again.

Why it cannot be written: trafficctl status
What is stored:           trafficctl audit""",
)
SOURCE_BROKEN = Message(
    "5a26699e8c5248a69b8f5c6c396695c7",
    WARNING,
    "A list or a rules file has mistakes",
    """Its valid lines are in force, or its last good content. All other files are in force as they are.

See every mistake in its place: trafficctl check""",
)
ATTACHED = Message(
    "208c3522e4234f968c8778d540535f08",
    NOTICE,
    "An interface is being watched",
    """Programs were attached to @TRAFFICMON_INTERFACE@ in @TRAFFICMON_MODE@ mode. Generic ("skb") mode works
everywhere and costs more a packet than native mode.

Why this mode: trafficctl doctor""",
)
DETACHED = Message(
    "eee45e14ed1444a3bf5e21907c6a74cb",
    WARNING,
    "An interface is no longer watched",
    """@TRAFFICMON_INTERFACE@ was removed, the settings no longer select it, or it was detached by hand. A removed
interface is watched again when it comes back.

What is watched: trafficctl status""",
)
NOTHING_WATCHED = Message(
    "8a4ff37524ee4ea6a32511885fe1de2d",
    WARNING,
    "No interface is watched",
    """Nothing is filtered and nothing is counted: no interface matches `interfaces` in the settings. An interface
that matches is watched as soon as it appears.

Which interfaces exist, and which are selected: trafficctl doctor""",
)
PINS_LOST = Message(
    "923fd525dac747edb08dc194146c46d4",
    WARNING,
    "What was pinned has been removed",
    """Somebody has removed the pinned programs from @TRAFFICMON_PATH@. Filtering and counting continue, but they end
when this daemon ends. In an emergency, trafficmond --detach cannot detach them.

Pin them again: systemctl restart trafficmond""",
)
NOBODY_GETS_IN = Message(
    "3dbcfff4938a413289049b1aa247381e",
    WARNING,
    "Nobody can open a connection to this host",
    """Under policy.default = "drop", a rule, a list or the allowlist must allow new connections, and none does.
Open connections continue, but after the last log-out nobody can log in again. The entry and `trafficctl
status` list the services that cannot be reached.

Allow somebody: trafficctl add-cidr 192.0.2.0/24 --action allow --save
Or change the default: default = "monitor" in the table [policy] of /etc/trafficmon/trafficmond.toml""",
)
ATTACH_FAILED = Message(
    "b68fa6400f97439b89882159b1538ee5",
    ERROR,
    "An interface cannot be watched",
    """The kernel refused to attach a program to @TRAFFICMON_INTERFACE@. Its traffic is neither filtered nor counted.
Another XDP program on it is never replaced.

What to do about it: trafficctl doctor""",
)
FOREIGN_PROGRAM = Message(
    "399f4c2599474a86a45ff777ddeffea8",
    ERROR,
    "Another XDP program holds an interface",
    """@TRAFFICMON_INTERFACE@ has an XDP program of another owner. trafficmon never replaces it by itself.

See who owns it:            bpftool net show dev @TRAFFICMON_INTERFACE@
Remove it, if you want to:  ip link set dev @TRAFFICMON_INTERFACE@ xdp off
Or leave this interface out of `interfaces` in /etc/trafficmon/trafficmond.toml.""",
)
BANNED = Message(
    "9cbe0abfea154da6a32a9d6cd1ed7569",
    NOTICE,
    "A source was banned",
    """@TRAFFICMON_PREFIX@ is dropped until the ban ends, also while the daemon is down.

All bans: trafficctl bans
Undo it:  trafficctl unban @TRAFFICMON_PREFIX@""",
)
WOULD_BAN = Message(
    "79181f97804f4f178c933a1d7d50a014",
    NOTICE,
    "A source would have been banned",
    """With ban = "shadow", bans are only logged: @TRAFFICMON_PREFIX@ was not banned.

The evidence:  trafficctl threat @TRAFFICMON_THREAT_ID@
To let it act: ban = "on" in the table [response] of /etc/trafficmon/trafficmond.toml""",
)
UNBANNED = Message(
    "b6f169301b3f4ca3bb7a13967c4c217f",
    INFO,
    "A ban has ended",
    """The rules decide about @TRAFFICMON_PREFIX@ again.""",
)
LOSS = Message(
    "0447cc56088149a5af4b7e55e72d07ac",
    WARNING,
    "Records were lost",
    """A log, the store or an export was too slow. Its records were dropped and counted, so that packets are not slowed
down: @TRAFFICMON_WHAT@.

Where and how many: trafficctl status
A log loses events when its disk is slow or full: see buffer_size in [[log]].""",
)
LOG_FAILED = Message(
    "c60b1f97f27448dd99889d130f9190de",
    ERROR,
    "A log cannot be written",
    """Writing to @TRAFFICMON_PATH@ fails. The daemon tries again every second. Meanwhile events wait in the buffer.
When it is full, they are lost and counted.

Check the space and the permissions of its folder, then: trafficctl status""",
)
LOG_RESUMED = Message(
    "87b8b80949cd4ad9bf49f6c089cab5fd",
    NOTICE,
    "A log is written again",
    """Writing to @TRAFFICMON_PATH@ works again.""",
)
EXPORT_FAILED = Message(
    "a1fdf93c00d24b02afee7ed8864c4a57",
    WARNING,
    "Flows cannot be sent",
    """Sending flows to @TRAFFICMON_TO@ fails. The daemon tries again. Meanwhile flows wait in the spool and the buffer.
When these are full, flows are lost and counted.

Check the target, the network, and IPAddressAllow= of the service (docs/export.md), then: trafficctl status""",
)
EXPORT_RESUMED = Message(
    "8bc9121abd044a108d45af69b784f820",
    NOTICE,
    "Flows are sent again",
    """Sending flows to @TRAFFICMON_TO@ works again.""",
)
METRICS_FAILED = Message(
    "01923ca91b674b67904551e6e3c09a83",
    WARNING,
    "Metrics cannot be served",
    """The daemon cannot listen on the address in [metrics] listen. Everything else continues.

The reason and what to do: trafficctl status""",
)
STORE_FAILED = Message(
    "7c371d9f456549879240f2a9c4a7ce50",
    ERROR,
    "The flow store cannot be written",
    """flows.db cannot be written. Filtering continues. Flows wait in memory. When there is no
more room, they are lost and counted.

Check the space of its disk, then: trafficctl status""",
)
STORE_RESUMED = Message(
    "bf45a26ddc354180a92a4b56a84e4f96",
    NOTICE,
    "The flow store is written again",
    """flows.db is being written again.""",
)
STORE_REPLACED = Message(
    "7d34433f972b4d52a4d4cd4cf47bf028",
    CRITICAL,
    "The flow store was damaged and set aside",
    """flows.db could not be read as a database. It was renamed, its content was not changed, and a new one was created.

Recover what can be read: sqlite3 @TRAFFICMON_PATH@ .recover""",
)
LEARNED_REPLACED = Message(
    "959ecbb15621402facf2acbabfb6fc1f",
    WARNING,
    "What detectors had learned was set aside",
    """The file in which detectors keep what they have learned is damaged, or from another version. It was renamed.
Its detectors start again and learn what is usual on this host.

You need not do anything. You may remove @TRAFFICMON_PATH@.""",
)
ERROR_INTERNAL = Message(
    "76f5a69699a44f6ab5d4a510794bebc7",
    ERROR,
    "Something failed inside trafficmond",
    """A part of the daemon failed; everything else continues. This is a defect. Please report it with this entry.""",
)
ALL: tuple[Message, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Message))


def catalog() -> str:
    """The message catalog (https://systemd.io/CATALOG) of all messages."""
    entries = (
        f"-- {message.id}\nSubject: {message.subject}\nDefined-By: trafficmond\n"
        f"Documentation: man:trafficmond(8)\n\n{message.explanation}\n"
        for message in ALL
    )
    return "# Made from trafficmond/sinks/messages.py\n\n" + "\n".join(entries)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(catalog())

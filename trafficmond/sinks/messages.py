"""The daemon's own messages: an id that never changes, and a priority.

What `journalctl -x` says about each is in systemd/trafficmond.catalog (https://systemd.io/CATALOG).
"""

from collections.abc import Mapping

from trafficmond.dataclass import dataclass, field

# syslog(3)
CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG = 2, 3, 4, 5, 6, 7
PRIORITY_NAMES: Mapping[int, str] = {2: "critical", 3: "error", 4: "warning", 5: "notice", 6: "info", 7: "debug"}


@dataclass(frozen=True, slots=True)
class Message:
    """A kind of journal entry."""

    id: str  # 128 bits, hex, as of `systemd-id128 new`
    priority: int


@dataclass(frozen=True, slots=True)
class Note:
    """One message about the daemon itself, for the journal and people. `fields` get the prefix TRAFFICMON_."""

    message: Message
    text: str
    timestamp: float  # epoch seconds
    fields: Mapping[str, object] = field(default_factory=dict)


EVENT = Message("30fb56ddb22d4063812a297a1c61dd63", INFO)
THREAT = Message("d7feef95ab034d068ca4416fd60086c8", WARNING)
STARTED = Message("235cbe13be57495b829f478f8ad25446", NOTICE)
STOPPED = Message("0aaf03fd72314536887361c836b54a86", NOTICE)
RELOADED = Message("74e396ee7e1246b9907b28429709e4da", NOTICE)
PROBATION_BEGUN = Message("b0895b348e34422ab2204e9d6d50ec28", NOTICE)
PROBATION_CONFIRMED = Message("c5a2a80145394200b6136ec78f5744b8", NOTICE)
PROBATION_OVER = Message("ef3655785b8a43139890e827397f4d49", WARNING)
FILES_WAIT = Message("d71588dd7c1544a1bcaedb324b426289", NOTICE)
CONFIG_REJECTED = Message("1fdb2d8401014715b3c02b6d429dce54", ERROR)
NOT_AUDITED = Message("ff7eba1b66d240bcaa165a73612eecba", WARNING)
SOURCE_BROKEN = Message("5a26699e8c5248a69b8f5c6c396695c7", WARNING)
ATTACHED = Message("208c3522e4234f968c8778d540535f08", NOTICE)
DETACHED = Message("eee45e14ed1444a3bf5e21907c6a74cb", WARNING)
NOTHING_WATCHED = Message("8a4ff37524ee4ea6a32511885fe1de2d", WARNING)
PINS_LOST = Message("923fd525dac747edb08dc194146c46d4", WARNING)
NOBODY_GETS_IN = Message("3dbcfff4938a413289049b1aa247381e", WARNING)
ATTACH_FAILED = Message("b68fa6400f97439b89882159b1538ee5", ERROR)
FOREIGN_PROGRAM = Message("399f4c2599474a86a45ff777ddeffea8", ERROR)
BANNED = Message("9cbe0abfea154da6a32a9d6cd1ed7569", NOTICE)
WOULD_BAN = Message("79181f97804f4f178c933a1d7d50a014", NOTICE)
UNBANNED = Message("b6f169301b3f4ca3bb7a13967c4c217f", INFO)
LOSS = Message("0447cc56088149a5af4b7e55e72d07ac", WARNING)
LOG_FAILED = Message("c60b1f97f27448dd99889d130f9190de", ERROR)
LOG_RESUMED = Message("87b8b80949cd4ad9bf49f6c089cab5fd", NOTICE)
EXPORT_FAILED = Message("a1fdf93c00d24b02afee7ed8864c4a57", WARNING)
EXPORT_RESUMED = Message("8bc9121abd044a108d45af69b784f820", NOTICE)
METRICS_FAILED = Message("01923ca91b674b67904551e6e3c09a83", WARNING)
STORE_FAILED = Message("7c371d9f456549879240f2a9c4a7ce50", ERROR)
STORE_RESUMED = Message("bf45a26ddc354180a92a4b56a84e4f96", NOTICE)
STORE_REPLACED = Message("7d34433f972b4d52a4d4cd4cf47bf028", CRITICAL)
LEARNED_REPLACED = Message("959ecbb15621402facf2acbabfb6fc1f", WARNING)
ERROR_INTERNAL = Message("76f5a69699a44f6ab5d4a510794bebc7", ERROR)

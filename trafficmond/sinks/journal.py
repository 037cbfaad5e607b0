"""The systemd journal: each entry a set of fields (TRAFFICMON_*), with a MESSAGE_ID that the catalog explains."""

import errno
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from trafficmond.config.streams import Log
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.model import Severity, Threat
from trafficmond.sinks import messages, record
from trafficmond.sinks.messages import Note
from trafficmond.sinks.writer import Writer

SOCKET = Path("/run/systemd/journal/socket")
_PRIORITIES: Mapping[Severity, int] = {
    Severity.LOW: messages.NOTICE,
    Severity.MEDIUM: messages.WARNING,
    Severity.HIGH: messages.ERROR,
    Severity.CRITICAL: messages.CRITICAL,
}
_FIELDS = tuple(f"TRAFFICMON_{name.upper()}=" for name in record.FIELDS)
_DROP_PRIORITY = messages.NOTICE


@lru_cache
def _installed() -> bool:
    """Whether there is systemd-python for this Python: optional with pip, since it needs a compiler and systemd's
    headers. What is compiled in it says so, without being loaded."""
    return bool(find_spec("systemd") and find_spec("systemd._journal"))


def sendv(*fields: str) -> None:
    """systemd.journal.sendv, imported when the first entry is sent. (Its `send` walks the stack for CODE_LINE at each
    call: four times the cost of the entry.)"""
    from systemd.journal import sendv as send

    send(*fields)


def lacking() -> str:
    """Why there is no journal, empty if there is one. Without one libsystemd silently drops entries."""
    if not _installed():
        return "there is no journal for Python (pip install systemd-python)"
    return "" if SOCKET.exists() else f"there is no journal ({SOCKET} is missing)"


def available() -> bool:
    return not lacking()


class Journal(Writer):
    def __init__(self, log: Log | None = None) -> None:  # noqa: ARG002 - a writer is made of its log; this has one place
        self._sent = 0  # entries sent of a batch that failed and will be retried

    def events(self, batch: Batch, names: Names) -> None:
        """One entry each; dropped ones with priority notice, logged ones with info."""
        for row in record.rows(batch[self._sent :], names):
            event = dict(zip(record.FIELDS, row, strict=True))
            priority = _DROP_PRIORITY if event["action"] == "DROP" else messages.INFO
            text = (
                f"{event['action']} {event['interface']} {record.parties(event)} "
                f"{event['packet_size']} B ({event['rule']})"
            )
            fields = (f"{field}{value}" for field, value in zip(_FIELDS, row, strict=True))
            _send(messages.EVENT.id, priority, text, fields)
            self._sent += 1
        self._sent = 0

    def threat(self, threat: Threat, state: str) -> None:
        """One entry; priority by severity, notice to critical, and notice once it is closed."""
        found = record.threat_record(threat, state)
        evidence = found.pop("evidence")
        found["threat_id"] = found.pop("id")
        fields = {**{f"evidence_{key}": value for key, value in evidence.items()}, **found}
        what = f"{threat.severity} {threat.detector}: {threat.summary} (trafficctl threat {threat.id})"
        priority = messages.NOTICE if state == "closed" else _PRIORITIES[threat.severity]
        _send(messages.THREAT.id, priority, record.of_state(state) + what, _lines(fields))

    def note(self, note: Note) -> None:
        _send(note.message.id, note.message.priority, note.text, _lines(note.fields))


def _lines(fields: Mapping[str, object]) -> Iterable[str]:
    for name, value in fields.items():
        plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper()
        yield f"TRAFFICMON_{plain}={'' if value is None else value}"


def _send(message_id: str, priority: int, text: str, fields: Iterable[str]) -> None:
    if not available():
        raise OSError(errno.ENOENT, lacking())
    sendv(
        f"MESSAGE={text}", f"MESSAGE_ID={message_id}", f"PRIORITY={priority}", "SYSLOG_IDENTIFIER=trafficmond", *fields
    )

"""Records that the store keeps besides flows: bans and audit entries; threats are model.Threat."""

import sqlite3

from trafficmond.dataclass import dataclass

# bound: threats in `flows.db` | the oldest are deleted
MOST_THREATS = 100_000
# bound: audit entries in `flows.db` | the oldest are deleted
MOST_CHANGES = 1_000_000

Key = tuple[str, str]  # prefix and owner of a ban


@dataclass(frozen=True, slots=True)
class Ban:
    """One owner's ban of a prefix, as stored over restarts; times are epoch seconds."""

    cidr: str
    by: str  # an administrator's name or a detector's
    reason: str
    since: float
    expires: float | None  # None: until lifted
    threat: str | None = None  # id
    count: int = 1  # how often this source was banned
    forced: bool = False  # whether guard and allowlist do not protect the prefix
    owner: str = "unknown"  # others lift it only explicitly
    ports: str = ""  # the services it is for, as rules name them, with commas; empty: all


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An entry of the audit: who changed what, when, from what to what."""

    at: float  # epoch seconds
    uid: int
    user: str
    pid: int
    change: str  # "add-cidr", "ban", "reload"...
    subject: str  # the prefix, rule or file
    before: str | None = None
    after: str | None = None
    login: str | None = None  # the login user, before su or sudo; None: unknown


def prune(connection: sqlite3.Connection) -> None:
    """Delete the oldest threats and changes beyond these numbers; in a transaction."""
    connection.execute(
        "DELETE FROM threats WHERE id IN (SELECT id FROM threats ORDER BY last_seen DESC LIMIT -1 OFFSET ?)",
        (MOST_THREATS,),
    )
    connection.execute("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", (MOST_CHANGES,))

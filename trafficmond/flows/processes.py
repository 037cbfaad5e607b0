"""The process of a flow: where it is looked up, and how an `owner` names it. Pure.

Such an owner is a cgroup's number with a serial number above it: the cgroup is known even if the process is not.
"""

import numpy as np

from trafficmond import abi
from trafficmond.flows.batch import Batch, Column, octets
from trafficmond.protocols import ACK, SYN, TCP, UDP

# struct tm_process_end and struct tm_process of bpf/process.bpf.c.
END = np.dtype(
    [
        ("netns", "u8"),
        ("local", "u1", 16),
        ("remote", "u1", 16),
        ("local_port", "u2"),
        ("remote_port", "u2"),
        ("proto", "u4"),
    ]
)
NOTE = np.dtype([("at_ns", "u8"), ("pid", "u4"), ("told", "u4"), ("name", "S16")])

_NAMED, _SERIAL_BITS = 1 << 63, 32
MOST_SERIALS = (1 << 31) - 2  # larger ones are constants of flows.owners
_CGROUP = (1 << _SERIAL_BITS) - 1


def word(cgroup: int, serial: int) -> int:
    """The owner that stands for a process in a cgroup, by the process's serial number."""
    return _NAMED | serial << _SERIAL_BITS | cgroup


def cgroup_of(owner: int) -> int:
    """An owner without the process that it names."""
    return owner & _CGROUP if _NAMED <= owner < _NAMED | MOST_SERIALS << _SERIAL_BITS else owner


def may_name(owners: Column) -> Column:
    """A mask of owners that are cgroups whose processes can be named."""
    return np.asarray((owners > np.uint64(abi.OWNER_KERNEL)) & (owners <= np.uint64(_CGROUP)))


def attempts(rows: Batch) -> Column:
    """A mask of records whose first packet may have opened a TCP connection from here."""
    answers = rows["first_flags"] & np.uint8(SYN | ACK) == SYN | ACK
    return np.asarray((rows["proto"] == TCP) & ~answers)


def served(rows: Batch) -> Column:
    """A mask of rows of protocols whose processes can be known."""
    return np.asarray((rows["proto"] == TCP) | (rows["proto"] == UDP))


def both_ends(rows: Batch) -> Batch:
    """END of connections that rows opened, with src as the sender."""
    ends = local_ends(rows, "src")
    ends["remote"], ends["remote_port"] = octets(rows["dst_hi"], rows["dst_lo"]), rows["dport"]
    return ends


def local_ends(rows: Batch, side: str) -> Batch:
    """END of the sender or waiting process at one end of rows."""
    ends = np.zeros(len(rows), END)
    ends["local"] = octets(rows[f"{side}_hi"], rows[f"{side}_lo"])
    ends["local_port"], ends["proto"] = rows[f"{side[0]}port"], rows["proto"]
    return ends

"""The conversations inside tunnels, as columns of flows."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from trafficmond import abi
from trafficmond.flows.batch import Column, addresses
from trafficmond.protocols import protocol_name

_TUNNELS = {abi.IPIP: "ipip", abi.GRE: "gre", abi.ERSPAN: "erspan", abi.VXLAN: "vxlan", abi.GENEVE: "geneve"}


class Inner(NamedTuple):
    """The conversation inside a tunnel; src sent its first packet."""

    tunnel: str | None = None
    vni: int | None = None  # or the key of GRE, the session of ERSPAN; None: the tunnel has no number
    inner_src_ip: str | None = None
    inner_dst_ip: str | None = None
    inner_src_port: int | None = None  # ICMP: type
    inner_dst_port: int | None = None  # ICMP: code
    inner_protocol: str | None = None


NOTHING = Inner()


def inner_flows(column: Column, inners: Mapping[int, bytes]) -> list[Inner]:
    """The conversation of each `inner` of a batch by `names.Names.inners`; NOTHING if it is 0 or unknown."""
    known = dict(zip(inners, _decoded(inners.values()), strict=True)) if inners else {}
    return [known.get(inner, NOTHING) for inner in column.tolist()] if known else [NOTHING] * len(column)


def _decoded(inners: Iterable[bytes]) -> Iterable[Inner]:
    batch = np.frombuffer(b"".join(inners), abi.INNER)
    family = np.where(batch["scope"] & abi.SCOPE_IPV6, 6, 4)
    ends = (np.ascontiguousarray(batch[end]).view(">u8").reshape(-1, 2) for end in ("src", "dst"))
    source, target = (addresses(words[:, 0], words[:, 1], family) for words in ends)
    numbered = (batch["scope"] & abi.SCOPE_NUMBERED).tolist()
    return map(
        Inner,
        [_TUNNELS.get(kind, f"tunnel {kind}") for kind in batch["tunnel"].tolist()],
        [number if has else None for number, has in zip(batch["number"].tolist(), numbered, strict=True)],
        source,
        target,
        batch["sport"].tolist(),
        batch["dport"].tolist(),
        map(protocol_name, batch["proto"].tolist()),
    )

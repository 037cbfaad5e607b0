"""Public resolvers: queries to them show nothing about the client."""

from ipaddress import ip_address

import numpy as np

from trafficmond.detect.windows import Columns
from trafficmond.flows.batch import Column, split_address

# They also serve HTTPS; on other hosts that looks like the web.
_PUBLIC = (
    *("1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "149.112.112.112", "208.67.222.222", "208.67.220.220"),
    *("94.140.14.14", "94.140.15.15", "2606:4700:4700::1111", "2606:4700:4700::1001", "2001:4860:4860::8888"),
    *("2001:4860:4860::8844", "2620:fe::fe", "2620:fe::9"),
)
_RESOLVERS = np.array([split_address(ip_address(each).packed) for each in _PUBLIC], np.uint64)  # upper and lower half


def is_resolver(flows: Columns, at: Column) -> Column:
    """A mask of flows to a public resolver."""
    found: Column = np.isin(flows["dst_lo"][at], _RESOLVERS[:, 1])
    if found.any():
        hi, lo = flows.some("dst_hi", at[found]), flows["dst_lo"][at[found]]
        found[found] = ((hi[:, None] == _RESOLVERS[:, 0]) & (lo[:, None] == _RESOLVERS[:, 1])).any(axis=1)
    return found

"""Values that no format has: the record is damage, and the records around it are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_flow import CONN, EVE, FIELDS, OCSF
from readings import Reading

from trafficmond.sinks.messages import EVENT

_ENTRY = {
    **{"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1700000000250000", "MESSAGE_ID": EVENT.id},
    **{"TRAFFICMON_TIMESTAMP": "1700000000", "TRAFFICMON_SRC_IP": "192.0.2.10", "TRAFFICMON_DST_IP": "198.51.100.7"},
    **{"TRAFFICMON_SRC_PORT": "40000", "TRAFFICMON_DST_PORT": "443", "TRAFFICMON_PROTOCOL": "TCP"},
    **{"TRAFFICMON_PACKET_SIZE": "60", "TRAFFICMON_ACTION": "LOG", "TRAFFICMON_EVENT": "new"},
}
_ECS = {
    **{"@timestamp": "2023-11-14T22:13:20.250Z", "source": {"ip": "192.0.2.10", "port": 40000, "bytes": 420}},
    **{"destination": {"ip": "198.51.100.7", "port": 443}, "network": {"transport": "tcp"}, "flow": {"id": "x"}},
    **{"event": {"duration": 1, "type": ["x"], "end": "2023-11-14T22:13:22Z"}},
}
_OWN = {
    **{"timestamp": 1700000000.25, "src_ip": "192.0.2.10", "src_port": 40000, "dst_ip": "198.51.100.7"},
    **{"dst_port": 443, "protocol": "TCP", "packet_size": 420, "action": "LOG", "interface": "eth0"},
}
_RECORDS: dict[str, dict[str, Any]] = {
    **{"zeek": CONN, "eve": EVE, "ocsf": OCSF, "vpc": FIELDS, "journal": _ENTRY, "ecs": _ECS, "own": _OWN},
}
_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.text(max_size=5),
    st.sampled_from(["9" * 5000, "\u00b2", "0x1", "2023-02-30T00:00:00Z", "9999-12-31T23:59:59Z", "\ud800"]),
    st.lists(st.none() | st.integers() | st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


@pytest.mark.parametrize("record", _RECORDS.values(), ids=_RECORDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pick=st.data())
def test_a_value_that_cannot_be_is_damage_and_no_more(
    record: dict[str, Any], pick: st.DataObject, reading: Reading
) -> None:
    odd = dict(record)
    for name in pick.draw(st.sets(st.sampled_from(list(record)), min_size=1, max_size=2)):
        if isinstance(inner := record[name], dict) and pick.draw(st.booleans()):
            odd[name] = {**inner, pick.draw(st.sampled_from(list(inner))): pick.draw(_ODD)}
        else:
            odd[name] = pick.draw(_ODD)
    whole, _ = reading(json.dumps(record).encode())
    rows, stats = reading("\n".join(map(json.dumps, [record, odd, record])).encode())
    assert stats.records >= 1
    assert int(rows["packets"].sum()) >= int(whole["packets"].sum())

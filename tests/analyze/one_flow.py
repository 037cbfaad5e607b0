"""One flow as a record of each format: what the tests of the readers begin with."""

from __future__ import annotations

START = 1700000000.25

CONN = {
    **{"ts": START, "uid": "C1", "id.orig_h": "192.0.2.10", "id.orig_p": 40000, "id.resp_h": "198.51.100.7"},
    **{"id.resp_p": 443, "proto": "tcp", "service": "ssl", "duration": 1.5, "orig_bytes": 100, "resp_bytes": 4000},
    **{"conn_state": "SF", "history": "ShADadFf", "orig_pkts": 6, "orig_ip_bytes": 420, "resp_pkts": 5},
    **{"resp_ip_bytes": 4600},
}
FIELDS = {
    **{"version": "5", "account-id": "123456789012", "interface-id": "eni-0aa", "srcaddr": "192.0.2.10"},
    **{"dstaddr": "198.51.100.7", "srcport": "40000", "dstport": "443", "protocol": "6", "packets": "6"},
    **{"bytes": "420", "start": "1700000000", "end": "1700000060", "action": "REJECT", "log-status": "OK"},
    **{"vpc-id": "vpc-0", "tcp-flags": "2", "flow-direction": "ingress", "pkt-srcaddr": "192.0.2.10"},
}
EVE = {
    **{"timestamp": "2023-11-14T22:13:25.000000+0000", "flow_id": 1, "event_type": "flow", "proto": "TCP"},
    **{"src_ip": "192.0.2.10", "src_port": 40000, "dest_ip": "198.51.100.7", "dest_port": 443},
    "flow": {
        **{"pkts_toserver": 6, "pkts_toclient": 5, "bytes_toserver": 420, "bytes_toclient": 4600},
        **{"start": "2023-11-14T22:13:20.250000+0000", "end": "2023-11-14T22:13:21.750000+0000"},
    },
}
OCSF = {
    **{"class_uid": 4001, "time": 1700000000000, "src_endpoint": {"ip": "192.0.2.10", "port": 40000}},
    **{"dst_endpoint": {"ip": "198.51.100.7", "port": 443}, "traffic": {"packets": 6, "bytes": 420}},
    **{"connection_info": {"protocol_num": 6, "tcp_flags": 2}, "action_id": 2},
}

-- The fleet's flows and threats in ClickHouse, as trafficmond's [[export]] fills them and `trafficctl --from` asks them.
-- Runs on 18.16 (Debian's) and later:
--     clickhouse-client --multiquery < flows.sql
-- See docs/export.md for users, retention and what newer servers can do besides.

CREATE DATABASE IF NOT EXISTS trafficmon;

-- One row a flow and reporting interval, as `flows` of flows.db (docs/flows-db.md), and whose it is:
--   sensor   the host that saw it
--   batch    what was sent together; a batch is inserted whole or not at all
--   row      its place in the batch; (batch, row) names a row for ever
--   day      of last_seen, UTC
--   src, dst addresses as 16 bytes, IPv4 mapped into IPv6: what prefixes are looked for in
-- A batch that had to be sent twice is there once: merges keep one of the rows with equal keys, FINAL shows one before.
CREATE TABLE IF NOT EXISTS trafficmon.flows
(
    day Date,
    sensor String,
    batch String,
    row UInt32,
    first_seen Float64,
    last_seen Float64,
    src FixedString(16),
    dst FixedString(16),
    src_port UInt16,
    dst_port UInt16,
    protocol String,
    protocol_num UInt8,
    packets UInt64,
    bytes UInt64,
    reply_packets UInt64,
    reply_bytes UInt64,
    tcp_flags UInt8,
    reply_tcp_flags UInt8,
    action String,
    rule String,
    interface String,
    direction String,
    vlan UInt16,
    community_id String,
    tunnel Nullable(String),
    vni Nullable(UInt32),
    inner_src_ip Nullable(String),
    inner_dst_ip Nullable(String),
    inner_src_port Nullable(UInt16),
    inner_dst_port Nullable(UInt16),
    inner_protocol Nullable(String),
    unit Nullable(String),
    cgroup Nullable(String),
    uid Nullable(UInt32),
    process Nullable(String),
    pid Nullable(UInt32),
    src_ip String ALIAS if(substring(src, 1, 12) = unhex('00000000000000000000FFFF'), substring(IPv6NumToString(src), 8), IPv6NumToString(src)),
    dst_ip String ALIAS if(substring(dst, 1, 12) = unhex('00000000000000000000FFFF'), substring(IPv6NumToString(dst), 8), IPv6NumToString(dst))
)
ENGINE = ReplacingMergeTree()
PARTITION BY day
ORDER BY (last_seen, batch, row);

-- One row an update of a threat, as `threats` of flows.db; the latest of (sensor, id) is how it is now, which FINAL shows:
--   sensor   the host whose detectors found it
--   batch    what was sent together
--   revision grows with each update; merges keep the row with the largest
--   day      of first_seen, UTC
--   src, dst attacker and victim as 16 bytes; NULL: many, or unknown
CREATE TABLE IF NOT EXISTS trafficmon.threats
(
    day Date,
    sensor String,
    batch String,
    revision UInt64,
    id String,
    detector String,
    severity String,
    technique String,
    src Nullable(FixedString(16)),
    dst Nullable(FixedString(16)),
    first_seen Float64,
    last_seen Float64,
    count UInt64,
    summary String,
    evidence String,
    state String,
    src_ip Nullable(String) ALIAS if(substring(src, 1, 12) = unhex('00000000000000000000FFFF'), substring(IPv6NumToString(src), 8), IPv6NumToString(src)),
    dst_ip Nullable(String) ALIAS if(substring(dst, 1, 12) = unhex('00000000000000000000FFFF'), substring(IPv6NumToString(dst), 8), IPv6NumToString(dst))
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(day)
ORDER BY (sensor, id);

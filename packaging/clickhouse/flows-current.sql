-- The fleet's flows and threats in a current ClickHouse: the same rows as flows.sql's, on less disk. Tried with 26.9;
-- LowCardinality and codecs need 20.3 or so.
--     clickhouse-client --multiquery < flows-current.sql
-- What the columns mean is said in flows.sql.

CREATE DATABASE IF NOT EXISTS trafficmon;

CREATE TABLE IF NOT EXISTS trafficmon.flows
(
    day Date,
    sensor LowCardinality(String),
    batch LowCardinality(String),
    row UInt32 CODEC(Delta(4), ZSTD(1)),
    first_seen Float64 CODEC(Delta(8), ZSTD(1)),
    last_seen Float64 CODEC(Delta(8), ZSTD(1)),
    src FixedString(16) CODEC(ZSTD(1)),
    dst FixedString(16) CODEC(ZSTD(1)),
    src_port UInt16 CODEC(ZSTD(1)),
    dst_port UInt16 CODEC(ZSTD(1)),
    protocol LowCardinality(String),
    protocol_num UInt8 CODEC(ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    reply_packets UInt64 CODEC(T64, ZSTD(1)),
    reply_bytes UInt64 CODEC(T64, ZSTD(1)),
    tcp_flags UInt8 CODEC(ZSTD(1)),
    reply_tcp_flags UInt8 CODEC(ZSTD(1)),
    action LowCardinality(String),
    rule LowCardinality(String),
    interface LowCardinality(String),
    direction LowCardinality(String),
    vlan UInt16 CODEC(ZSTD(1)),
    community_id String CODEC(ZSTD(1)),
    tunnel LowCardinality(Nullable(String)),
    vni Nullable(UInt32),
    inner_src_ip Nullable(String),
    inner_dst_ip Nullable(String),
    inner_src_port Nullable(UInt16),
    inner_dst_port Nullable(UInt16),
    inner_protocol LowCardinality(Nullable(String)),
    unit LowCardinality(Nullable(String)),
    cgroup LowCardinality(Nullable(String)),
    uid Nullable(UInt32),
    src_ip String ALIAS if(substring(src, 1, 12) = unhex('00000000000000000000FFFF'), substring(IPv6NumToString(src), 8), IPv6NumToString(src)),
    dst_ip String ALIAS if(substring(dst, 1, 12) = unhex('00000000000000000000FFFF'), substring(IPv6NumToString(dst), 8), IPv6NumToString(dst))
)
ENGINE = ReplacingMergeTree()
PARTITION BY day
ORDER BY (last_seen, batch, row)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS trafficmon.threats
(
    day Date,
    sensor LowCardinality(String),
    batch LowCardinality(String),
    revision UInt64,
    id String CODEC(ZSTD(1)),
    detector LowCardinality(String),
    severity LowCardinality(String),
    technique LowCardinality(String),
    src Nullable(FixedString(16)),
    dst Nullable(FixedString(16)),
    first_seen Float64,
    last_seen Float64,
    count UInt64,
    summary String CODEC(ZSTD(1)),
    evidence String CODEC(ZSTD(1)),
    state LowCardinality(String),
    src_ip Nullable(String) ALIAS if(substring(src, 1, 12) = unhex('00000000000000000000FFFF'), substring(IPv6NumToString(src), 8), IPv6NumToString(src)),
    dst_ip Nullable(String) ALIAS if(substring(dst, 1, 12) = unhex('00000000000000000000FFFF'), substring(IPv6NumToString(dst), 8), IPv6NumToString(dst))
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(day)
ORDER BY (sensor, id)
SETTINGS non_replicated_deduplication_window = 1000;

-- The fleet's flows and threats in a current ClickHouse: the same rows as flows.sql's, on less disk. Tried with 26.9.
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
    process LowCardinality(Nullable(String)),
    pid Nullable(UInt32),
    -- Of the five-tuple, as trafficmond computes it (https://github.com/corelight/community-id-spec), when it is asked for:
    -- it would be 40 % of the disk. A sensor that finds it computed does not send it.
    community_id String ALIAS if(protocol_num IN (6, 17, 132) AND src_port = 0 AND dst_port = 0, '', concat('1:', base64Encode(SHA1(arrayMap(
        (mate, v4) -> arrayMap(
            (swapped, other) -> concat(
                '\0\0',
                if(v4, substring(if(swapped, dst, src), 13, 4), substring(if(swapped, dst, src), 1, 16)),
                if(v4, substring(if(swapped, src, dst), 13, 4), substring(if(swapped, src, dst), 1, 16)),
                char(protocol_num, 0),
                if(
                    protocol_num IN (1, 58, 6, 17, 132),
                    if(
                        swapped,
                        char(intDiv(other, 256), other % 256, intDiv(src_port, 256), src_port % 256),
                        char(intDiv(src_port, 256), src_port % 256, intDiv(other, 256), other % 256)
                    ),
                    ''
                )
            ),
            [if(
                protocol_num IN (1, 58),
                mate >= 0 AND if(src = dst, src_port > mate, src > dst),
                src > dst OR (src = dst AND src_port > dst_port)
            )],
            [if(mate >= 0, toInt32(mate), toInt32(dst_port))]
        )[1],
        [multiIf(
            protocol_num NOT IN (1, 58), toInt32(-1),
            src_port > 255, toInt32(src_port),
            protocol_num = 1, transform(toInt32(src_port), [8, 0, 10, 9, 13, 14, 15, 16, 17, 18], [0, 8, 9, 10, 14, 13, 16, 15, 18, 17], -1),
            transform(toInt32(src_port), [128, 129, 130, 131, 133, 134, 135, 136, 139, 140, 144, 145], [129, 128, 131, 130, 134, 133, 136, 135, 140, 139, 145, 144], -1)
        )],
        [substring(src, 1, 12) = unhex('00000000000000000000FFFF') AND substring(dst, 1, 12) = unhex('00000000000000000000FFFF')]
    )[1])))),
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

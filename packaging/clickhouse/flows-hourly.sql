-- Sums of the fleet's flows by the hour, kept as they come in: small enough to keep for years, and what `trafficctl usage
-- --from` asks where it is there. After flows.sql or flows-current.sql, from 18.16 on:
--     clickhouse-client --multiquery < flows-hourly.sql
-- See docs/fleet.md for hours from before, and for what a crash of the server can leave to mend.

CREATE TABLE IF NOT EXISTS trafficmon.flows_hourly
(
    hour DateTime('UTC'),
    sensor String,
    interface String,
    direction String,
    action String,
    rule String,
    unit String,
    protocol String,
    protocol_num UInt8,
    dst_port UInt16,
    flows UInt64,
    packets UInt64,
    bytes UInt64,
    reply_packets UInt64,
    reply_bytes UInt64
)
ENGINE = SummingMergeTree((flows, packets, bytes, reply_packets, reply_bytes))
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, sensor, interface, direction, action, rule, unit, protocol, protocol_num, dst_port);

CREATE MATERIALIZED VIEW IF NOT EXISTS trafficmon.flows_to_hourly TO trafficmon.flows_hourly AS
SELECT
    toDateTime(intDiv(toUInt32(last_seen), 3600) * 3600, 'UTC') AS hour,
    sensor, interface, direction, action, rule, ifNull(unit, '') AS unit, protocol, protocol_num, dst_port,
    count() AS flows, sum(packets) AS packets, sum(bytes) AS bytes,
    sum(reply_packets) AS reply_packets, sum(reply_bytes) AS reply_bytes
FROM trafficmon.flows
GROUP BY hour, sensor, interface, direction, action, rule, unit, protocol, protocol_num, dst_port;

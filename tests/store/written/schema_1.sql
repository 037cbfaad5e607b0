PRAGMA application_id = 1953329006;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE [audit] (
   [id] INTEGER PRIMARY KEY,
   [at] FLOAT NOT NULL,
   [uid] INTEGER NOT NULL,
   [user] TEXT NOT NULL,
   [pid] INTEGER NOT NULL,
   [change] TEXT NOT NULL,
   [subject] TEXT NOT NULL,
   [before] TEXT,
   [after] TEXT
);
INSERT INTO "audit" VALUES(1,1700000000.0,0,'root',42,'ban','192.0.2.7/32',NULL,'for 600 s');
CREATE TABLE [bans] (
   [cidr] TEXT PRIMARY KEY,
   [by] TEXT NOT NULL,
   [reason] TEXT NOT NULL,
   [since] FLOAT NOT NULL,
   [expires] FLOAT,
   [threat] TEXT,
   [count] INTEGER NOT NULL
);
INSERT INTO "bans" VALUES('192.0.2.7/32','port_scan','scans',1699999990.0,1700000600.0,'01-AB',2);
INSERT INTO "bans" VALUES('2001:db8::/32','ada','',1699999980.0,NULL,NULL,1);
CREATE TABLE flows_1 (first_seen REAL NOT NULL, last_seen REAL NOT NULL, src_ip TEXT NOT NULL, dst_ip TEXT NOT NULL, src_port INTEGER NOT NULL, dst_port INTEGER NOT NULL, protocol TEXT NOT NULL, protocol_num INTEGER NOT NULL, packets INTEGER NOT NULL, bytes INTEGER NOT NULL, reply_packets INTEGER NOT NULL, reply_bytes INTEGER NOT NULL, tcp_flags INTEGER NOT NULL, reply_tcp_flags INTEGER NOT NULL, action TEXT NOT NULL, rule TEXT NOT NULL, interface TEXT NOT NULL, direction TEXT NOT NULL, vlan INTEGER NOT NULL, community_id TEXT NOT NULL);
INSERT INTO "flows_1" VALUES(1699999999.0,1700000000.0,'192.0.2.0','198.51.100.2',40000,443,'TCP',6,3,300,2,200,0,0,'monitor','default','eth0','ingress',0,'1:aWUTdiPqn12TA0zSto0tVckVQ9Q=');
INSERT INTO "flows_1" VALUES(1699999999.0,1700000000.0,'192.0.2.1','198.51.100.2',40000,443,'TCP',6,3,300,2,200,0,0,'monitor','default','eth0','ingress',0,'1:NbXPA3TEXRmHZI919Uo5iaoB4Q0=');
INSERT INTO "flows_1" VALUES(1699999999.0,1700000000.0,'192.0.2.2','198.51.100.2',40000,443,'TCP',6,3,300,2,200,0,0,'monitor','default','eth0','ingress',0,'1:wStrr+iO6eHDKuXANNcqjeW3SaM=');
CREATE TABLE [partitions] (
   [number] INTEGER PRIMARY KEY,
   [first_seen] FLOAT,
   [last_seen] FLOAT,
   [rows] INTEGER,
   [sealed] INTEGER
);
INSERT INTO "partitions" VALUES(1,1699999999.0,1700000000.0,3,0);
CREATE TABLE rollups (period TEXT NOT NULL, start REAL NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, flows INTEGER NOT NULL, packets INTEGER NOT NULL, bytes INTEGER NOT NULL, reply_packets INTEGER NOT NULL, reply_bytes INTEGER NOT NULL, PRIMARY KEY (period, start, kind, key)) WITHOUT ROWID;
INSERT INTO "rollups" VALUES('day',1699920000.0,'action','monitor',3,9,900,6,600);
INSERT INTO "rollups" VALUES('day',1699920000.0,'host','192.0.2.0',1,3,300,2,200);
INSERT INTO "rollups" VALUES('day',1699920000.0,'host','192.0.2.1',1,3,300,2,200);
INSERT INTO "rollups" VALUES('day',1699920000.0,'host','192.0.2.2',1,3,300,2,200);
INSERT INTO "rollups" VALUES('day',1699920000.0,'host','198.51.100.2',3,9,900,6,600);
INSERT INTO "rollups" VALUES('day',1699920000.0,'interface','eth0',3,9,900,6,600);
INSERT INTO "rollups" VALUES('day',1699920000.0,'port','443/tcp',3,9,900,6,600);
INSERT INTO "rollups" VALUES('day',1699920000.0,'protocol','TCP',3,9,900,6,600);
INSERT INTO "rollups" VALUES('day',1699920000.0,'total','all',3,9,900,6,600);
INSERT INTO "rollups" VALUES('hour',1699999200.0,'action','monitor',3,9,900,6,600);
INSERT INTO "rollups" VALUES('hour',1699999200.0,'host','192.0.2.0',1,3,300,2,200);
INSERT INTO "rollups" VALUES('hour',1699999200.0,'host','192.0.2.1',1,3,300,2,200);
INSERT INTO "rollups" VALUES('hour',1699999200.0,'host','192.0.2.2',1,3,300,2,200);
INSERT INTO "rollups" VALUES('hour',1699999200.0,'host','198.51.100.2',3,9,900,6,600);
INSERT INTO "rollups" VALUES('hour',1699999200.0,'interface','eth0',3,9,900,6,600);
INSERT INTO "rollups" VALUES('hour',1699999200.0,'port','443/tcp',3,9,900,6,600);
INSERT INTO "rollups" VALUES('hour',1699999200.0,'protocol','TCP',3,9,900,6,600);
INSERT INTO "rollups" VALUES('hour',1699999200.0,'total','all',3,9,900,6,600);
INSERT INTO "rollups" VALUES('minute',1699999980.0,'action','monitor',3,9,900,6,600);
INSERT INTO "rollups" VALUES('minute',1699999980.0,'host','192.0.2.0',1,3,300,2,200);
INSERT INTO "rollups" VALUES('minute',1699999980.0,'host','192.0.2.1',1,3,300,2,200);
INSERT INTO "rollups" VALUES('minute',1699999980.0,'host','192.0.2.2',1,3,300,2,200);
INSERT INTO "rollups" VALUES('minute',1699999980.0,'host','198.51.100.2',3,9,900,6,600);
INSERT INTO "rollups" VALUES('minute',1699999980.0,'interface','eth0',3,9,900,6,600);
INSERT INTO "rollups" VALUES('minute',1699999980.0,'port','443/tcp',3,9,900,6,600);
INSERT INTO "rollups" VALUES('minute',1699999980.0,'protocol','TCP',3,9,900,6,600);
INSERT INTO "rollups" VALUES('minute',1699999980.0,'total','all',3,9,900,6,600);
CREATE TABLE [threats] (
   [id] TEXT PRIMARY KEY,
   [detector] TEXT NOT NULL,
   [severity] TEXT NOT NULL,
   [technique] TEXT NOT NULL,
   [src_ip] TEXT,
   [dst_ip] TEXT,
   [first_seen] FLOAT NOT NULL,
   [last_seen] FLOAT NOT NULL,
   [count] INTEGER NOT NULL,
   [summary] TEXT NOT NULL,
   [evidence] TEXT NOT NULL,
   [state] TEXT NOT NULL
);
INSERT INTO "threats" VALUES('01-AB','port_scan','high','T1046','192.0.2.7','198.51.100.2',1699999940.0,1700000000.0,3,'192.0.2.7 scans 198.51.100.2','{"ports": 300}','opened');
CREATE INDEX threats_last_seen ON threats (last_seen);
CREATE INDEX audit_at ON audit (at);
CREATE VIEW flows AS SELECT first_seen, last_seen, src_ip, dst_ip, src_port, dst_port, protocol, protocol_num, packets, bytes, reply_packets, reply_bytes, tcp_flags, reply_tcp_flags, action, rule, interface, direction, vlan, community_id FROM flows_1;
COMMIT;

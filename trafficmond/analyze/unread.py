"""Formats that are recognised but not read, each with a command or a step that makes a readable file."""

import re

from trafficmond.analyze.sample import Sample
from trafficmond.analyze.unpack import GZIP, PROGRAMS

_CONVERTED = "tshark -w FILE.pcap -r"
_QUERIED = "duckdb -json -c \"from 'FILE'\" # instead of FILE its path:"
_CAPTURES = {  # by the program
    "snoop": (b"snoop\0\0\0",),
    "Ixia": (b"\x1c\0\x01\xac", b"\xac\x01\0\x1c", b"\x1c\0\x01\xab", b"\xab\x01\0\x1c"),
    "Microsoft Network Monitor": (b"GMBU", b"RTSS"),
    "Sniffer": (b"XCP\0", b"TRSNIFF data    \x1a"),
    "Visual Networks": (b"\x05VNF",),
    "InfoVista 5View": (b"\xaa\xaa\xaa\xaa",),
    "OmniPeek": (b"\x7fver",),
    "AIX's iptrace": (b"iptrace ",),
    "HP-UX's nettl": (b"\x54\x52\0\x64\0",),
    "LANalyzer": (b"\x01\x10L\0",),
    "Observer": (b"ObserverPktBuf",),
    "Tektronix' K12 as text": (b"+---------+---------------+----------+",),
}
# The first bytes of a file, what it is, and how to convert it.
_STARTS: tuple[tuple[bytes | tuple[bytes, ...], str, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "7z x -so"),
    (GZIP, "compressed twice", "zcat FILE | zcat # instead of FILE its path:"),
    *(
        (starts, "compressed twice", f"{name} -dc FILE | {name} -dc # instead of FILE its path:")
        for name, starts in PROGRAMS.items()
    ),
    (b"PK\x03\x04", "a zip archive", "unzip -p"),
    (b"PAR1", "a Parquet file", _QUERIED),
    (b"LPKSHHRH", "a file of the journal", "journalctl -o json --file"),
    *((starts, f"a capture of {program}", _CONVERTED) for program, starts in _CAPTURES.items()),
    (b"btsnoop\0", "a capture of Bluetooth", "tshark -r"),
    ((b"\x0c\xa5\x01\0", b"\x0c\xa5\x02\0", b"\xa5\x0c\0"), "a binary file of nfdump", "nfdump -o csv -r"),
    (b"\x83\x10", "a binary file of Argus", "ra -n -c , -r"),
    (b"PK\x05\x06", "an empty zip archive", "unzip -l"),
    (b"Rar!\x1a\x07", "a rar archive", "unrar p -inul"),
    (b"\x89LZO", "compressed with lzop", "lzop -dc"),
    (b"\xff\x06\0\0sNaPpY", "compressed with snappy", "snzip -dc"),
    (b"0707", "a cpio archive", "cpio -i --to-stdout -I"),
    (b"!<arch>", "an ar archive", "ar p"),
    (b"Obj\x01", "an Avro file", "avro cat"),
    (b"ORC", "an ORC file", "orc-contents"),
    (b"ARROW1", "an Arrow file", _QUERIED),
    (b"ElfFile\0", "a log of Windows' events", "evtx_dump -o jsonl"),
    (b"LOGG", "a log of Vector (BLF)", _CONVERTED),
    (b"version https://git-lfs", "Git LFS's pointer to a large file", "git lfs pull --include"),
    (b"\xde\xad\xbe\xef", "a binary file of SiLK", "rwcut --delimited=,"),
    (b"\xcf\x10", "a binary file of flow-tools", "flow-export -f2 <"),
)
_SENT = (  # the first bytes of messages to a collector, of which the NULs in front are not looked at
    ((b"\5\0\0\0\1", b"\5\0\0\0\2"), "sFlow"),
    ((b"\5\0", b"\7\0", b"\x09\0"), "NetFlow"),
    (tuple(bytes([10, size]) for size in range(6)), "IPFIX"),
)

_TAR_AT, _TAR = 257, b"ustar"

_AS_VPC = (
    "write it as AWS does: a line `srcaddr dstaddr srcport dstport protocol packets bytes start end`, then a line with "
    "these values for each flow and direction"
)
_AS_ARGUS = (
    "write it as Argus does: a line `StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,SrcPkts,DstPkts,SrcBytes,"
    "DstBytes`, then a line with these values for each flow"
)
_AS_JSON = "have journalctl write JSON: journalctl -u trafficmond -o json | trafficctl analyze -"
_AS_RA = "write it with commas: ra -n -c , -s +dur,spkts,dpkts,sbytes,dbytes -r FILE"
_CAPTURE = "give the capture that it was made from"
_NAMED = "give only the lines, below a header line with the names of their fields in the flow log's format"
_UNCOUNTED = "an Elastic Common Schema event without packets or bytes"

_LINES_OF_JSON = (
    "write an object for each row: pandas to_json(orient='records', lines=True), ClickHouse FORMAT JSONEachRow, others "
    "with jq -c"
)
_COLLECTED = "analyse the text that a collector makes of it: nfcapd and nfdump, or sflowtool"

_FIELDS = (  # what it is, the next step, and fields that are all in JSON or in a line with the names of columns
    ("a flow log of Google Cloud", _AS_VPC, "jsonPayload,logName", "reporter,bytes_sent"),
    ("a flow log of Google Cloud", _AS_VPC, "jsonPayload.connection.src_ip"),
    ("a flow log of Azure", _AS_VPC, "flowTuples", "flowTuple", "packetsStoD,bytesStoD"),
    ("a flow log of Azure", _AS_VPC, "SrcIP_s,L4Protocol_s", "SubType,L4Protocol"),
    ("a flow log of IBM Cloud", _AS_ARGUS, "initiator_ip,target_ip"),
    ("a flow log of Oracle Cloud", _AS_VPC, "sourceAddress,destinationAddress,bytesOut"),
    ("records of nfdump", _AS_VPC, "t_first,in_packets", "first,last,in_packets", "ts,te,sa,da", "firstSeen,srcAddr"),
    ("flows of Hubble", _AS_VPC, "verdict,l4,IP"),
    ("records of IPFIXcol2", _AS_VPC, "iana:octetDeltaCount"),
    ("records of vFlow", _AS_VPC, "AgentID,DataSets"),
    ("an answer of Loki", "have logcli write the lines themselves: logcli query -o raw", "stream,values"),
    ("a log group of CloudWatch", _NAMED, "logStreamName,message", "logEvents,logStream"),
    ("records of Firehose", "decode them: jq -r '.records[].data' FILE | base64 -d", "recordId,data"),
    ("an event of CloudWatch", "decode it: jq -r .awslogs.data FILE | base64 -d | gzip -d", "awslogs"),
    ("records of nProbe", _AS_ARGUS, "IPV4_SRC_ADDR", "IPV6_SRC_ADDR"),
    ("records of pmacct", _AS_VPC, "ip_src,ip_dst", "SRC_IP,DST_IP"),
    ("records of GoFlow2", _AS_VPC, "time_flow_start_ns"),
    ("records of GoFlow", _AS_VPC, "TimeFlowStart,SrcAddr"),
    ("records of Akvorado", _AS_VPC, "ExporterAddress,SrcAddr"),
    ("records of NetObserv", _AS_VPC, "TimeFlowStartMs,SrcAddr"),
    ("records of YAF", _AS_ARGUS, "flowStartMilliseconds,sourceIPv4Address", "start-time,end-time,sip"),
    ("records of IPFIX", _AS_VPC, "sourceIPv4Address,destinationIPv4Address"),
    ("NetFlow as Logstash decodes it", _AS_VPC, "ipv4_src_addr,ipv4_dst_addr"),
    ("records of SiLK", _AS_VPC, "sIP,dIP"),
    ("sFlow as sflowtool writes it", _AS_VPC, "datagramSourceIP"),
    ("alerts of Snort", _CAPTURE, "src_ap,dst_ap"),
    ("flows of nDPI", _CAPTURE, "ndpi_proto", "ndpi,xfer"),
    ("flows of nDPId", _CAPTURE, "flow_event_name,l4_proto"),
    ("flows of NFStream", _CAPTURE, "bidirectional_packets"),
    ("flows of CICFlowMeter", _CAPTURE, "Flow Duration", "flow_duration,flow_byts_s"),
    ("flows of Tranalyzer", _CAPTURE, "flowInd,flowStat"),
    ("flows of Joy", _CAPTURE, "num_pkts_out,time_start"),
    ("sessions of Arkime", _CAPTURE, "firstPacket,ipProtocol", "Arkime Node"),
    ("a log of ulogd", _AS_VPC, "oob.in,ip.protocol"),
    ("connections of ulogd", _AS_ARGUS, "orig.ip.saddr.str"),
    ("records of ra in another format", _AS_RA, "saddr,daddr,dir"),
    ("a log of Palo Alto", _AS_ARGUS, "Receive Time,Source address"),
    ("packets of Wireshark as text", _CAPTURE, "No.,Source,Destination"),
    ("JSON of tshark", _CAPTURE, "_source,layers", "layers,timestamp"),
    ("logs of OpenTelemetry", "have the collector export the records themselves", "kvlistValue"),
    (_UNCOUNTED, _AS_ARGUS, "@timestamp,source,destination", "source.ip,destination.ip"),
)
_TABULAR = (  # patterns for JSON that has the columns of a table, or rows without names
    r'\s*\{\s*"[^"]+"\s*:\s*\[\s*[^][{}\s][^][]*(\]\s*,\s*"[^"]+"\s*:\s*\[|$)',
    r'\s*\{\s*"[^"]+"\s*:\s*\{\s*"[\d:. TZ-]+"\s*:\s*[^][{}\s]',
    r'(?s)\s*\{.{0,4096}?"(columns|fields|meta)"\s*:\s*\[\s*["{].*?(\[\s*\[|"data"\s*:\s*\{\s*"[^"]+"\s*:\s*\[)',
    r'\s*\[\s*(\[|"[^{"]|[-\d.]+,\s*")',
)
_TCPDUMP = "text of tcpdump"
_TEXTS = (  # a pattern for a line, what it is, and the next step
    (r"Date (first seen|flow start) +(Duration|Event)", "text of nfdump", _AS_VPC),
    (r"[\d-]{10} [\d:.]+ +[\d:.]+ \w+ +\S+ +<?-> +\S+ +\d", "text of nfdump", _AS_VPC),
    (r"[\d-]{10} [\d:.]+ - [\d:.]+ \([\d.]+ sec\) ", "text of YAF", _AS_ARGUS),
    (r"(FLOW|CNTR),[\da-fA-F.:]+,\d+,|startDatagram =", "sFlow as sflowtool writes it", _AS_VPC),
    (r".*\bCEF: ?\d\|", "events in CEF", _AS_ARGUS),
    (r".*\bLEEF: ?\d\.\d\|", "events in LEEF", _AS_ARGUS),
    (r"\d\d/\d\d.{5,30}\[\*\*\] \[\d+:\d+:\d+\]", "alerts of Snort or Suricata", "give Suricata's eve.json"),
    (r".* (FORWARDED|DROPPED|TRANSLATED) \((TCP|UDP|ICMP|SCTP)", "flows of Hubble", _AS_VPC),
    (r"\d{9,}(\.\d+)?\tC\w{9,19}\t", "rows of Zeek without the names of their columns", "keep them: zeek-cut -C"),
    (r"\{(_path: *\"|ts: *\d)", "records of Zed", "have it write JSON or Zeek's own form: zq -f zeek"),
    (r"(\d\S* ){0,2}(\S+ +(In|Out|P|M|B) +)?IP6? (\S+ > \S+: |\((tos|class|flowlabel|hlim) )", _TCPDUMP, _CAPTURE),
    (r"(\d\S* ){0,2}[0-9a-f:]{17} (\(.{1,40}\) )?> [0-9a-f:]{17}[, ]", _TCPDUMP, _CAPTURE),
    (r"(Ethernet|IPv[46]|TCP|UDP) (Conversations|Endpoints)", "conversations of tshark", _CAPTURE),
    (r" *(Start|Last)Time +.*\bSrcAddr +", "text of ra in another format", _AS_RA),
    (r"<ArgusDataStream|\{ *\"StartTime\" *:|<!--Generated by ra\(", "text of ra in another format", _AS_RA),
    (r".{0,70}\btrafficmond\[\d+\]: |-- (Logs|Journal) begin", "a journal as text", _AS_JSON),
    (r".{0,50}\[s=[0-9a-f]{4,};i=", "a journal as text", _AS_JSON),
    (r"(COLUMNINFO|ROWS|DATA)(\t|$)", "an answer of Athena as text", "ask for JSON: --output json"),
    (r"<[pw]s?d?ml ", "XML of tshark", _CAPTURE),
    (r"Frame \d+: \d+ bytes on wire| *\d+\s+[\d:.-]+\s+\S+\s+→\s+\S+\s", "text of tshark", _CAPTURE),
    (r"0000 +([0-9a-f]{2} +){4}", "a hex dump of packets", "make a capture of it: text2pcap FILE FILE.pcap"),
    (r"\[?\{(?=.*\"8\": ?\"[\d.]+\")(?=.*\"12\": ?\"[\d.]+\")", "records of nProbe", _AS_ARGUS),  # fields by number
    (r"\d{1,2}\|\d{9,}\|\d+\|(\d+\|){3,}|Flow Record: $", "text of nfdump", _AS_VPC),
    (r".{0,80}\bsrc=\S+ dst=\S+ .*\bsrc=\S+ dst=\S+", "connections of conntrack", _AS_ARGUS),
    (r"<conntrack>|-A -t \d+ -u ", "connections of conntrack", _AS_ARGUS),
    (r".*\bIN=\S* .*\bSRC=\S+ DST=\S+ ", "a log of iptables or ufw", _AS_VPC),
    (r".*\brule \d+\S*\(?\S*: (pass|block|match) (in|out) on |.*\bfilterlog\b", "a log of pf", _AS_VPC),
    (r"#Software: Microsoft Windows Firewall", "a log of Windows' firewall", _AS_VPC),
    (r".*%(ASA|FTD|PIX)-\d-\d+:|.*%SEC-\d-IPACCESSLOG", "a log of a Cisco firewall", _AS_ARGUS),
    (r"SrcIf +SrcIPaddress +", "a Cisco router's flows", _AS_VPC),
    (r".*\bRT_FLOW(_SESSION|:| )", "a log of a Juniper firewall", _AS_ARGUS),
    (r".*\b\w+: in:\S+ out:", "a log of a MikroTik firewall", _AS_VPC),
    (r".*\btype=\"?traffic\"?[ ,].*\bsrcip=", "a log of FortiGate", _AS_ARGUS),
    (r"(.{0,60} )?\d,\d{4}/\d\d/\d\d [\d:]+,\w+,TRAFFIC,", "a log of Palo Alto", _AS_ARGUS),
    (r"__[A-Z_]+=|(_BOOT_ID|_TRANSPORT|PRIORITY|MESSAGE|MESSAGE_ID)(=|$)", "a journal in its export format", _AS_JSON),
    (r"jsonPayload:$", "a flow log of Google Cloud", _AS_VPC),
    (r"(?i)<(!doctype )?html", "a web page", "download the file that it links to"),
)


def packed(head: bytes, path: str) -> tuple[str, str] | None:
    """(what the file is, the next step), if it holds other files or is another kind of capture; by its first bytes."""
    for magic, what, program in _STARTS:
        if head.startswith(magic):
            return what, f"make a readable file of it: {program} {path}"
    if head[_TAR_AT:].startswith(_TAR):
        return "a tar archive", f"unpack it: tar -xOf {path}"
    return None


def unread(sample: Sample, path: str) -> tuple[str, str] | None:
    """The same for any other file that is recognised but not read. `path` is for the commands."""
    head = sample.head
    if _is_wide(head[:64]) or head[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return "text in UTF-16 or UTF-32 without a byte order mark", f"convert it: iconv -f UTF-16LE -t UTF-8 {path}"
    for starts, what in _SENT:
        if head.startswith(starts):
            return f"{what} as it was sent", _COLLECTED
    columns = [_columns(line) for line in sample.lines[:_LINES]]
    for what, hint, *kinds in _FIELDS:
        for names in (kind.split(",") for kind in kinds):
            quoted = b"{" in head and all(f'"{name}"'.encode() in head for name in names)
            if quoted or any(found.issuperset(names) for found in columns):
                return what, hint
    if any(re.match(pattern, head.decode("utf-8", "replace")) for pattern in _TABULAR):
        return "JSON with the columns of a table, or rows without the names of their fields", _LINES_OF_JSON
    for pattern, what, hint in _TEXTS:
        if any(re.match(pattern, line[:_SEEN]) for line in sample.lines[:_LINES]):
            return what, hint
    return None


def _columns(line: str) -> set[str]:
    """What may be the names of columns in a line, whatever separates them."""
    return {name.strip(' "#') for name in re.split(r"[,;|\t]", line)} | set(line[:_SEEN].split())


def _is_wide(start: bytes) -> bool:
    """Whether every second byte is NUL, and no other."""
    even, odd = start[::2], start[1::2]
    return any(nuls and not any(nuls) and text and 0 not in text for nuls, text in ((even, odd), (odd, even)))


_LINES, _SEEN = 8, 500  # so many lines, and so many characters of each

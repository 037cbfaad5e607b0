"""Logins by SSH, FTP, SMB and MQTT, distinguished from refusals by the number of messages and the time they took."""

import numpy as np

from trafficmond.detect.windows import Columns, members
from trafficmond.flows.batch import Column

PORTS = members(22, 2222)
# Until its first password or key is refused, a client sends its name, its algorithms, its key, new keys, a service
# request, a probe without proof, the proof and the end (RFC 4252, RFC 4253). After a login it also opens a channel,
# requests something in it and closes it (RFC 4254).
_REFUSED_MESSAGES, _LET_IN_MESSAGES = 8, 10
# By FTP a refusal takes USER, PASS and QUIT, each further guess two of them. A client that stores or fetches a file
# also sends at least TYPE, PASV and STOR or RETR (RFC 959).
_FTP, _FTP_REFUSED_MESSAGES, _FTP_LET_IN_MESSAGES, _FTP_GUESS_MESSAGES = 21, 3, 6, 2
# By SMB a refusal takes two negotiations, two messages of NTLM and a logoff. After a login, the client connects to a
# share and opens something in it (MS-SMB2, 4.4).
_SMB, _SMB_REFUSED_MESSAGES, _SMB_LET_IN_MESSAGES = members(139, 445), 5, 7
# By MQTT, a refusal takes one message; who publishes also sends this, and the end (MQTT 3.1.1).
_MQTT, _MQTT_REFUSED_MESSAGES, _MQTT_LET_IN_MESSAGES = 1883, 1, 3
_HELD_BACK_S = 1.5  # PAM delays each refusal by 2 s, plus or minus a quarter (pam_fail_delay)
_SEGMENT = 1448  # payload of a full segment; exactly as many packets as this needs are an estimate, not a count


def let_in(rows: Columns) -> Column:
    """A mask of such connections with more messages than a refusal takes, too quick for so many refusals."""
    packets = rows["payload_packets"].astype(float)
    counted = packets > -(-rows["payload_bytes"].astype(float) // _SEGMENT)
    # If only packets were counted, half of them are taken to have payload: the others acknowledge the server's.
    packets[~counted] = rows["packets"][~counted] / 2
    ftp, smb, mqtt = rows["dport"] == _FTP, _SMB[rows["dport"]], counted & (rows["dport"] == _MQTT)
    more = packets - np.select([smb, mqtt], [_SMB_REFUSED_MESSAGES, _MQTT_REFUSED_MESSAGES], _REFUSED_MESSAGES)
    more = np.where(ftp, (packets - _FTP_REFUSED_MESSAGES) / _FTP_GUESS_MESSAGES, more)
    few = [_FTP_LET_IN_MESSAGES, _SMB_LET_IN_MESSAGES, _MQTT_LET_IN_MESSAGES]
    enough = packets >= np.select([ftp, smb, mqtt], few, _LET_IN_MESSAGES)
    quick = rows["last"] - rows["first"] < _HELD_BACK_S * more
    found: Column = (PORTS[rows["dport"]] | ftp | smb | mqtt) & (rows["reply_packets"] > 0) & enough & quick
    return found

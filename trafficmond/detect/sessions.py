"""Logins by SSH, FTP, SMB and MQTT, distinguished from refusals by the number of messages and the time they took."""

import numpy as np

from trafficmond.detect.windows import Columns, members
from trafficmond.flows.batch import Column

PORTS = members(22, 2222)
# Until its first password or key is refused, a client sends its name, its algorithms, its key, new keys, a service
# request, a probe without proof, the proof and the end (RFC 4252, RFC 4253). After a login it also opens a channel,
# requests something in it and closes it (RFC 4254).
_REFUSED_MESSAGES, _LET_IN_MESSAGES = 8, 10
# sshd allows six tries a connection (MaxAuthTries), of two messages each at most (RFC 4256), within two minutes
# (LoginGraceTime). A client that neither probes nor takes leave sends two messages less than the usual refusal.
_MOST_MESSAGES, _FEWEST_MESSAGES, _GRACE_S = 7 + 6 * 2, 6, 120.0
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
    """A mask of such connections with more messages than a refusal takes, too quick or too long for as many."""
    messages = _messages(rows)
    ftp, smb, mqtt, ssh = rows["dport"] == _FTP, _SMB[rows["dport"]], rows["dport"] == _MQTT, PORTS[rows["dport"]]
    more = messages - np.select([smb, mqtt], [_SMB_REFUSED_MESSAGES, _MQTT_REFUSED_MESSAGES], _REFUSED_MESSAGES)
    more = np.where(ftp, (messages - _FTP_REFUSED_MESSAGES) / _FTP_GUESS_MESSAGES, more)
    lasts = rows["last"] - rows["first"]
    long = ssh & ((messages > _MOST_MESSAGES) | (lasts > _GRACE_S))
    found: Column = talkative(rows) & ((lasts < _HELD_BACK_S * more) | long)
    return found


def talkative(rows: Columns) -> Column:
    """A mask of such connections with as many messages as a login has; several refusals have as many."""
    messages, ports = _messages(rows), rows["dport"]
    ftp, smb, mqtt = ports == _FTP, _SMB[ports], ports == _MQTT
    few = [_FTP_LET_IN_MESSAGES, _SMB_LET_IN_MESSAGES, _MQTT_LET_IN_MESSAGES]
    least = np.select([ftp, smb, mqtt], few, _LET_IN_MESSAGES)
    found: Column = (PORTS[ports] | ftp | smb | mqtt) & (rows["reply_packets"] > 0) & (messages >= least)
    return found


def _messages(rows: Columns) -> Column:
    messages, half = rows["payload_packets"].astype(float), rows["packets"] / 2
    # If only packets were counted, half of them are taken to have payload: the others acknowledge the server's. (What
    # these tell of MQTT is too little.) Of a long SSH record, the estimate is a few.
    counted = messages > -(-rows["payload_bytes"].astype(float) // _SEGMENT)
    half[rows["dport"] == _MQTT] = 0
    doubtful = PORTS[rows["dport"]] & ((messages < _FEWEST_MESSAGES) | (half > _MOST_MESSAGES))
    return np.where(counted, np.where(doubtful, np.maximum(messages, half), messages), half)

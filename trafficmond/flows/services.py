"""Ports of well-known services, which show the server of two ends if nothing else does."""

import numpy as np

_FIRST_RESERVED = 512  # from here to 1023 clients of old protocols bind as well (rresvport)
_OTHERS = (
    *(514, 515, 520, 543, 544, 546, 547, 548, 554, 587, 623, 631, 636, 646, 853, 873, 989, 990, 992, 993, 995),
    *(1080, 1194, 1433, 1521, 1701, 1723, 1812, 1813, 1883, 1900, 2049, 2055, 2222, 3128, 3306, 3389, 3478),
    *(4500, 4739, 4789, 5060, 5061, 5222, 5353, 5355, 5432, 5672, 5683, 5900, 5985, 5986, 6000, 6379, 6667),
    *(8000, 8080, 8443, 8883, 9092, 9100, 9200, 11211, 27017, 51820),
)
KNOWN = np.zeros(65536, bool)
KNOWN[:_FIRST_RESERVED] = True
KNOWN[list(_OTHERS)] = True
FTP_DATA = 20
KNOWN[FTP_DATA] = False  # from it the server opens connections (RFC 959, 5.2), it does not answer there

"""A network laboratory on one machine: namespaces joined by veth pairs, captures replayed frame by frame, floods
from inside the kernel, and the daemon run in it as a user would run it.

Tests, the demo and the bench share it. Everything it makes is named `tmlab*` and removed on the way out.
"""

from .capture import Capture, read_capture
from .daemon import Daemon, DaemonFailed
from .flood import Flood
from .listener import Listener
from .namespaces import Lab, LabError, Link, Namespace
from .sender import Sender, Sent

__all__ = [
    "Capture",
    "Daemon",
    "DaemonFailed",
    "Flood",
    "Lab",
    "LabError",
    "Link",
    "Listener",
    "Namespace",
    "Sender",
    "Sent",
    "read_capture",
]

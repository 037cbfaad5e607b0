"""The versions of this client and of the daemon.

Examples:
  trafficctl version
  trafficctl --version                        only that of the client; needs no daemon
"""

from argparse import Namespace

from trafficctl import session
from trafficmond import __version__


def run(args: Namespace) -> None:
    daemon = session.call(args, "Version")["version"]
    versions = {"trafficctl": __version__, "trafficmond": daemon}
    session.output(args).report(versions, lambda *_: map(" ".join, versions.items()))

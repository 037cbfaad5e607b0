"""A web server with SSH under a default of drop, as its administrator sets it up, with real connections."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import shutil
import socket
import threading
from collections.abc import Iterator

import pytest
from door import LOGGED
from test_lab_default_drop import Responder, bound
from tmlab import Daemon, Lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

DROP = '[policy]\ndefault = "drop"\n' + LOGGED
OFFICE, STRANGER, INTERNET = "203.0.113.7", "198.51.100.7", "198.51.100.53"
OFFICE6, STRANGER6 = "2001:db8:5::7", "2001:db8:77::7"
SILENT_S = 0.4


class Pages(http.server.BaseHTTPRequestHandler):
    """A web server's answers: long enough for many segments."""

    def do_GET(self) -> None:
        body = b"welcome\n" * 20_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Dual(http.server.ThreadingHTTPServer):
    """Both families."""

    address_family = socket.AF_INET6
    daemon_threads = True


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        link = lab.links[0]
        lab.outside.ip(*(f"addr add {address}/32 dev lo" for address in (OFFICE, STRANGER, INTERNET)))
        lab.outside.ip(*(f"addr add {address}/128 dev lo nodad" for address in (OFFICE6, STRANGER6)))
        lab.host.ip(
            f"route add 203.0.113.0/24 via {link.outside_ip}", f"route add 198.51.100.0/24 via {link.outside_ip}"
        )
        lab.host.ip(f"route add 2001:db8::/32 via {link.outside_ip6}")
        yield lab


def serve(lab: Lab) -> None:
    """The host's servers: web on 80 and 443, something that greets on 22 and 8080, and a name server."""
    with lab.host.entered():
        for port in (80, 443):
            threading.Thread(target=Dual(("::", port), Pages).serve_forever, daemon=True).start()
        for port in (22, 8080):
            made = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
            threading.Thread(target=_greet, args=(made,), daemon=True).start()
    Responder(lab.host, lab.links[0].host_ip, 53, lambda _: b"no business of yours")


def _greet(made: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            peer, _ = made.accept()
            peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            peer.close()


def reach(lab: Lab, source: str, port: int) -> str:
    """What a client at `source` gets from the host's port: all of a page, a greeting, or nothing at all."""
    target = lab.links[0].host_ip6 if ":" in source else lab.links[0].host_ip
    with lab.outside.entered():
        client = bound(socket.SOCK_STREAM, source, 0)
    client.settimeout(SILENT_S)
    with client:
        try:
            client.connect((target, port))
        except TimeoutError:
            return "silent"
        client.settimeout(5)
        if port not in (80, 443):
            return client.recv(64).decode().strip()
        connection = http.client.HTTPConnection(target)
        connection.sock = client
        connection.request("GET", "/")
        answer = connection.getresponse()
        return f"{answer.status} {len(answer.read())}"


def test_a_web_server_with_ssh_for_one_network(lab: Lab) -> None:
    link, page, greeting = lab.links[0], "200 160000", "SSH-2.0-OpenSSH_9.2"
    serve(lab)
    with Daemon(lab, DROP) as daemon:
        assert {reach(lab, source, 443) for source in (OFFICE, STRANGER6)} == {"silent"}
        daemon.control("allow", "tcp/80,tcp/443", "--save")
        daemon.control("allow", "ssh", "from", "203.0.113.0/24", "2001:db8:5::/48", "--save")
        for source in (OFFICE, STRANGER, OFFICE6, STRANGER6):
            assert {reach(lab, source, port) for port in (80, 443)} == {page}, source
            ssh = greeting if source in (OFFICE, OFFICE6) else "silent"
            assert [reach(lab, source, port) for port in (22, 8080)] == [ssh, "silent"], source
        with lab.outside.entered():
            asker = bound(socket.SOCK_DGRAM, STRANGER, 0)
        asker.settimeout(SILENT_S)
        asker.sendto(b"version.bind", (link.host_ip, 53))
        with pytest.raises(TimeoutError):
            asker.recv(64)
        # From within: names, time and packages.
        for port in (53, 123):
            Responder(lab.outside, INTERNET, port, lambda question: question[::-1])
            with lab.host.entered():
                question = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            question.settimeout(3)
            question.sendto(b"debian.org", (INTERNET, port))
            assert question.recv(64) == b"gro.naibed"
        with lab.outside.entered():
            threading.Thread(target=Dual(("::", 80), Pages).serve_forever, daemon=True).start()
        with lab.host.entered():
            mirror = http.client.HTTPConnection(INTERNET, timeout=5)
            mirror.connect()
        mirror.request("GET", "/debian/dists/stable/InRelease")
        assert len(mirror.getresponse().read()) == 160000
        # A second look by another daemon: what was saved is there from the first packet on.
        daemon.stop()
        daemon.start()
        assert [reach(lab, STRANGER, port) for port in (443, 22)] == [page, "silent"]


@pytest.mark.skipif(shutil.which("ping") is None, reason="needs ping; install: apt-get install iputils-ping")
def test_ping_as_configured(lab: Lab) -> None:
    def ping(source: str) -> bool:
        target = lab.links[0].host_ip6 if ":" in source else lab.links[0].host_ip
        return lab.outside.run("ping", "-c1", "-W0.4", "-I", source, target, check=False).returncode == 0

    with Daemon(lab, DROP) as daemon:
        assert not ping(STRANGER)
        daemon.control("allow", "icmp/8,icmpv6/128", "from", "198.51.100.0/24", "2001:db8:77::/48")
        assert [ping(source) for source in (STRANGER, STRANGER6, OFFICE)] == [True, True, False]
        assert lab.host.run("ping", "-c1", "-W0.4", INTERNET, check=False).returncode == 0, "its own pings are answered"
        daemon.control("undo")
        assert not ping(STRANGER)

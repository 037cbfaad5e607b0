"""An interface shared with other XDP programs, where the kernel lets it; where it does not, it is watched alone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import sharing
from tmlab import Daemon, Lab, Sender

pytestmark = pytest.mark.root

SETTINGS = 'on_stop = "keep"\n[flows]\ninterval = "200ms"\ncapacity = 1024\n'


def takes_dispatchers(lab: Lab) -> bool:
    """Whether this kernel has extensions of programs, by what becomes of xdp-filter alone."""
    name = lab.links[0].host
    lab.host.run("xdp-filter", "load", name)
    told = lab.host.run("xdp-loader", "status", name).stdout
    lab.host.run("xdp-filter", "unload", name)
    assert "xdpfilt" in told
    return "xdp_dispatcher" in told


@pytest.fixture(autouse=True)
def _tools() -> None:
    if lacking := sharing.lacking():
        pytest.skip(lacking)


def test_beside_xdp_filter_over_restarts_and_out_again() -> None:
    with Lab() as lab, Sender(lab.outside, lab.links[0].outside) as sender:
        if not takes_dispatchers(lab):
            pytest.skip(
                "this kernel refuses BPF_PROG_TYPE_EXT, to xdp-filter too; make test-kernels has some that do not"
            )
        daemon = Daemon(lab, SETTINGS)
        try:
            on = sharing.Sharing(lab, daemon, sender, SETTINGS)
            assert sharing.refused(on) == ""
            for step in (sharing.joined, sharing.left, sharing.there_and_back):
                step(on)
        finally:
            daemon.remove()


def test_where_the_kernel_refuses_it_is_watched_alone_and_status_says_why() -> None:
    with Lab() as lab, Sender(lab.outside, lab.links[0].outside) as sender:
        if takes_dispatchers(lab):
            pytest.skip("this kernel takes dispatchers")
        daemon = Daemon(lab, SETTINGS)
        try:
            on = sharing.Sharing(lab, daemon, sender, SETTINGS)
            warning = sharing.refused(on)
            assert warning.startswith(f"{on.name} is not shared with other XDP programs: this kernel refuses")
            assert "take xdp_share out of the settings" in warning
            on.through("a restart", on.start)
            on.detach()
            assert on.heard(sharing.BAD) == 5
            assert "xdp" not in lab.host.run("ip", "link", "show", on.name).stdout
        finally:
            daemon.remove()


def test_a_program_without_a_dispatcher_is_not_touched() -> None:
    with Lab() as lab, Sender(lab.outside, lab.links[0].outside) as sender:
        name = lab.links[0].host
        lab.host.run("xdp-filter", "load", name, check=True)
        daemon = Daemon(lab, SETTINGS)
        try:
            if takes_dispatchers_now(lab):
                pytest.skip("this kernel has xdp-filter load through a dispatcher, which is joined")
            with pytest.raises(
                AssertionError, match=r'XDP program "xdpfilt_alw_all".*is attached alone, not through libxdp'
            ):
                sharing.Sharing(lab, daemon, sender, SETTINGS).start()
            assert "xdpfilt" in lab.host.run("xdp-loader", "status", name).stdout
        finally:
            daemon.remove()
            lab.host.run("xdp-filter", "unload", name)


def test_a_slow_step_keeps_nobody_waiting() -> None:
    """While it ran, the daemon answered nobody and read no ledger."""
    settings = SETTINGS + '[[interface]]\nname = "late0"\nxdp_share = "libxdp"\n'
    with Lab() as lab, Daemon(lab, settings, interfaces=[lab.links[0].host, "late0"]) as daemon:

        def step() -> int | None:
            threads = Path(f"/proc/{daemon.pid}/task").glob("*/children")
            children = [pid for path in threads for pid in path.read_text().split()]
            return next((int(pid) for pid in children if b"sharer" in Path(f"/proc/{pid}/cmdline").read_bytes()), None)

        lab.host.run("ip", "link", "add", "late0", "type", "veth")
        privileged = daemon.wait(step, "the privileged step", every=0.01)
        assert privileged is not None
        os.kill(privileged, signal.SIGSTOP)
        try:
            for _ in range(3):
                began = time.monotonic()
                assert daemon.status()["unwatched"] == [
                    "late0 is not watched: its chain of XDP programs is being changed, which may take a minute on a "
                    "slow host"
                ]
                assert time.monotonic() - began < 5
        finally:
            os.kill(privileged, signal.SIGCONT)
        status = daemon.wait_status(lambda found: not found["unwatched"], "it to be watched", 20)
        assert {each["name"] for each in status["interfaces"]} == {lab.links[0].host, "late0"}


def takes_dispatchers_now(lab: Lab) -> bool:
    """Whether what is loaded now is in a dispatcher."""
    return "xdp_dispatcher" in lab.host.run("xdp-loader", "status", lab.links[0].host).stdout

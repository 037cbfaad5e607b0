"""The privileged step: what it takes for a request, and what it says where libxdp is not there."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from trafficctl.doctor import interfaces as doctor
from trafficctl.doctor.examination import FAIL, OK
from trafficctl.doctor.nic import Nic
from trafficmond import __version__, abi, part_options, sharer
from trafficmond.config.settings import PerInterface, Settings
from trafficmond.datapath import attach, libbpf, libxdp, share
from trafficmond.datapath.attach import Attachment
from trafficmond.datapath.attachments import Attachments
from trafficmond.datapath.interfaces import EgressHook, Interface, Selection, XdpMode
from trafficmond.datapath.loader import MAPS, Sizes
from trafficmond.datapath.pins import layout_name
from trafficmond.errors import DatapathError

SIZES = Sizes(2, 1024, 32768)


def request(**changes: Any) -> bytes:
    """One to join, but for `changes`; None takes a key away."""
    whole = {
        "do": "join",
        "ifindex": 1,
        "modes": ["native"],
        "layout": layout_name(SIZES),
        "sizes": [2, 1024, 32768, 1],
    }
    whole |= {"seed": 1, "owners": True, "maps": list(MAPS), "direct": False} | changes
    return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()


@pytest.fixture
def no_libxdp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without the library."""
    whole = ctypes.CDLL

    def opened(name: str | None, *arguments: Any, **more: Any) -> ctypes.CDLL:
        if name == "libxdp.so.1":
            raise OSError("libxdp.so.1: cannot open shared object file: No such file or directory")
        return whole(name, *arguments, **more)

    libxdp.library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", opened)


@pytest.mark.parametrize(
    "asked",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        request(do="unload"),
        request(do=None),
        request(ifindex=0),
        request(ifindex="eth0"),
        request(ifindex=True),
        request(sizes=None),
        request(sizes=[2, "x", 3, 4]),
        request(sizes=[1, 2, 3, 4, 5]),
        request(maps=["tm_config"]),
        request(maps=[*list(MAPS)[1:], "tm_scratch"]),
        request(maps=[*list(MAPS), "tm_config"]),
        request(),  # without the descriptors of its maps
        request(do="leave", alone=True),  # without that of its program
        b"\xff\xfe",
    ],
)
def test_what_is_no_request_is_answered_so(asked: bytes) -> None:
    said = sharer.answer(asked, [])
    assert "does not know this request" in said["error"]
    assert said["hint"]


def test_a_daemon_of_another_layout_is_asked_to_start_again() -> None:
    said = sharer.answer(request(layout="maps-00000000-2-1024-32768-1"), [])
    assert said["error"] == "the running trafficmon is not the installed version"
    assert said["hint"] == "restart trafficmond"


@pytest.mark.parametrize("more", [{"alone": False}, {}])  # {}: of a daemon before the upgrade
def test_what_is_no_map_is_refused(more: dict[str, bool]) -> None:
    with Path("/dev/null").open() as nothing:
        said = sharer.answer(request(do="leave", **more), [nothing.fileno()])
    assert "the kernel refused it" in said["error"]


@pytest.mark.usefixtures("no_libxdp")
def test_without_libxdp_it_says_what_to_install() -> None:
    said = sharer.answer(request(do="look"), [])
    assert said["error"].startswith('xdp_share = "libxdp" needs libxdp 1.3 or later: libxdp.so.1')
    assert "apt-get install xdp-tools" in said["hint"]


@pytest.mark.usefixtures("no_libxdp")
def test_the_doctor_says_it_too() -> None:
    (finding,) = doctor._sharing(Settings())
    assert (finding.state, "apt-get install xdp-tools" in finding.advice) == (FAIL, True)


def test_one_request_over_a_socket_as_systemd_gives_it() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(20)
        ours.send(request(do="unload"))
        command = [sys.executable, "-m", "trafficmond.sharer"]
        done = subprocess.run(command, stdin=theirs.fileno(), capture_output=True, text=True, check=False)
        said = json.loads(ours.recv(share.ANSWER_BYTES))
    assert (done.returncode, done.stdout) == (0, "")
    assert said["error"] in done.stderr


@pytest.mark.parametrize("stdin", [subprocess.DEVNULL, subprocess.PIPE])
def test_by_hand_it_says_whose_it_is(stdin: int) -> None:
    command = [sys.executable, "-m", "trafficmond.sharer"]
    done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "trafficmon-share is started by systemd, or by trafficmond; not by hand\n",
    )


def test_it_says_its_version_as_the_other_programs_do() -> None:
    command = [sys.executable, "-m", "trafficmond.sharer", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"trafficmon-share {__version__}\n"


def test_a_service_without_its_socket_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 998)
    monkeypatch.setattr(share, "SOCKET", tmp_path / "share")
    with pytest.raises(DatapathError, match=r"cannot reach trafficmon-share.*: No such file") as refused:
        share.leave(1, [])
    assert "systemctl enable --now trafficmon-share.socket" in refused.value.hint


def test_a_slow_step_is_waited_for_and_systemd_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Given up after 25 s, it went on by itself: the daemon attached alone, or found its own program in its way."""
    monkeypatch.setattr(os, "geteuid", lambda: 998)
    monkeypatch.setattr(share, "SOCKET", tmp_path / "share")
    monkeypatch.setattr(share, "_SIGN_S", 0.05)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as waiting,
    ):
        manager.bind(str(tmp_path / "notify"))
        waiting.bind(str(share.SOCKET))
        waiting.listen()

        def slow() -> None:
            connection, _ = waiting.accept()
            with connection:
                for _ in range(3):
                    assert manager.recv(100) == b"WATCHDOG=1\nEXTEND_TIMEOUT_USEC=30000000"
                connection.recv(1000)
                connection.send(b"{}")

        with ThreadPoolExecutor() as beside:
            answered = beside.submit(slow)
            assert share.leave(1, []) is None
            answered.result()


def test_a_changed_chain_is_read_while_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each status waited for it, as long as the privileged step took."""
    reply: dict[str, Any] = {"ours": True, "dispatcher": 8, "chain": ["50 tm_xdp", "10 xdpfilt_alw_all"]}
    asked, may_answer = [0], threading.Event()

    def slow(*_: object) -> dict[str, Any]:
        asked[0] += 1
        may_answer.wait(10)
        return reply

    program = [7]
    monkeypatch.setattr(share, "_ask", slow)
    monkeypatch.setattr(libbpf, "xdp_id", lambda _: program[0])
    found = share.Shared(2, 7, XdpMode.NATIVE, ["50 tm_xdp"])
    assert found.holds(3)
    assert found.looking is None
    program[0] = 8
    for _ in range(3):
        assert found.holds(3)
    assert (found.dispatcher, asked[0] <= 1) == (7, True)
    looking = found.looking
    assert looking is not None
    may_answer.set()
    looking.result(10)
    assert found.holds(3)
    assert (found.dispatcher, found.chain, found.looking) == (8, reply["chain"], None)
    program[0], reply["ours"] = 9, False
    assert found.holds(3)
    looking = found.looking
    assert looking is not None
    looking.result(10)
    assert [found.holds(3) for _ in range(3)] == [False] * 3
    assert asked[0] == 2


def test_a_look_that_failed_is_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each starts a process: with trafficmon-share missing, one began every five seconds."""
    asked = [0]

    def fails(*_: object) -> dict[str, Any]:
        asked[0] += 1
        raise DatapathError("cannot reach trafficmon-share")

    monkeypatch.setattr(share, "_ask", fails)
    monkeypatch.setattr(libbpf, "xdp_id", lambda _: 8)
    found = share.Shared(2, 7, XdpMode.NATIVE, ["50 tm_xdp"])
    assert found.holds(3)
    looking = found.looking
    assert looking is not None
    looking.exception(10)
    assert all(found.holds(3) for _ in range(5))
    assert (asked[0], found.looking) == (1, None)
    found.failed -= share.PAUSE_S
    assert found.holds(3)
    assert found.looking is not None
    found.looking.exception(10)
    assert asked[0] == 2


def test_an_interface_is_taken_out_of_a_chain_while_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, ended = threading.Event(), []

    def slow(done: Attachment, _: object) -> None:
        may_end.wait(10)
        ended.append(done.name)

    monkeypatch.setattr(attach, "detach", slow)
    monkeypatch.setattr(libbpf, "xdp_id", lambda _: 7)
    slots = np.zeros(abi.IFINDEX_SLOTS, np.uint8)
    nothing = cast("Any", types.SimpleNamespace(directory=Path("/nowhere")))
    some = Attachments(nothing, nothing, nothing, nothing, slots, "auto", True, nothing)
    chain = share.Shared(2, 7, XdpMode.NATIVE, ["50 tm_xdp"])
    some._end(Attachment(2, "eth0", XdpMode.NATIVE, EgressHook.TCX, shared=chain))
    assert (ended, some.update_due()) == ([], True)
    may_end.set()
    assert some.steps[2].result(10) is None
    assert ended == ["eth0"]
    chain.ours = False  # others have taken it out: nothing is left to do
    some._end(Attachment(2, "eth2", XdpMode.NATIVE, EgressHook.TCX, shared=chain))
    some._end(Attachment(3, "eth1", XdpMode.NATIVE, EgressHook.TCX))  # alone: at once
    assert ended == ["eth0", "eth1"]


def test_what_cannot_be_taken_out_of_a_chain_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The interface was no longer chosen, the program stayed, and neither log nor status said so."""
    marked, eth0 = {2}, Interface(2, "eth0", 1500, True, False, 7, XdpMode.NATIVE)
    monkeypatch.setattr(attach, "detach_pinned", lambda *_: None)  # it fails without an error
    pins = types.SimpleNamespace(directory=tmp_path, attached=lambda: marked, is_shared=marked.__contains__)
    slots, nothing = np.zeros(abi.IFINDEX_SLOTS, np.uint8), cast("Any", None)
    some = Attachments(nothing, nothing, cast("Any", pins), nothing, slots, "auto", True, nothing)
    some.ever = True
    assert some.update([eth0], Selection(())) == []
    some.steps[2].result(10)
    (told,) = some.update([eth0], Selection(()))
    assert (told.kind, told.interface, "could not be taken out" in told.text) == ("failed", "eth0", True)
    some._again = 0.0
    assert some.update([eth0], Selection(())) == []
    some.steps[2].result(10)
    assert (some.update([eth0], Selection(())), some.refused) == ([], {2: told}), "once"
    marked.clear()
    assert (some.update([eth0], Selection(())), some.refused) == ([], {})


def test_the_setting_is_for_the_interfaces_it_names_and_waits_for_a_restart() -> None:
    old = Settings(per_interface=(PerInterface("eth0", "libxdp"), PerInterface("wl*", "off")))
    assert part_options.options(old).shared == ("eth0",)
    assert part_options.at_restart(old, Settings()) == ["interface"]
    assert part_options.at_restart(old, old) == []


@pytest.mark.parametrize(
    ("program", "chain", "shared", "state", "said"),
    [
        (
            "xdp_dispatcher",
            ("5 tm_xdp", "10 xdpfilt_alw_all"),
            True,
            OK,
            "shared through libxdp: 5 tm_xdp, 10 xdpfilt_",
        ),
        ("xdp_dispatcher", ("10 xdpfilt_alw_all",), True, OK, "which trafficmon joins: 10 xdpfilt_alw_all"),
        ("xdp_dispatcher", ("10 xdpfilt_alw_all",), False, FAIL, "another XDP program is attached: xdp_dispatcher"),
        ("somebody", (), True, FAIL, "another XDP program is attached: somebody"),
        ("tm_xdp", (), True, OK, "trafficmon is attached, native"),
    ],
)
def test_the_doctor_tells_whose_the_hook_is(
    program: str, chain: tuple[str, ...], shared: bool, state: str, said: str
) -> None:
    nic = Nic("eth0", xdp_mode="native", xdp_program=program, xdp_chain=chain)
    (finding,) = doctor._program(nic, "interface eth0", shared)
    assert finding.state == state
    assert said in finding.what

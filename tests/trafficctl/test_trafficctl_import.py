"""Rules of other firewalls, translated: what is said, what is named as left out, and that each packet gets the same."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import tomllib
from argparse import Namespace
from pathlib import Path

import pytest
from ctl_runs import Ctl
from hypothesis import example, settings
from hypothesis import given as having
from hypothesis import strategies as st
from import_judging import IMPORTED, READERS, SAMPLES, given, passes, policy_of

from trafficctl.commands import import_rules
from trafficctl.exits import UsageError
from trafficctl.imports import decide
from trafficctl.imports.ruleset import ACCEPT, DROP, RETURN, Base, Line, Ruleset
from trafficmond import services
from trafficmond.errors import ControlError
from trafficmond.model import Direction

KNOWN = {
    "ufw": [
        ("203.0.113.5", "tcp/22", True),
        ("198.51.100.5", "tcp/22", False),
        ("203.0.113.66", "tcp/22", True),  # the deny stands later
        ("203.0.113.66", "udp/60500", False),
        ("203.0.113.65", "udp/60500", True),
        ("198.51.100.5", "tcp/2222", True),
        ("192.0.2.9", "gre", True),
        ("192.0.2.8", "gre", False),
        ("2001:db8:5::1", "tcp/22", True),
        ("2001:db8:6::1", "tcp/22", False),
        ("2001:db8:6::1", "icmpv6/128", True),
        ("192.0.2.8", "icmp/8", True),
        ("192.0.2.8", "icmp/13", False),
    ],
    "nft": [
        ("192.0.2.5", "tcp/443", False),
        ("198.51.100.70", "tcp/22", True),
        ("198.51.100.70", "tcp/80", False),
        ("198.51.100.71", "tcp/22", True),
        ("198.51.100.96", "tcp/22", False),
        ("203.0.113.127", "tcp/22", True),
        ("203.0.113.128", "tcp/22", False),
        ("10.9.9.9", "tcp/8050", True),
        ("11.9.9.9", "tcp/8050", False),
        ("2001:db8:bad::5", "tcp/9100", True),
        ("2001:db8:bad::5", "tcp/443", False),
    ],
    "firewalld": [
        ("203.0.113.7", "tcp/25", True),
        ("203.0.113.8", "tcp/22", False),
        ("203.0.114.8", "tcp/22", True),
        ("198.51.100.9", "tcp/8080", True),
        ("198.51.101.9", "tcp/8080", False),
        ("2001:db8:5::9", "tcp/5432", True),
        ("2001:db8:6::9", "tcp/5432", False),
        ("2001:db8:6::9", "icmpv6/128", True),
    ],
}


@pytest.mark.parametrize("source", SAMPLES)
def test_real_rule_sets_let_the_same_in(source: str) -> None:
    policy = policy_of(READERS[source](given(*SAMPLES[source])))
    for address, service, wanted in KNOWN[source]:
        assert passes(policy, address, service) is wanted, (address, service)


def test_what_goes_out() -> None:
    policy = policy_of(READERS["nft"](given("server.nft")))
    assert not passes(policy, "192.0.2.9", "tcp/25", Direction.EGRESS)
    assert passes(policy, "192.0.2.9", "tcp/26", Direction.EGRESS)
    assert not passes(policy, "2001:db8:bad::1", "tcp/26", Direction.EGRESS)


def test_the_command_prints_a_file_that_is_right_and_names_what_is_left_out(ctl: Ctl, tmp_path: Path) -> None:
    done = ctl("import", "--from", "firewalld", str(IMPORTED / "public.xml"))
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "zone.toml").write_text(done.stdout)
    assert ctl("check", str(tmp_path / "zone.toml")).returncode == 0
    assert all("cidr" in table for table in tomllib.loads(done.stdout)["rule"])
    done = ctl("import", "--from", "ufw", str(IMPORTED / "ufw"))
    assert done.returncode == 1
    for where, what in (
        ("user.rules:30", "cannot count new connections"),
        ("before.rules:28", "own address"),
        ("user.rules:27", "drops replies to connections that this host opens"),
    ):
        assert any(where in line and what in line for line in done.stderr.splitlines()), done.stderr
    done = ctl("import", "--from", "nft", "-", stdin=(IMPORTED / "server.nft").read_text())
    assert (done.returncode, 'label = "HTTP/3"' in done.stdout) == (0, True)
    for arguments, stdin, said in (
        (["nft"], "table inet x { chain input {", "never closed"),
        (["nft"], "ct {", "never closed"),
        (["nft"], "", "hook input"),
        (["iptables-save"], "nonsense", "standard input:1 is not a line of iptables-save"),
        (["firewalld"], "<service/>", "not a zone"),
        (["firewalld"], "<zone", "unclosed token"),
        (["firewalld"], '<!DOCTYPE z [<!ENTITY a "b">]><zone/>', "entities"),
        (["ufw", "-"], "nonsense", "these are not rules of ufw: standard input:1 is not a line of iptables-save"),
        (["ufw", "-"], "nonsense", "of iptables-save: 'nonsense'\n  give /etc/ufw, or its user.rules"),
        (["ufw", "-"], "-A ufw-user-input 'x", "give /etc/ufw, or its user.rules"),
        (["ufw", "-"], "", "give /etc/ufw, or its user.rules"),
    ):
        done = ctl("import", "--from", *arguments, stdin=stdin)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert said in done.stderr, done.stderr


IPTABLES = """\
# Generated by iptables-save v1.8.9
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
:f2b-sshd - [0:0]
:trusted - [0:0]
[5:300] -A INPUT -p tcp -m multiport --dports 22,2222 -j f2b-sshd
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -s 10.0.0.0/8 -g trusted
-A INPUT -p tcp -m tcp ! --dport 1:1023 -m comment --comment "high ports" -j ACCEPT
-A INPUT -i eth1 -j ACCEPT
-A INPUT -m mark --mark 0x1 -j ACCEPT
-A INPUT -p udp -m udp --dport 68 -j ACCEPT
-A INPUT ! -s 192.0.2.0/24 -p tcp --dport 25 -j DROP
-A INPUT -m iprange --src-range 192.0.2.10-192.0.2.12 -j ACCEPT
-A INPUT -j LOG --log-prefix "no: " -m limit --limit 1/s
-A INPUT -j DROP
-A FORWARD -i docker0 -j ACCEPT
-A f2b-sshd -s 203.0.113.9/32 -j REJECT --reject-with icmp-port-unreachable
-A f2b-sshd -j RETURN
-A trusted -p tcp --dport 3306 -j DROP
-A trusted -p tcp -j RETURN
-A trusted -j ACCEPT
COMMIT
"""


def test_chains_of_iptables() -> None:
    ruleset = READERS["iptables-save"]([("rules.v4", IPTABLES)])
    lost = {note.where: note.what for note in ruleset.notes if note.lost}
    assert {where.partition(":")[2]: what.split(":")[1].strip() for where, what in lost.items()} == {
        "4": "NAT is not supported",
        "": "a default never drops the host's own packets",
        "17": "rules apply to all interfaces",
        "18": "rules have no mark",
        "24": "rules do not distinguish forwarded packets from others",
    }
    default, _ = decide.decide(ruleset)
    assert default == DROP, "a policy of ACCEPT behind a line that drops all"
    policy = policy_of(READERS["iptables-save"]([("rules.v4", IPTABLES)]))
    for address, service, wanted in (
        ("203.0.113.9", "tcp/22", False),
        ("203.0.113.9", "tcp/8080", True),
        ("203.0.113.9", "tcp/2222", False),
        ("203.0.113.8", "tcp/2222", True),
        ("203.0.113.8", "tcp/22", False),
        ("10.1.1.1", "tcp/3306", False),
        ("10.1.1.1", "tcp/8080", True),  # it went, so what returns gets the policy
        ("10.1.1.1", "udp/53", True),
        ("192.0.2.11", "udp/53", True),
        ("192.0.2.13", "udp/53", False),
        ("192.0.2.11", "tcp/25", True),
        ("203.0.113.8", "tcp/25", False),
    ):
        assert passes(policy, address, service) is wanted, (address, service)


def _calling(deep: int, times: int) -> str:
    """Chains that each jump to the next so many times; the last one accepts."""
    chains = [f":c{number} - [0:0]\n" for number in range(deep)]
    jumps = [f"-A c{number} -j c{number + 1}\n" * times for number in range(deep - 1)]
    rules = f"-A INPUT -j c0\n{''.join(jumps)}-A c{deep - 1} -s 10.0.0.1 -p tcp --dport 22 -j ACCEPT\n"
    return f"*filter\n:INPUT DROP [0:0]\n{''.join(chains)}{rules}COMMIT\n"


def test_chains_that_are_called_often_are_walked_once() -> None:
    policy = policy_of(READERS["iptables-save"]([("deep", _calling(200, 3))]))
    assert passes(policy, "10.0.0.1", "tcp/22")
    assert not passes(policy, "10.0.0.1", "tcp/23")
    assert not passes(policy, "10.0.0.2", "tcp/22")


@pytest.mark.parametrize(
    ("source", "text", "why"),
    [
        ("iptables-save", "*filter\n:INPUT DROP [0:0]\n:a - [0:0]\n-A INPUT -j a\n-A a -j a\nCOMMIT\n", "a jumps back"),
        (
            "nft",
            "table ip f {\nchain b { jump c }\nchain c { goto b }\n"
            "chain in { type filter hook input priority 0; jump b; }\n}\n",
            "chain b jumps back to itself",
        ),
        ("iptables-save", _calling(400, 1), "chain c256 is more than 256 calls deep"),
    ],
)
def test_chains_without_an_end_are_refused_by_name(source: str, text: str, why: str) -> None:
    with pytest.raises(ControlError, match=why):
        policy_of(READERS[source]([("loop", text)]))


def test_too_much_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "_MOST_STEPS", 100)
    with pytest.raises(ControlError, match="too many rules with too many prefixes"):
        policy_of(READERS["iptables-save"]([("deep", _calling(50, 3))]))


PREFIXES = ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "192.0.2.0/24", "0.0.0.0/0"]
ADDRESSES = ["10.1.1.1", "10.1.1.2", "10.1.2.1", "10.2.0.1", "192.0.2.1", "198.51.100.1"]
NAMED = ["tcp/22", "tcp/80-90", "tcp", "udp/53", "22", "icmp/8", "gre"]
ASKED = ["tcp/22", "tcp/85", "tcp/443", "udp/22", "udp/53", "udp/54", "icmp/8", "icmp/0", "gre", "esp"]
CONDITION = st.tuples(st.frozensets(st.sampled_from(PREFIXES), max_size=2), st.booleans())
SERVICES = st.lists(st.tuples(st.sampled_from(NAMED), st.booleans()), max_size=2)
TARGETS = st.sampled_from([ACCEPT, DROP, RETURN, "one", "two"])
LINES = st.lists(st.tuples(CONDITION, SERVICES, TARGETS, st.booleans()), max_size=6)


def _made(texts: list[tuple[tuple[frozenset[str], bool], list[tuple[str, bool]], str, bool]], chain: str) -> list[Line]:
    deeper = {"input": ("one", "two"), "one": ("two",), "two": ()}[chain]
    lines = []
    for (cidrs, but), named, target, goes in texts:
        if target in ("one", "two") and target not in deeper:
            target = DROP
        addresses = ((frozenset(ipaddress.ip_network(each) for each in cidrs), but),) if cidrs else ()
        places = tuple((services.parse([each]), without) for each, without in named)
        lines.append(Line("x:1", "x", target, goes and target in deeper, 0, addresses, places))
    return lines


def _first_match(chains: dict[str, list[Line]], chain: str, address: str, service: str) -> str:
    """ACCEPT, DROP, or RETURN at the chain's end; packet by packet, as netfilter does it."""
    host, asked = ipaddress.ip_address(address), services.parse([service])
    for line in chains[chain]:
        fits = all(any(host in each for each in networks) != but for networks, but in line.addresses)
        fits = fits and all(services.contains(places, asked) != but for places, but in line.services)
        if not fits:
            continue
        if line.target in (ACCEPT, DROP, RETURN):
            return line.target
        found = _first_match(chains, line.target, address, service)
        if found != RETURN or line.goes:
            return found
    return RETURN


@settings(max_examples=150, deadline=None)
@having(LINES, LINES, LINES, st.sampled_from([ACCEPT, DROP]))
def test_whatever_the_chains_every_packet_gets_the_same(
    first: list[object], one: list[object], two: list[object], policy: str
) -> None:
    chains = {name: _made(texts, name) for name, texts in (("input", first), ("one", one), ("two", two))}  # type: ignore[arg-type]
    ruleset = Ruleset(chains, [Base("input", False, policy)], families=(4,))
    made = policy_of(ruleset)
    for address in ADDRESSES:
        for service in ASKED:
            found = _first_match(chains, "input", address, service)
            assert passes(made, address, service) is ((policy if found == RETURN else found) == ACCEPT), (
                address,
                service,
            )


@settings(max_examples=200, deadline=None)
@having(
    st.sampled_from(sorted(SAMPLES)), st.integers(0, 10_000), st.sampled_from(list('{};,"!-\\<>#')), st.integers(0, 30)
)
@example("firewalld", 1483, "{", 0)
def test_a_broken_file_is_reported_and_never_a_traceback(source: str, at: int, put: str, cut: int) -> None:
    names = SAMPLES[source]
    broken = []
    for name, text in given(*names):
        place = at % len(text)
        broken.append((name, text[:place] + put + text[place + cut :]))
    with contextlib.suppress(ControlError):
        policy_of(READERS[source](broken))


@pytest.mark.parametrize(
    "text",
    [
        "-P INPUT DROP\n-A INPUT -p tcp --dport 22 -j ACCEPT\n",  # iptables -S: the default would be lost
        "*filter\n:INPUT DROP [0:0]\nACCEPT tcp -- anywhere anywhere\nCOMMIT\n",
        "*filter\n:INPUT DROP [0:0]\n\x00\x01garbage\n",
        ":x\nnot of any firewall\n",
    ],
)
def test_a_line_of_no_iptables_save_is_refused(ctl: Ctl, tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules"
    path.write_text(text)
    done = ctl("import", "--from", "iptables-save", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not a line of iptables-save" in done.stderr
    assert ctl("import", "--from", "iptables-save", str(path), "-o", "json").returncode == 2


@pytest.mark.parametrize("named", ["/dev/zero", "-"])
def test_what_has_no_end_is_not_read_for_ever_nor_cut_off(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """Half of the rules would look like all of them."""
    monkeypatch.setattr(import_rules, "_MOST", 100)
    monkeypatch.setattr("sys.stdin", io.StringIO("#" * 101))
    with pytest.raises(UsageError, match="is larger than"):
        list(import_rules._files(Namespace(source="nft", files=[named])))

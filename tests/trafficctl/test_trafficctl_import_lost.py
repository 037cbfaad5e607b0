"""Rules of other firewalls that cannot be said: they are named, with their line, and never let more in unnamed."""

from __future__ import annotations

from pathlib import Path

import pytest
from ctl_runs import Ctl
from import_judging import IMPORTED, READERS, passes, policy_of

from trafficctl.commands import import_rules
from trafficctl.imports import firewalld
from trafficctl.imports.ruleset import Ruleset
from trafficmond.errors import ControlError
from trafficmond.model import Direction

FILTER = "*filter\n:INPUT {policy} [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"


def iptables(lines: str, policy: str = "DROP") -> str:
    """What iptables-save prints of these lines; chains that they name are made."""
    chains = {line.split()[1] for line in lines.splitlines()} - {"INPUT", "OUTPUT", "FORWARD"}
    made = "".join(f":{chain} - [0:0]\n" for chain in sorted(chains))
    return f"{FILTER.format(policy=policy)}{made}{lines}\nCOMMIT\n"


def nft(rules: str, more: str = "", policy: str = "drop") -> str:
    """A table with one chain of the input hook."""
    return (
        f"table inet t {{\n{more}\nchain input {{\ntype filter hook input priority 0; policy {policy};\n{rules}\n}}\n}}"
    )


def lost(ruleset: Ruleset) -> str:
    """All that is told as left out, of the rules' reading and of their translation."""
    policy_of(ruleset)
    return "\n".join(str(note) for note in ruleset.notes if note.lost)


def of_iptables(*texts: str) -> Ruleset:
    """What is made of files of iptables-save."""
    return READERS["iptables-save"]([(f"rules{at}", text) for at, text in enumerate(texts)])


def of_nft(text: str) -> Ruleset:
    """What is made of a file of nft."""
    return READERS["nft"]([("t.nft", text)])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("-A INPUT -p icmp --icmp-type 300 -j ACCEPT", "icmp/300"),
        ("-A INPUT -p icmp --icmp-type ²  -j ACCEPT", "icmp/²"),
        ("-A INPUT -p icmp --icmp-type 3/4 -j ACCEPT", "has a code"),
        ("-A INPUT -p icmp --icmp-type fragmentation-needed -j ACCEPT", "has a code"),
        ("-A INPUT -m addrtype --dst-type BROADCAST -j DROP", "multicast or broadcast"),
        ("-A INPUT -m addrtype --src-type UNICAST -j ACCEPT", "--src-type"),
        (
            "-A INPUT -p tcp --dport 80 -m recent --update --seconds 9 --hitcount 9 -m comment --comment ufw -j DROP",
            "recent",
        ),
        ("-A INPUT -p igmp -j DROP", "always pass"),
        ("-A INPUT -p udp --dport 68 -j DROP", "always pass"),
        ("-A INPUT -p tcp -m state --state ESTABLISHED -j ACCEPT", "some replies"),
        ("-A INPUT -p udp --sport 53 -m state --state RELATED,ESTABLISHED -j ACCEPT", "some replies"),
        ("-A INPUT -s 2001:db8::1 -j ACCEPT\n-A INPUT -s 192.0.2.1 -j DROP", "address of the other family"),
        ("-A INPUT -j nowhere", "nowhere is not an action"),
        ("-A INPUT -j NFQUEUE --queue-num 0", "--queue-num"),
        ("-A INPUT -p tcp -m multiport --ports 80,443 -j ACCEPT", "--ports"),
        ("-A INPUT -p sctp -m multiport --dports 80 -j DROP", "tcp and udp only"),
        ("-A INPUT -p tcp -m tcp --syn -m connlimit --connlimit-above 9 -j REJECT", "--syn"),
        ("-A INPUT -m set --match-set bad src -j DROP", "have no set"),
        ("-A INPUT -m mac --mac-source 02:00:00:00:00:01 -j ACCEPT", "have no mac"),
        ("-A INPUT -p tcp -m tcp --dport 22 -m time --timestart 08:00 -j ACCEPT", "have no time"),
        ("-A INPUT -i eth+ -p tcp --dport 22 -j ACCEPT", "all interfaces"),
        ("-A INPUT -f -j DROP", "-f is not supported"),
        ("-A INPUT -s 10.0.0.0/255.0.255.0 -j ACCEPT", "not a valid address"),
        ("-A INPUT -d 192.0.2.1 -p tcp --dport 22 -j ACCEPT", "own address"),
        ("-A logging-drop -s 192.0.2.9 -m mark --mark 1 -j DROP\n-A INPUT -j logging-drop", "have no mark"),
        ("-A my-forward -m mark --mark 1 -j DROP\n-A INPUT -j my-forward", "have no mark"),
    ],
)
def test_a_line_of_iptables_is_named(lines: str, said: str) -> None:
    assert said in lost(of_iptables(iptables(lines)))


@pytest.mark.parametrize(
    ("rules", "more", "said"),
    [
        ('limit rate 5/minute log prefix "x" drop', "", "rate for all sources"),
        ("limit rate over 10/second burst 5 packets jump other", "chain other { accept; }", "rate for all sources"),
        ("tcp sport 53 ct state vmap { new : accept, established : accept }", "", "source ports"),
        ("meta l4proto { tcp, udp, sctp } th dport 80 drop", "", "tcp and udp only"),
        ("meta l4proto sctp th dport 80 drop", "", "tcp and udp only"),
        ("tcp dport 22 jump nowhere", "", "chain nowhere does not exist"),
        ("icmpv6 type nd-router-advert drop", "", "always pass"),
        ("icmp type 300 accept", "", "icmp/300"),
        ("ip protocol tcp # recent: UPDATE seconds: 30 counter packets 0 bytes 0 drop", "", "as a comment"),
        (
            "ip saddr @guests accept",
            "set guests { type ipv4_addr; flags timeout; elements = { 192.0.2.1 timeout 1h expires 9m } }",
            "members of this set do not expire",
        ),
        ("ip saddr . tcp dport { 192.0.2.1 . 22 } accept", "", "not a valid address"),
        ("tcp dport vmap { 22 : accept, 80 : drop }", "", "vmap is not supported"),
        ("tcp dport > 1024 accept", "", "> is not supported"),
        ("tcp flags & (fin|syn) == (fin|syn) drop", "", "flags is not supported"),
        ("ct status dnat accept", "", "ct state only"),
        ("ip saddr 192.0.2.0/24 add @seen { ip saddr } drop", "", "add is not supported"),
        ("fib daddr type broadcast drop", "", "fib is not supported"),
        ("meta pkttype multicast accept", "", "pkttype is not supported"),
        ("tcp dport 22 xt match recent counter packets 0 bytes 0 drop", "", "xt is not supported"),
        ("meta l4proto tcp ct state established accept", "", "some replies"),
        ("tcp dport 80 queue num 0", "", "queue is not supported"),
        ("ip saddr $unknown accept", "", "not a valid address"),
    ],
)
def test_a_rule_of_nft_is_named(rules: str, more: str, said: str) -> None:
    assert said in lost(of_nft(nft(rules, more)))


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ('<icmp-block name="network-unreachable"/>', "has a code"),
        ('<port port="80" protocol="sctp"/>', "sctp/80"),
        ('<port port="" protocol="tcp"/>', "not a valid service"),
        ('<rule><source ipset="bad"/><drop/></rule>', "not an address"),
        ('<rule family="ipv4"><destination address="192.0.2.1"/><accept/></rule>', "destination is not supported"),
        ('<rule><service name="ssh"/><accept><limit value="3/m"/></accept></rule>', "rate for all sources"),
        ('<service name="no-such-thing"/>', "not known on this host"),
        ("<masquerade/>", "NAT"),
        ('<icmp-block name="router-advertisement"/>', "always pass"),
    ],
)
def test_an_element_of_firewalld_is_named(inside: str, said: str) -> None:
    assert said in lost(READERS["firewalld"]([("zone.xml", f"<zone>{inside}</zone>")]))


def test_services_of_firewalld_by_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewalld, "_SERVICES", (tmp_path,))
    for name, inside in {
        "dhcpv6-client": '<port protocol="udp" port="546"/><destination ipv6="fe80::/64"/>',
        "mdns": '<port protocol="udp" port="5353"/><destination ipv4="224.0.0.251"/>',
        "samba": '<include service="samba-client"/><port protocol="tcp" port="445"/>',
        "samba-client": '<port protocol="udp" port="137-138"/>',
        "loop": '<include service="loop"/>',
        "ldap": '<port protocol="tcp" port="9389"/>',
    }.items():
        (tmp_path / f"{name}.xml").write_text(f"<service>{inside}</service>")
    wanted = ("dhcpv6-client", "samba", "ldap", "pop3s", "mdns", "loop", "gopher")
    text = "".join(f'<service name="{name}"/>' for name in wanted)
    ruleset = READERS["firewalld"]([("zone.xml", f"<zone>{text}</zone>")])
    told = lost(ruleset)
    assert "mdns has a destination" in told
    assert "loop is included and includes" in told
    assert len(told.splitlines()) == 2
    assert [str(each) for each in ruleset.notes if not each.lost] == [
        'zone.xml:1: the service "gopher" is read as tcp/70: no file of firewalld defines it'
    ]
    policy = policy_of(ruleset)
    let_in = ["udp/137", "tcp/445", "tcp/9389", "tcp/995", "tcp/70"]
    asked = [*let_in, "tcp/137", "tcp/389", "udp/5353", "udp/995"]
    assert [each for each in asked if passes(policy, "192.0.2.1", each)] == let_in


def test_what_is_inserted_comes_first() -> None:
    text = iptables(
        "-A INPUT -p tcp --dport 22 -j ACCEPT\n-I INPUT -s 192.0.2.0/24 -j DROP\n-I INPUT 2 -s 192.0.2.9 -j ACCEPT"
    )
    policy = policy_of(of_iptables(text))
    asked = ("192.0.2.8", "192.0.2.9", "198.51.100.1")
    assert [passes(policy, address, "tcp/22") for address in asked] == [False, False, True]


def test_chains_with_any_name_and_from_both_ways() -> None:
    text = iptables(
        "-A INPUT -j logging-all\n-A INPUT -j my-output\n-A OUTPUT -j both\n-A INPUT -j both\n"
        "-A logging-all -s 192.0.2.1 -j DROP\n-A my-output -s 192.0.2.2 -j DROP\n"
        "-A both -s 192.0.2.3 -j DROP\n-A both -d 192.0.2.4 -j DROP",
        policy="ACCEPT",
    )
    ruleset = of_iptables(text)
    assert lost(ruleset).count("own address") == 2
    policy = policy_of(ruleset)
    assert not any(passes(policy, f"192.0.2.{number}", "tcp/22") for number in (1, 2, 3))
    assert passes(policy, "192.0.2.4", "tcp/22")
    out = [passes(policy, f"192.0.2.{number}", "tcp/22", Direction.EGRESS) for number in (1, 2, 3, 4)]
    assert out == [True, True, True, False]


V4 = iptables("-A INPUT -s 192.0.2.0/24 -p tcp --dport 22 -j ACCEPT")
V6 = iptables("-A INPUT -p tcp --dport 22 -j ACCEPT")
HEAD = "# Generated by {}tables-save v1.8.9 on Fri Nov 27\n"


def test_both_families_one_after_the_other() -> None:
    nat = "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"
    text = HEAD.format("ip") + V4 + HEAD.format("ip") + nat + HEAD.format("ip6") + nat + HEAD.format("ip6") + V6
    policy = policy_of(of_iptables(text))
    asked = ("192.0.2.1", "198.51.100.1", "2001:db8::1")
    assert [passes(policy, address, "tcp/22") for address in asked] == [True, False, True]
    assert not passes(policy, "2001:db8::1", "tcp/23")


def test_two_sets_of_one_family_are_refused(ctl: Ctl, tmp_path: Path) -> None:
    """They would be one after the other in each chain, which nobody meant."""
    for at, text in enumerate((V4, V6)):
        (tmp_path / f"old{at}").write_text(text)
    done = ctl("import", "--from", "iptables-save", str(tmp_path / "old0"), str(tmp_path / "old1"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "old1:1 has rules of IPv4 for the second time" in done.stderr
    assert "once each" in done.stderr
    (tmp_path / "both").write_text(V4 + V6)
    assert ctl("import", "--from", "iptables-save", str(tmp_path / "both")).returncode == 2


@pytest.mark.parametrize(
    ("name", "text", "family"),
    [
        ("iptables-2026-11-26", V4, 4),
        ("rules.v6", V6, 6),
        ("dump", HEAD.format("ip6") + V6, 6),
        ("rules.v6", HEAD.format("ip") + V6, 4),
        ("x", iptables("-A INPUT -p ipv6-icmp -j ACCEPT"), 6),
    ],
)
def test_of_which_family_a_file_is(name: str, text: str, family: int) -> None:
    assert READERS["iptables-save"]([(name, text)]).families == (family,)


def test_a_policy_of_nft_by_name() -> None:
    text = "define closed = drop\n" + nft("tcp dport 22 accept", policy="$closed")
    policy = policy_of(of_nft(text))
    assert (passes(policy, "192.0.2.1", "tcp/22"), passes(policy, "192.0.2.1", "tcp/23")) == (True, False)
    with pytest.raises(ControlError, match="is not a policy"):
        of_nft(nft("tcp dport 22 accept", policy="$nothing"))


def test_chains_that_only_forwarded_packets_meet_are_named_once() -> None:
    text = iptables(
        "-A INPUT -p tcp --dport 22 -j ACCEPT\n-A FORWARD -j DOCKER-USER\n"
        "-A DOCKER-USER -i eth0 -s 192.0.2.1 -j DROP\n-A DOCKER-USER -j RETURN\n-A unused -s 192.0.2.2 -j DROP"
    )
    told = lost(of_iptables(text)).splitlines()
    assert len(told) == 2
    assert "chain DOCKER-USER, all 2 rules" in told[1]
    text = """table ip t {
        chain FORWARD { type filter hook forward priority 0; policy accept; jump DOCKER; }
        chain DOCKER { oifname x accept; }
        chain input { type filter hook input priority 0; tcp dport 22 accept; }
    }"""
    told = lost(of_nft(text)).splitlines()
    assert len(told) == 1
    assert "all its 2 rules (it calls DOCKER)" in told[0]


def test_the_settings_of_this_host_are_not_those_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ufw").write_text('DEFAULT_INPUT_POLICY="ACCEPT"\n')
    monkeypatch.setattr(import_rules, "_SETTINGS", tmp_path / "ufw")
    copy = str(IMPORTED / "ufw")
    assert import_rules.settings_of_ufw([]) == 'DEFAULT_INPUT_POLICY="ACCEPT"\n'
    assert import_rules.settings_of_ufw(["/etc/ufw"]) == 'DEFAULT_INPUT_POLICY="ACCEPT"\n'
    assert import_rules.settings_of_ufw([copy]) == ""
    (tmp_path / "etc" / "ufw").mkdir(parents=True)
    (tmp_path / "etc" / "default").mkdir()
    (tmp_path / "etc" / "default" / "ufw").write_text('DEFAULT_INPUT_POLICY="REJECT"\n')
    assert "REJECT" in import_rules.settings_of_ufw([str(tmp_path / "etc" / "ufw")])


@pytest.mark.parametrize(
    "written", ["ct state != { established, related } drop", "ct state != established,related drop"]
)
def test_all_connection_states_but_some_of_nft(written: str) -> None:
    replies = of_nft(nft("ct state != new accept\ntcp dport 22 accept"))
    assert (lost(replies), bool(replies.established)) == ("", True)
    policy = policy_of(of_nft(nft(f"tcp dport 22 accept\n{written}", policy="accept")))
    assert [passes(policy, "192.0.2.1", port) for port in ("tcp/22", "tcp/23")] == [True, False]
    assert "its connection states" in lost(of_nft(nft("ct state != snat accept")))
    none = "ct state != { new, established, related, invalid, untracked } accept"
    assert "its connection states" in lost(of_nft(nft(none)))


def test_all_connection_states_but_some_of_iptables() -> None:
    replies = of_iptables(iptables("-A INPUT -m conntrack ! --ctstate NEW -j ACCEPT"))
    assert (lost(replies), bool(replies.established)) == ("", True)


def test_a_dormant_table_decides_nothing() -> None:
    ruleset = of_nft(
        nft("tcp dport 22 drop", "flags dormant", policy="drop")
        + "\n"
        + nft("tcp dport 23 drop", policy="accept").replace("table inet t", "table inet u")
    )
    assert "dormant" in lost(ruleset)
    assert [passes(policy_of(ruleset), "192.0.2.1", port) for port in ("tcp/22", "tcp/23")] == [True, False]


def test_a_zone_for_an_interface_and_sources_is_for_all_and_priorities_order_zones() -> None:
    both = '<zone><interface name="eth0"/><source address="192.0.2.0/24"/><service name="ssh"/></zone>'
    policy = policy_of(READERS["firewalld"]([("both.xml", both)]))
    assert [passes(policy, address, "tcp/22") for address in ("192.0.2.1", "198.51.100.1")] == [True, True]
    wide = '<zone target="DROP"{}><source address="192.0.2.0/24"/></zone>'
    narrow = '<zone target="ACCEPT"{}><source address="192.0.2.64/26"/></zone>'
    for before, let_in in (("", False), (' ingress-priority="-5"', True)):
        zones = [("b.xml", narrow.format(before)), ("a.xml", wide.format(""))]
        assert passes(policy_of(READERS["firewalld"](zones)), "192.0.2.70", "tcp/22") is let_in
    with pytest.raises(ControlError, match="not a number"):
        READERS["firewalld"]([("a.xml", '<zone ingress-priority="soon"/>')])

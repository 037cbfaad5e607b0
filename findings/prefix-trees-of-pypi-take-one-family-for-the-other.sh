#!/usr/bin/env bash
# PyPI's pytricia 1.3.0, pysubnettree 0.38.1 and py-radix 1.1.0, three trees for the longest prefix match, each give
# another answer to "is this address of one family in that network of the other".
#
# A list of networks has both families, and such a tree takes both: PyTricia(128), as wide as IPv6 needs, accepts
# "192.0.2.0/24" without a word. One would expect no IPv4 address in an IPv6 network, or the mapped form (::ffff:0:0/96)
# at most. In pytricia both families are the same bits from the left on: c000:200::1 is in 192.0.2.0/24, and 32.1.13.184 is
# in 2001:db8::/32. In pysubnettree IPv4 lies in the mapped range, so ::/0, meant as "the rest of IPv6", holds all of
# IPv4. Only py-radix keeps them apart. So a ban of a network, or the exception from it, reaches strangers.
#
# Seen:                                   pytricia            pysubnettree        py-radix
#   c000:200::1                           192.0.2.0/24        none                none
#   32.1.13.184                           2001:db8::/32       none                none
#   203.0.113.1, besides ::/0             ::/0                ::/0                none
#   ::ffff:192.0.2.1                      none                192.0.2.0/24        none
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install \
	pytricia==1.3.0 pysubnettree==0.38.1 py-radix==1.1.0 2>/dev/null

"$folder/venv/bin/python" - <<'PYTHON'
import pytricia
import radix
import SubnetTree


def of_pytricia(networks: list[str], address: str) -> str | None:
    tree = pytricia.PyTricia(128)
    for network in networks:
        tree[network] = network
    return tree.get(address)


def of_subnettree(networks: list[str], address: str) -> str | None:
    tree = SubnetTree.SubnetTree()
    for network in networks:
        tree[network] = network
    return tree[address] if address in tree else None


def of_radix(networks: list[str], address: str) -> str | None:
    tree = radix.Radix()
    for network in networks:
        tree.add(network)
    found = tree.search_best(address)
    return found and found.prefix


LISTED = ["192.0.2.0/24", "2001:db8::/32"]
QUESTIONS = {
    (*LISTED, "c000:200::1"): ["192.0.2.0/24", None, None],
    (*LISTED, "32.1.13.184"): ["2001:db8::/32", None, None],
    (*LISTED, "::/0", "203.0.113.1"): ["::/0", "::/0", None],
    (*LISTED, "::ffff:192.0.2.1"): [None, "192.0.2.0/24", None],
    (*LISTED, "192.0.2.9"): ["192.0.2.0/24"] * 3,
}
for (*networks, address), then in QUESTIONS.items():
    found = [ask(networks, address) for ask in (of_pytricia, of_subnettree, of_radix)]
    print(f"{address} in {', '.join(networks)}: pytricia {found[0]}, pysubnettree {found[1]}, py-radix {found[2]}")
    assert found == then, "the behaviour changed"
PYTHON

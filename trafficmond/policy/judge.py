"""The verdicts that the kernel would give to conversations under a policy, by columns. Pure.

It walks the same table in the same way. The state of a connection is taken from the flow record: who began, whether the
other side answered. Not in records: rates (a limit is a verdict of its own here), the hop limit of neighbour discovery
(assumed valid), and who may answer a query to a group (nobody is assumed to).
"""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from trafficmond import abi, npt
from trafficmond.dataclass import dataclass, fields
from trafficmond.model import Action, Direction, Reason
from trafficmond.npt import I64, U32, U64, Bool
from trafficmond.policy.load import Policy
from trafficmond.policy.table import compile_table
from trafficmond.policy.walk import lookup
from trafficmond.protocols import ICMP, ICMPV6, IGMP, SCTP, SYN, TCP, UDP
from trafficmond.verdict import action_of, reason_of, rule_of, verdict_word

_DHCP_CLIENT = {False: 68, True: 546}
_PATH_ERRORS = {ICMP: (3, 11, 12), ICMPV6: (1, 2, 3, 4)}
_ECHO = {ICMP: (8,), ICMPV6: (128,)}
_ANSWER_TYPE = {ICMP: {8: 0, 13: 14, 15: 16, 17: 18}, ICMPV6: {128: 129, 133: 134, 135: 136}}
_NEIGHBOURS = (133, 134, 135, 136, 137, 141, 142, 148, 149)
_GROUPS = (130, 131, 132, 143, 151, 152, 153)  # only from link-local addresses
_LINK_LOCAL = np.uint64(0xFE80 >> 6)


@dataclass(frozen=True, slots=True, eq=False)
class Conversations:
    """Rows of flow records. The peer is the end that is not this host; addresses are left-aligned."""

    hi: U64
    lo: U64
    six: Bool  # the peer's address is IPv6
    protocol: I64
    near: I64  # the initiator's port; ICMP, ICMPv6: the type
    far: I64  # the responder's port; ICMP, ICMPv6: the code
    egress: Bool  # this host began
    asked: Bool  # the row has packets of the initiator
    answered: Bool  # ... and of the responder
    flags: I64  # TCP flags of both sides since the flow began

    def __len__(self) -> int:
        return len(self.hi)

    def take(self, index: I64 | Bool | slice) -> Self:
        return type(self)(*(getattr(self, each.name)[index] for each in fields(self)))


class Judge:
    """A policy and the bans (as a policy that drops) as in force in the kernel at `now` (epoch s).

    `established`: replies to what this host began pass a default of drop.
    """

    def __init__(self, policy: Policy, bans: Policy | None, *, established: bool, now: float) -> None:
        self.policy = policy
        self._established = established and policy.default is Action.DROP
        self._words = _words(policy, now)
        self._bans = _words(bans, now) if bans is not None and bans.rules else None

    def verdicts(self, rows: Conversations) -> U32:
        """The verdict word of each row: that of the dropped side, else of the limited one, else the initiator's. Its
        rule is the rule's place in the policy plus one."""
        first = self._of(rows, begins=True)
        back = self._of(rows, begins=False)
        out = np.where(rows.egress, first, back)
        first = self._with_replies(rows, first, out, begins=True)
        back = self._with_replies(rows, back, out, begins=False)
        second = rows.answered & (~rows.asked | (kinds(back) > kinds(first)))
        return np.asarray(np.where(second, back, first))

    def _of(self, rows: Conversations, *, begins: bool) -> U32:
        """The verdict on the packets of a side, not counting replies."""
        word = np.zeros(len(rows), np.uint32)
        wanted = rows.asked if begins else rows.answered
        what = asks_for(rows, begins=begins)
        for six in (False, True):
            for way in (Direction.INGRESS, Direction.EGRESS):
                outgoing = way is Direction.EGRESS
                at = np.flatnonzero(wanted & (rows.six == six) & ((rows.egress == begins) == outgoing))
                if len(at):
                    family, hi, lo = 6 if six else 4, rows.hi[at], rows.lo[at]
                    word[at] = self._looked_up(family, way, hi, lo, what[at])
        drops = np.flatnonzero(action_of(word) == Action.DROP)
        if len(drops):
            spared = drops[_is_lifeline(rows.take(drops), what[drops], begins=begins)]
            word[spared] = verdict_word(Action.ALLOW, Reason.GUARD)
        return word

    def _looked_up(self, family: int, way: Direction, hi: U64, lo: U64, what: U32) -> U32:
        word, _ = lookup(self._words, family, way, hi, lo, what=what)
        if self._bans is not None and way is Direction.INGRESS:
            banned, _ = lookup(self._bans, family, way, hi, lo, what=what)
            dropped = (rule_of(banned) > 0) & (reason_of(word) < Reason.ALLOWLIST)
            word = np.where(dropped, np.uint32(verdict_word(Action.DROP, Reason.BAN)), word)
        return word

    def _with_replies(self, rows: Conversations, word: U32, out: U32, *, begins: bool) -> U32:
        """A side's verdict with replies to this host; `out` is the verdict on this host's packets."""
        if not self._established:
            return word
        by_default = (action_of(word) == Action.DROP) & (reason_of(word) == Reason.DEFAULT)
        at = np.flatnonzero(by_default & (rows.egress != begins))
        if not len(at):
            return word
        some = rows.take(at)
        heard = some.asked if not begins else some.answered  # this host sent packets
        known = np.isin(some.protocol, (TCP, UDP, SCTP)) | _is_any_type(some, _ECHO)
        if begins:  # the peer began, or the initiator is unknown
            known = (some.protocol == TCP) & (some.flags & SYN == 0)
            reply = known & heard & (action_of(out[at]) != Action.DROP)
        else:
            reply = known & (action_of(out[at]) != Action.DROP)
        reply |= _is_any_type(some, _PATH_ERRORS)
        word[at[reply]] = verdict_word(Action.ALLOW, Reason.ESTABLISHED)
        return word


def _words(policy: Policy, now: float) -> U32:
    """The table, in which no rule ends."""
    ids = np.arange(1, len(policy.rules) + 1, dtype=np.uint32)
    return compile_table(policy, ids, now, lambda _: 1 << 62).words


def asks_for(rows: Conversations, *, begins: bool = True) -> U32:
    """The place of a side's service in the classes of services, as in bpf/packet.h."""
    port = rows.far if begins else rows.near
    what = abi.WHAT_OTHER + rows.protocol
    for number, start in ((TCP, abi.WHAT_TCP), (UDP, abi.WHAT_UDP)):
        of = rows.protocol == number
        what = np.where(of, start + port, what)
        what = np.where(of & (rows.near == 0) & (rows.far == 0), abi.WHAT_FRAGMENT + number, what)
    for number, start in ((ICMP, abi.WHAT_ICMP), (ICMPV6, abi.WHAT_ICMPV6)):
        of = np.flatnonzero(rows.protocol == number)
        if len(of):
            kinds = np.arange(256)
            if not begins:
                kinds[list(_ANSWER_TYPE[number])] = list(_ANSWER_TYPE[number].values())
            what[of] = start + kinds[rows.near[of] & 0xFF]
    return what.astype(np.uint32)


def _is_any_type(rows: Conversations, types: Mapping[int, tuple[int, ...]]) -> Bool:
    found = np.zeros(len(rows), np.bool_)
    for number, kinds in types.items():
        found |= (rows.protocol == number) & np.isin(rows.near, kinds)
    return found


def _is_lifeline(rows: Conversations, what: U32, *, begins: bool) -> Bool:
    """A mask of rows that the kernel never drops (`tm_is_lifeline` of bpf/verdict.h)."""
    found: Bool = rows.protocol == IGMP
    port = rows.far if begins else rows.near
    found |= (rows.protocol == UDP) & (port == np.where(rows.six, _DHCP_CLIENT[True], _DHCP_CLIENT[False]))
    kind = what.astype(np.int64) - abi.WHAT_ICMPV6
    from_link = (rows.hi >> np.uint64(54) == _LINK_LOCAL) | ((rows.hi == 0) & (rows.lo == 0))
    of_link = np.isin(kind, _NEIGHBOURS) | (np.isin(kind, _GROUPS) & (from_link | (rows.egress == begins)))
    found |= (rows.protocol == ICMPV6) & of_link
    return found


def kinds(words: U32) -> npt.NDArray[np.uint8]:
    """The kind of each verdict word: 0 passes, 1 limited, 2 dropped."""
    action = action_of(words)
    return np.where(action == Action.DROP, 2, action == Action.LIMIT).astype(np.uint8)


def rule_at(policy: Policy, word: int) -> int:
    """The place of the rule in a verdict of `Judge`; -1: none."""
    return int(rule_of(word)) - 1 if word & abi.RULE_MASK and int(rule_of(word)) <= len(policy.rules) else -1


def names(policy: Policy, words: Sequence[int]) -> list[str]:
    """The deciding rule's name, else the reason."""
    found = []
    for word in words:
        at = rule_at(policy, word)
        found.append(policy.rules[at].name if at >= 0 else str(Reason(int(reason_of(word)))))
    return found

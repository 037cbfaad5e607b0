"""Open threats: what an engine knows of each, how further evidence changes it, and which are about the same hosts."""

from trafficmond import figures
from trafficmond.dataclass import dataclass, field, replace
from trafficmond.detect.carpet import network_of
from trafficmond.model import Severity, Threat

MOST_LISTED = 16  # items of a list in the evidence
# bound: addresses of one threat, of which it is known what they did | the one seen longest ago is forgotten
_KNOWN = 256
_SOURCES, ADDRESSES = "sources", "addresses"
PROVEN = "proven"  # in the evidence: whether the source is
OWN_SEVERITY = "address_severity"  # in the evidence: that of what the named one of several addresses did itself


@dataclass(slots=True)
class Open:
    """An open threat."""

    threat: Threat
    last_evidence: float  # when there was last evidence
    reported: int  # the count last reported
    idle_timeout_s: float
    # Of a network's addresses: what they did in the tick of the last evidence, and the worst that each did, the latest,
    # and whether that is proven.
    latest: list[Threat] = field(default_factory=list)
    worst: dict[str | None, tuple[Severity, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if ADDRESSES not in self.threat.evidence:
            self.worst[self.threat.src_ip] = worst_of(self.threat)

    def add(self, latest: Threat, now: float) -> tuple[Severity, bool]:
        """Record what one address of several does; return the worst that it did itself."""
        does = worst_of(latest)
        own, proven = self.worst[latest.src_ip] = max(does, self.worst.pop(latest.src_ip, does))
        if PROVEN in latest.evidence:
            latest.evidence[PROVEN] = proven
        if len(self.worst) > _KNOWN:
            del self.worst[next(iter(self.worst))]
        self.latest = self.latest if self.last_evidence == now else []
        self.latest.append(replace(latest, id=self.threat.id, severity=own))
        return own, proven


def copied(threat: Threat) -> Threat:
    evidence = {name: list(value) if isinstance(value, list) else value for name, value in threat.evidence.items()}
    return replace(threat, evidence=evidence)


def worst_of(threat: Threat) -> tuple[Severity, bool]:
    """The severity of what the named source did itself, and whether that is proven."""
    own = Severity.parse(threat.evidence.get(OWN_SEVERITY, str(threat.severity)))
    return own, bool(threat.evidence.get(PROVEN))


def about_the_same(one: Threat, other: Threat) -> bool:
    ports = [set(each) if isinstance(each := threat.evidence.get("ports"), list) else set() for threat in (one, other)]
    if all(ports) and not ports[0] & ports[1]:
        return False
    if one.src_ip and other.src_ip:
        return one.src_ip == other.src_ip and (not one.dst_ip or not other.dst_ip or one.dst_ip == other.dst_ip)
    # What one source does does not explain what many do.
    return bool(one.dst_ip) and one.dst_ip == other.dst_ip and not (one.src_ip and not other.src_ip)


def of_network(one: Threat, other: Threat) -> bool:
    """Whether one is about the network that the other's victim is in, or is."""
    network, others = one.evidence.get("network"), other.evidence.get("network")
    return bool(network) and network == (others or (other.dst_ip and network_of(other.dst_ip)))


def merge(known: Threat, latest: Threat, dedup_key: tuple[str, ...], named: bool = True) -> None:
    """Update `known`: times widen, numbers keep their peak, lists grow to a bound. `named`: the latest source is."""
    if "src_ip" in dedup_key and known.src_ip != latest.src_ip:  # of the same network; each is proven only by itself
        known.evidence.setdefault(ADDRESSES, [known.src_ip])
        latest.evidence.setdefault(ADDRESSES, [latest.src_ip])
        if named:
            known.src_ip, known.summary, known.evidence[PROVEN] = latest.src_ip, latest.summary, False
            known.evidence[OWN_SEVERITY] = latest.evidence.setdefault(OWN_SEVERITY, str(latest.severity))
        latest.summary = known.summary
    # What is proven must not be less than the severity: the worse of both says it.
    proven = max(worst_of(known), worst_of(latest))[1] if known.src_ip == latest.src_ip else known.evidence.get(PROVEN)
    # A restarted detector has lower numbers, which must not replace the known ones.
    says_more = latest.count >= known.count and latest.severity >= known.severity
    # A note about another source takes no name from a threat, and gives it none.
    if "src_ip" not in dedup_key and known.src_ip != latest.src_ip and latest.severity >= known.severity:
        known.src_ip = latest.src_ip if latest.severity > known.severity else None
    if "dst_ip" not in dedup_key and known.dst_ip != latest.dst_ip:
        known.dst_ip = None
    known.severity = Severity(max(known.severity, latest.severity))
    known.first_seen = min(known.first_seen, latest.first_seen)
    known.last_seen = max(known.last_seen, latest.last_seen)
    known.count = max(known.count, latest.count)
    for name, value in latest.evidence.items():
        before = known.evidence.get(name)
        if name == _SOURCES:
            known.evidence[name] = value  # bounded, and the latest, by the detector
        elif name == PROVEN:
            known.evidence[name] = proven
        elif isinstance(value, list) and isinstance(before, list):
            known.evidence[name] = (before + [item for item in value if item not in before])[:MOST_LISTED]
        elif isinstance(value, (int, float)) and isinstance(before, (int, float)):
            known.evidence[name] = max(before, value)
        else:
            known.evidence[name] = value
    if not says_more:
        return
    known.summary = latest.summary
    targets = known.evidence.get("targets", [])
    if known.dst_ip is None and latest.dst_ip is not None and len(targets) > 1:
        more = len(targets) - 1
        known.summary += f", and {figures.many(more, 'more host') if more + 1 < MOST_LISTED else 'many more hosts'}"

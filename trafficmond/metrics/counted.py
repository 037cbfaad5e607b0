"""Counters of evictions, losses and refusals: each is in `counters` of a `Status` reply, and a metric."""

from __future__ import annotations

from collections.abc import Mapping

COUNTED: Mapping[str, str] = {
    "evicted_flows": "Flows evicted early because the flow table was full; they are stored as they were then.",
    "unnamed_rows": "Rows of flows.db that show a cgroup by number, because it was removed before its name was read.",
    "forgotten_cgroups": "Names of cgroups that were evicted, or did not fit into the table.",
    "rows_without_inner": "Rows of flows.db without the inner flow of their tunnel.",
    "dns_answers": "DNS answers that came in over watched interfaces (flows.dns_names).",
    "dns_unasked": "DNS answers ignored because this host had not asked, or they came late or twice.",
    "dns_lost": "DNS answers lost because more came than could be read.",
    "dns_unreadable": "DNS answers ignored because they are malformed, or do not match the question.",
    "dns_evicted_names": "Addresses whose names were evicted by later ones.",
    "process_unseen": "Records of flows without a process: the socket is older than the daemon, or in unseen cgroups.",
    "process_given_way": "Records of flows without a process: the entry of the socket was evicted by later ones.",
    "process_reused": "Records of flows without a process: another process has used the port since.",
    "process_protocols": "Records of flows without a process: they are neither TCP nor UDP.",
    "process_forgotten": "Processes evicted by later ones: their further flows show only the unit.",
    "process_lost": "Sockets of processes that did not fit into the kernel's table.",
    "merged_threats": "Findings merged into a threat that was open.",
    "redundant_threats": "Findings not reported because another detector's threat explains them.",
    "overflowed_threats": "Findings reported together because a detector had too many.",
    "early_dials": "Connection attempts that were judged early because too many waited.",
    "spared_protected_bans": "Bans not made because the guard, the allowlist or a login protects the source.",
    "spared_forgeable_bans": "Bans not made because anybody could have forged the source.",
    "refused_questions": "Queries of flows.db that were refused because too many waited.",
    "refused_scrapes": "Requests for metrics that were refused because too many were served.",
    "evicted_scrapes": "Idle connections for metrics that were closed to make room for others.",
    "refused_clients": "Clients of the control socket that were refused because there were too many.",
    "evicted_clients": "Idle clients of the control socket that were disconnected to make room for others.",
    "bad_clients": "Clients of the control socket that did not speak its protocol.",
    "slow_clients": "Clients of the control socket that did not read their replies.",
    "lost_watch_records": "Events and threats that watchers did not read in time.",
}

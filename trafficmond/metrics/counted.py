"""Counters of what was let go, spared or refused: `counters` of a `Status` reply, and a metric each."""

from __future__ import annotations

from collections.abc import Mapping

COUNTED: Mapping[str, str] = {
    "evicted_flows": "Flows evicted early because the flow table was full; they are stored as they were then.",
    "unnamed_rows": "Rows of flows.db that name a cgroup by its number, for it was gone before its name was read.",
    "forgotten_cgroups": "Names of cgroups that gave way to others, or found no room.",
    "rows_without_inner": "Rows of flows.db that lack what their tunnel carried.",
    "dns_answers": "Answers of DNS that came in over watched interfaces (flows.dns_names).",
    "dns_unasked": "Those of them that nobody here had asked for, or that came too late or twice: they name nothing.",
    "dns_lost": "Those that were not read, for more came than there is room for: they name nothing.",
    "dns_unreadable": "Those that are broken, or not about what was asked: they name nothing.",
    "dns_evicted_names": "Addresses that lost their names to others that were asked for later.",
    "process_unseen": "Records of flows without a process: made before the daemon looked, or where it does not see "
    "(flows.processes).",
    "process_given_way": "Records without a process, for more were noted than are kept.",
    "process_reused": "Records without a process, for another has used the port since.",
    "process_protocols": "Records without a process, for they are neither TCP nor UDP.",
    "process_forgotten": "Processes that gave way to later ones: what goes on of them is told by unit alone.",
    "process_lost": "Notes of processes that the kernel had no room for.",
    "merged_threats": "Threats that joined one that was open.",
    "redundant_threats": "Threats that another detector's threat explains.",
    "overflowed_threats": "Threats told together because a detector found too many.",
    "early_dials": "Connection attempts that were judged early because too many waited.",
    "spared_protected_bans": "Bans not made because guard, allowlist or a login protects the source.",
    "spared_forgeable_bans": "Bans not made because anybody could have forged the source.",
    "refused_questions": "Questions to flows.db that were refused because too many waited.",
    "refused_scrapes": "Requests for metrics that were refused because too many were served.",
    "evicted_scrapes": "Connections for metrics that said nothing and were disconnected for others.",
    "refused_clients": "Clients of the control socket that were refused because there were too many.",
    "evicted_clients": "Idle clients of the control socket that were disconnected for others.",
    "bad_clients": "Clients of the control socket that did not speak its protocol.",
    "slow_clients": "Clients of the control socket that did not read their replies.",
    "lost_watch_records": "Events and threats that watchers did not read in time.",
}

"""The commands, one module each. Only this table is read to find a command."""

# title of a group in the help -> its commands: name -> (module, one line of help)
GROUPS = {
    "Show": {
        "status": ("status", "the state of the daemon, its interfaces and its store"),
        "top": ("top", "live screen: interfaces, flows, hosts, threats"),
        "watch": ("watch", "events and threats as they happen"),
        "flows": ("flows", "show the stored flows"),
        "usage": ("usage", "volume up and down, by day, interface, country ..."),
        "explain": ("explain", "what happens to packets of an address, and why"),
        "threats": ("threats", "what the detectors found"),
        "threat": ("threat", "one threat: evidence, flows, what was done"),
        "report": ("report", "a report on the stored flows, as HTML, text or data"),
    },
    "Rules": {
        "rules": ("rules", "the rules in force"),
        "lists": ("lists", "the prefix lists: age, size, what they match"),
        "what-if": ("what_if", "what other rules would have done to the flows that were seen"),
        "allow": ("allow", "allow packets to a service of this host"),
        "deny": ("deny", "drop packets to a service of this host"),
        "add-cidr": ("add_cidr", "add a rule for a prefix; it is in force at once"),
        "remove-cidr": ("remove_cidr", "remove a rule that add-cidr made"),
        "history": ("history", "the numbered changes of the rules"),
        "undo": ("undo", "undo a change of the rules"),
        "reload": ("reload", "read settings and rules again"),
        "audit": ("audit", "who changed what, and when"),
    },
    "Ban": {
        "bans": ("bans", "the bans in force"),
        "ban": ("ban", "ban an address or a prefix for a while"),
        "unban": ("unban", "lift bans"),
    },
    "Probation and shadow": {
        "promote": ("promote", "put a rule in shadow into force"),
        "apply": ("apply", "apply rules or settings on probation"),
        "confirm": ("confirm", "keep the change that is on probation"),
        "rollback": ("rollback", "take back the change that is on probation"),
    },
    "Maintain": {
        "check": ("check", "check settings and rules; needs no daemon"),
        "import": ("import_rules", "translate the rules of ufw, nft, iptables or firewalld; needs no daemon"),
        "doctor": ("doctor", "check this host: kernel, interfaces, permissions; needs no daemon"),
        "notify": ("notify", "where threats are sent, and whether that works"),
        "metrics": ("metrics", "metrics as OpenMetrics text"),
        "version": ("version", "the versions of client and daemon"),
        "analyze": ("analyze", "analyse logs, captures and flow records; needs no daemon"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}

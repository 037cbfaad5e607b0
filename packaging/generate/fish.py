"""Completion for fish."""

from __future__ import annotations

from commands import PROCESSES, RULES_ONLY, UNITS_ONLY, Argument, Client

_HEAD = """\
# fish completion for trafficctl

# Values of KEY in what `trafficctl COMMAND` answers, in lines that sed finds by the third, from the daemon that the
# command line names.
function __trafficctl_ask
    set -l words (commandline -opc)
    set -l socket
    for i in (seq 2 (count $words))
        contains -- $words[$i] -s --socket; and set socket -s $words[(math $i + 1)]
    end
    trafficctl $socket -o jsonl (string split ' ' $argv[1]) 2>/dev/null |
        sed -n "$argv[3]"'s/.*"'$argv[2]'": *"\\([^"\\\\]*\\)".*/\\1/p' | sort -u
end

complete -c trafficctl -f
"""

_ASK = {
    "prefixes": f"(__trafficctl_ask rules cidr '{RULES_ONLY}')",
    "labels": "(__trafficctl_ask rules label)",
    "bans": "(__trafficctl_ask bans cidr)",
    "threats": "(__trafficctl_ask threats id)",
    "units": f"(__trafficctl_ask 'usage --by unit' key '{UNITS_ONLY}')",
    "processes": f"(__trafficctl_ask '{PROCESSES}' process)",
    "interfaces": "(__fish_print_interfaces)",
}


def script(client: Client) -> str:
    """The whole completion file."""
    out = [_HEAD, *(_option("", option) for option in client.options), "\n"]
    for command in client.commands:
        out.append(f"complete -c trafficctl -n __fish_use_subcommand -a {command.name} -d {_quote(command.summary)}\n")
    for command in client.commands:
        out += ["\n", *(_option(command.name, argument) for argument in command.arguments)]
    return "".join(out)


def _option(command: str, argument: Argument) -> str:
    words = ["complete -c trafficctl"]
    if command:
        words.append(f"-n '__fish_seen_subcommand_from {command}'")
    for flag in argument.flags:
        words.append(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}")
    if argument.flags:
        words.append(f"-d {_quote(argument.help.replace('%%', '%'))}")
    if argument.source == "files":
        words.append("-r -F" if argument.flags else "-F")
    elif argument.takes_value:
        values = " ".join(argument.choices) if argument.source == "choices" else _ASK.get(argument.source, "")
        if not argument.flags and not values:
            return ""
        words.append("-x" if argument.flags else "")
        words.append(f"-a {_quote(values)}" if values else "")
    return " ".join(word for word in words if word) + "\n"


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

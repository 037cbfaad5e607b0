"""Completion for zsh."""

from __future__ import annotations

from commands import PROCESSES, RULES_ONLY, UNITS_ONLY, Argument, Client

_HEAD = """\
#compdef trafficctl

# Values of KEY in what `trafficctl COMMAND` answers, in lines that sed finds by the third; compadd takes prefixes with
# colons as they are.
_trafficctl_ask() {
    local -a found socket
    (( ${+opt_args[-s]} )) && socket=(-s ${opt_args[-s]})
    (( ${+opt_args[--socket]} )) && socket=(-s ${opt_args[--socket]})
    local values=$3's/.*"'$2'": *"\\([^"\\\\]*\\)".*/\\1/p'
    found=(${(fu)"$(_call_program values trafficctl $socket -o jsonl ${=1} 2>/dev/null | sed -n $values)"})
    compadd -a found
}

_trafficctl() {
    local curcontext=$curcontext state line ret=1
    typeset -A opt_args
"""

_ASK = {
    "prefixes": "{_trafficctl_ask rules cidr '" + RULES_ONLY + "'}",
    "labels": "{_trafficctl_ask rules label}",
    "bans": "{_trafficctl_ask bans cidr}",
    "threats": "{_trafficctl_ask threats id}",
    "units": "{_trafficctl_ask 'usage --by unit' key '" + UNITS_ONLY + "'}",
    "processes": "{_trafficctl_ask '" + PROCESSES + "' process}",
    "files": "_files",
    "interfaces": "_net_interfaces",
    "": " ",
}


def script(client: Client) -> str:
    """The whole completion file."""
    out = [_HEAD, "    local -a global=(\n", *(f"        {_spec(option)}\n" for option in client.options), "    )\n"]
    out += ["    _arguments -C $global '1: :->command' '*:: :->arguments' && ret=0\n\n", "    case $state in\n"]
    out += ["        command)\n            local -a commands=(\n"]
    out += [f"                {_quote(f'{command.name}:{command.summary}')}\n" for command in client.commands]
    out += ["            )\n            _describe -t commands command commands && ret=0\n            ;;\n"]
    out += ["        arguments)\n            curcontext=${curcontext%:*}-$line[1]:\n            case $line[1] in\n"]
    for command in client.commands:
        specs = "".join(f" \\\n                        {_spec(argument)}" for argument in command.arguments)
        out.append(f"                {command.name})\n                    _arguments $global{specs} && ret=0\n")
        out.append("                    ;;\n")
    return "".join(out) + '            esac\n            ;;\n    esac\n    return ret\n}\n\n_trafficctl "$@"\n'


def _spec(argument: Argument) -> str:
    value = ""
    if argument.takes_value:
        action = f"({' '.join(argument.choices)})" if argument.source == "choices" else _ASK[argument.source]
        if not argument.flags and not action.strip():  # or its message would come before the options
            action = f'_guard "^-*" {argument.metavar}'
        value = f":{argument.metavar}:{action}"
    if not argument.flags:
        return _quote(f"*{value}" if value else "")
    about = _plain(argument.help)
    if len(argument.flags) == 1:
        return _quote(f"{argument.flags[0]}[{about}]{value}")
    either = " ".join(argument.flags)
    return f"{_quote(f'({either})')}{{{','.join(argument.flags)}}}{_quote(f'[{about}]{value}')}"


def _plain(text: str) -> str:
    return text.replace("%%", "%").replace("[", "(").replace("]", ")").replace(":", r"\:")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"

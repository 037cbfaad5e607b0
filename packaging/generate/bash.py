"""Completion for bash."""

from __future__ import annotations

from commands import PROCESSES, RULES_ONLY, UNITS_ONLY, Argument, Client

_HEAD = """\
# bash completion for trafficctl                           -*- shell-script -*-

# Values of KEY in what `trafficctl COMMAND` answers, in lines that sed finds by the third, from the daemon that
# the command line names.
_trafficctl_ask()
{
    local i socket=()
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        [[ ${words[i]} == -s || ${words[i]} == --socket ]] && socket=(-s "${words[i + 1]}")
    done
    trafficctl "${socket[@]}" -o jsonl $1 2>/dev/null |
        sed -n "$3"'s/.*"'"$2"'": *"\\([^"\\\\]*\\)".*/\\1/p' | sort -u
}

# One candidate a line, quoted if need be.
_trafficctl_offer()
{
    local line
    while IFS= read -r line; do
        [[ $line == "$cur"* ]] && COMPREPLY+=("$(printf %q "$line")")
    done
    __ltrim_colon_completions "$cur"
}

_trafficctl()
{
    local cur prev words cword
    _init_completion -n : || return

    local i command=
    for ((i = 1; i < cword; i++)); do
        case ${words[i]} in
            @GLOBAL_WITH_VALUE@) ((i++)) ;;
            -*) ;;
            *)
                command=${words[i]}
                break
                ;;
        esac
    done

    case $command:$prev in
"""

_TAIL = """\
    esac
} &&
    complete -F _trafficctl trafficctl

# ex: filetype=sh
"""

_ASK = {
    "prefixes": f"_trafficctl_offer < <(_trafficctl_ask rules cidr '{RULES_ONLY}')",
    "labels": "_trafficctl_offer < <(_trafficctl_ask rules label)",
    "bans": "_trafficctl_offer < <(_trafficctl_ask bans cidr)",
    "threats": "_trafficctl_offer < <(_trafficctl_ask threats id)",
    "units": f"_trafficctl_offer < <(_trafficctl_ask 'usage --by unit' key '{UNITS_ONLY}')",
    "processes": f"_trafficctl_offer < <(_trafficctl_ask '{PROCESSES}' process)",
    "files": "_filedir",
    "interfaces": "_trafficctl_offer < <(command ls /sys/class/net)",
    "": ":",
}


def script(client: Client) -> str:
    """The whole completion file."""
    with_value = "|".join(flag for option in client.options if option.takes_value for flag in option.flags)
    out = [_HEAD.replace("@GLOBAL_WITH_VALUE@", with_value)]
    for option in client.options:
        out += _values("*", option)
    for command in client.commands:
        for argument in command.arguments:
            out += _values(command.name, argument)
    out += ["    esac\n\n", "    case $command in\n"]
    common = [flag for option in client.options for flag in option.flags]
    names = " ".join(command.name for command in client.commands)
    out += [
        '        "")\n',
        f"            COMPREPLY=($(compgen -W '{names} {' '.join(common)}' -- \"$cur\"))\n",
        "            ;;\n",
    ]
    for command in client.commands:
        flags = " ".join([flag for argument in command.arguments for flag in argument.flags] + common)
        positionals = [argument for argument in command.arguments if not argument.flags]
        out.append(f"        {command.name})\n            if [[ $cur == -* ]]; then\n")
        out.append(f"                COMPREPLY=($(compgen -W '{flags}' -- \"$cur\"))\n")
        if positionals and positionals[0].source:
            out.append(f"            else\n                {_complete(positionals[0])}\n")
        out.append("            fi\n            ;;\n")
    return "".join(out) + _TAIL


def _values(command: str, argument: Argument) -> list[str]:
    if not argument.flags or not argument.takes_value:
        return []
    pattern = " | ".join(f"{command}:{flag}" for flag in argument.flags)
    return [f"        {pattern})\n            {_complete(argument)}\n            return\n            ;;\n"]


def _complete(argument: Argument) -> str:
    if argument.source == "choices":
        return f"COMPREPLY=($(compgen -W '{' '.join(argument.choices)}' -- \"$cur\"))"
    return _ASK[argument.source]

"""`zkv completion bash|zsh|fish`: a script that knows every command, flag and value, made from the parser's tables.

The scripts ask nobody while the user types: no process is started for a press of the tab key. All three find the
command in the words before the cursor the same way (commands are known words; whatever else stands there is a flag, a
flag's value or an argument), then offer what fits there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from zkv.ctl.command import Call, Command
from zkv.ctl.main import COMMANDS, GROUPS, load, summary
from zkv.ctl.options import EXIT_BAD_ARGS, GLOBAL_FLAGS, CommandError, Flag


class Place(NamedTuple):
    """What may stand behind `path`: more command words (name, what it does), or flags."""

    path: str
    words: tuple[tuple[str, str], ...]
    flags: tuple[Flag, ...]


def places() -> list[Place]:
    found = [Place("", _words(""), GLOBAL_FLAGS)]
    found += [Place(group, _words(group), GLOBAL_FLAGS) for group in GROUPS]
    for name in COMMANDS:
        command = load(name)
        if isinstance(command, Command):
            words = _words("") if name == "help" else tuple((word, "") for word in command.words)
            found.append(Place(name, words, command.all_flags))
        else:
            found += _places_of_click(name, command)
    return found


def _words(group: str) -> tuple[tuple[str, str], ...]:
    """The words that may follow: subcommands of a group, or commands and groups."""
    if group:
        return tuple((name.split()[1], summary(name)) for name in COMMANDS if name.split()[0] == group)
    plain = [(name, summary(name)) for name in COMMANDS if " " not in name]
    return tuple(sorted([*plain, *GROUPS.items()]))


def _places_of_click(path: str, command: Any) -> list[Place]:
    """A click command's flags in our words, and those of its subcommands."""
    import click

    flags = []
    for option in command.params:
        long = [spelling[2:] for spelling in option.opts if spelling.startswith("--")]
        if not isinstance(option, click.Option) or not long:
            continue
        values = tuple(option.type.choices) if isinstance(option.type, click.Choice) else ()
        file = isinstance(option.type, click.Path | click.File)
        about = (option.help or "").splitlines()[:1]
        kind = "switch" if option.is_flag or option.count else "text"
        flags.append(Flag(long[0], kind, "", "".join(about), values=tuple(map(str, values)), file=file))
    commands = command.commands if isinstance(command, click.Group) else {}
    words = tuple((name, each.get_short_help_str()) for name, each in commands.items())
    found = [Place(path, words, tuple(flags))]
    for name, each in commands.items():
        found += _places_of_click(f"{path} {name}", each)
    return found


def _quoted(text: str) -> str:
    """In single quotes, for any of the shells."""
    return "'" + text.replace("\\", "").replace("'", "’") + "'"


def _by_value(all_places: list[Place]) -> tuple[dict[str, tuple[str, ...]], list[str], list[str]]:
    """Spellings of flags with known values, with files, and with values of any other kind."""
    known, files, others = {}, [], []
    for flag in {flag.name: flag for place in all_places for flag in place.flags if flag.kind != "switch"}.values():
        for spelling in flag.spellings:
            if flag.values:
                known[spelling] = flag.values
            elif flag.file:
                files.append(spelling)
            else:
                others.append(spelling)
    return known, files, others


def bash() -> str:
    all_places = places()
    known, files, others = _by_value(all_places)
    paths = "|".join(f'"{place.path}"' for place in all_places if place.path)
    values = "".join(
        f'        {spelling}) COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$cur")); return ;;\n'
        for spelling, words in known.items()
    )
    offers = "".join(f'        "{place.path}") offer="{" ".join(_offer(place))}" ;;\n' for place in all_places)
    return f"""\
# bash completion for zkv: source <(zkv completion bash)
_zkv() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} path="" offer="" at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case "${{path:+$path }}${{COMP_WORDS[at]}}" in
        {paths}) path="${{path:+$path }}${{COMP_WORDS[at]}}" ;;
        esac
    done
    # bash takes the = of --flag=value for a word
    if [[ $cur == = ]]; then cur=""; elif [[ $prev == = ]]; then prev=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    case "$prev" in
{values}        {"|".join(files)}) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        {"|".join(others)}) return ;;
    esac
    case "$path" in
{offers}    esac
    COMPREPLY=($(compgen -W "$offer" -- "$cur"))
}}
complete -o filenames -F _zkv zkv
"""


def _offer(place: Place) -> list[str]:
    return [*(word for word, _ in place.words), *(spelling for flag in place.flags for spelling in flag.spellings)]


def zsh() -> str:
    all_places = places()
    known, files, others = _by_value(all_places)
    paths = "|".join(place.path.replace(" ", "\\ ") for place in all_places if place.path)
    values = "".join(
        f"        {spelling}) compadd -- {' '.join(words)}; return ;;\n" for spelling, words in known.items()
    )
    offers = "".join(
        f"        {_quoted(place.path)})\n"
        f"            words_here=({' '.join(_quoted(f'{word}:{about}') for word, about in place.words)})\n"
        f"            flags_here=({' '.join(_described_flags(place))}) ;;\n"
        for place in all_places
    )
    return f"""\
#compdef zkv
# zsh completion for zkv: source <(zkv completion zsh), or a file named _zkv in $fpath
_zkv() {{
    local where="" word
    local -a words_here flags_here
    for word in ${{words[2,CURRENT-1]}}; do
        case "${{where:+$where }}$word" in
        ({paths}) where="${{where:+$where }}$word" ;;
        esac
    done
    if compset -P '--*='; then word=${{IPREFIX%=}}; else word=$words[CURRENT-1]; fi
    case "$word" in
{values}        {"|".join(files)}) _files; return ;;
        {"|".join(others)}) return ;;
    esac
    case "$where" in
{offers}    esac
    (( $#words_here )) && _describe -t commands command words_here
    _describe -o -t options option flags_here
}}
compdef _zkv zkv
"""


def _described_flags(place: Place) -> list[str]:
    return [_quoted(f"{spelling}:{flag.help}") for flag in place.flags for spelling in flag.spellings]


def fish() -> str:
    all_places = places()
    paths = " ".join(_quoted(place.path) for place in all_places if place.path)
    lines = []
    for place in all_places:
        here = f"complete -c zkv -n '__zkv_at {place.path or '-'}'"
        lines += [f"{here} -f -a {word} -d {_quoted(about)}" for word, about in place.words]
        for flag in place.flags:
            short = f" -s {flag.short}" if flag.short else ""
            takes = " -f"
            if flag.kind != "switch":
                takes = " -r -F" if flag.file else f" -x -a {_quoted(' '.join(flag.values))}" if flag.values else " -x"
            lines.append(f"{here} -l {flag.name}{short}{takes} -d {_quoted(flag.help)}")
    body = "\n".join(lines)
    return f"""\
# fish completion for zkv: zkv completion fish | source
function __zkv_at
    set -l where
    for word in (commandline -opc)[2..-1]
        set -l longer (string join -- ' ' $where $word)
        contains -- $longer {paths}; and set where $longer
    end
    test "$where" = "$argv" -o -z "$where" -a "$argv" = -
end
complete -c zkv -f
{body}
"""


SCRIPTS = {"bash": bash, "fish": fish, "zsh": zsh}


def _completion(call: Call) -> int:
    if len(call.arguments) != 1 or call.arguments[0] not in SCRIPTS:
        raise CommandError(f"completion command needs the name of a shell: {', '.join(SCRIPTS)}", EXIT_BAD_ARGS)
    call.out.write(SCRIPTS[call.arguments[0]]().encode())
    return 0


COMPLETION = Command(
    usage="bash|fish|zsh",
    summary="Prints a completion script for bash, zsh or fish",
    description="The script completes commands, flags, and the values of flags that have a few.",
    example="""\
source <(zkv completion bash)
zkv completion zsh > "${fpath[1]}/_zkv"
zkv completion fish > ~/.config/fish/completions/zkv.fish""",
    words=tuple(SCRIPTS),
    run=_completion,
)

"""The functions that `shell-init` prints.

`export` is a builtin, and a special one: shells parse ``export A=$x`` as an assignment, without
splitting ``$x`` into words. How far a function can stand in for it differs (tried in bash 5.2,
zsh 5.9 and fish 3.6):

* bash decides by the name ``export``, so a function of that name keeps the assignment's rules.
* zsh has a reserved word ``export`` that no function can replace; only an alias comes before it,
  and under an alias the arguments are split like those of any command. So the alias is set for
  just those typed lines that say ``export build …`` or the like. Where zsh has no line editor to
  see the line (a script, a pipe), the alias stays on.
* fish's own ``export`` is a function, which is kept under another name.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_RULE = """\
# `export` runs the exporter if its first word is one of the exporter's commands and a later word
# could be no variable: `export build --target cpu-int8`, `export inspect model.onnx`.
# All else is the shell's own export: `export A=1`, `export -p`, `export build`, `export build B=2`.
"""

_IS_OURS = """\
_exporter_is_ours() {
  case "${1-}" in @COMMANDS@) ;; *) return 1 ;; esac
  shift
  local word name
  for word; do
    name="${word%%=*}"
    name="${name%+}"
    case "$name" in '' | [0-9]* | *[!A-Za-z0-9_]*) return 0 ;; esac
  done
  return 1
}
"""

_BASH = (
    _RULE
    + _IS_OURS
    + """\
export() {
  if _exporter_is_ours "$@"; then
    @PROGRAM@ "$@"
  else
    builtin export "$@"
  fi
}
"""
)

_ZSH = (
    _RULE
    + _IS_OURS
    + """\
_exporter_export() {
  if _exporter_is_ours "$@"; then
    @PROGRAM@ "$@"
  else
    builtin export "$@"
  fi
}
if [[ -o zle && -t 0 && -z ${ZSH_EXECUTION_STRING-} ]]; then
  # An alias takes the place of the reserved word `export`, for the lines that mean the exporter.
  _exporter_line() {
    emulate -L zsh -o extended_glob
    if [[ $BUFFER == (|*[^[:alnum:]_])export[[:space:]]##(@COMMANDS@)[[:space:]]* ]]; then
      alias export=_exporter_export
    else
      unalias export 2>/dev/null
    fi
    return 0
  }
  autoload -Uz add-zle-hook-widget
  add-zle-hook-widget line-finish _exporter_line
else
  # No line editor (a pipe, zsh -c), so the alias stays. Under it, as with any command, `$(date)`
  # needs quotes and `~` must be $HOME: export A="$(date)" B="$HOME/b"
  alias export='noglob _exporter_export'
fi
"""
)

_FISH = (
    _RULE
    + """\
functions --query _exporter_plain_export; or functions --copy export _exporter_plain_export
function export
    if contains -- "$argv[1]" @COMMANDS@
        for word in $argv[2..]
            if not string match --quiet --regex '^[A-Za-z_][A-Za-z0-9_]*(=|$)' -- $word
                @PROGRAM@ $argv
                return
            end
        end
    end
    _exporter_plain_export $argv
end
"""
)


def shell_function(shell: str, python: str, commands: Sequence[str]) -> str:
    """Return the text for ``bash``, ``zsh`` or ``fish`` to evaluate.

    Args:
        shell: Which of them.
        python: The interpreter that has this package.
        commands: The names of the program's commands.
    """
    text = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell]
    names = (" " if shell == "fish" else "|").join(commands)
    # -P: a folder called exporter where the user happens to be isn't this program.
    program = f"{shlex.quote(python)} -P -m exporter"
    return text.replace("@COMMANDS@", names).replace("@PROGRAM@", program)

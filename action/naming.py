"""What `antidote-ci` says, in the words of whoever fills in inputs. Pure."""

import re
from collections.abc import Mapping

from action import inputs

INPUT_BY_KEY = {"harmful_score": "threshold", "accept": "accept-repair", "mode": "publish", "to": "publish-to"}
"""What the policy calls otherwise than the input."""

_NAMES = "|".join(sorted((*inputs.OPTIONS, *inputs.FLAGS), key=len, reverse=True))
_VARIABLES = {variable: name for name, variable in inputs.TOKENS.items()}
_MENTIONED = re.compile(
    # A whole command is to be typed as it stands.
    r"(?P<command>antidote-ci [a-z][^`,;\n]*)"
    rf"|'--(?P<quoted>{_NAMES})'(?: \(env var: '\w+'\))?"
    rf"|(?<![\w-])--(?P<flag>{_NAMES})(?![\w-])"
    r"|\b(?:gate|evaluation|repair|publish|jobs)\.(?P<key>\w+) in the command line"
    rf"|\b(?P<variable>{'|'.join(_VARIABLES)})\b"
    r"|\b(?:argument|for) '(?P<argument>MODEL)'",
)


def rename_to_inputs(text: str) -> str:
    """The text with every option, policy key and variable that an input stands for called by that input's name.

    A key is left alone where a policy file is at fault.
    """
    return _MENTIONED.sub(_input_name, text)


def blame_inputs(what: str, given: Mapping[str, str]) -> str:
    """What is wrong, named; then the inputs whose values it speaks of, where it does not name them itself."""
    text = rename_to_inputs(what)
    names = [
        f"input {name}"
        for name, value in given.items()
        if re.search(rf"(?<![\w./-]){re.escape(value)}(?![\w/-]|\.\w)", text)
        and not re.search(rf"\binput {name}(?![\w-])", text)
    ]
    return f"{text} ({', '.join(names)})" if names else text


def _input_name(found: re.Match[str]) -> str:
    if found["key"]:
        name = INPUT_BY_KEY.get(found["key"], found["key"].replace("_", "-"))
        return f"input {name}" if name in inputs.INPUTS else found[0]
    if found["variable"]:
        return f"input {_VARIABLES[found['variable']]}"
    if found["argument"]:
        return found[0].replace("argument", "").replace("'MODEL'", "input model").strip()
    name = found["quoted"] or found["flag"]
    return f"input {name}" if name else found[0]

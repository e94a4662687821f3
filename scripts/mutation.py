"""Mutation testing: how many small changes of the code no test sees, a line a module. `python -m scripts.mutation`

What is changed, and which tests are asked, stands in pyproject.toml. Goes on where it ended.
"""

import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable

# `antidote_ci.repair.masks.x_covered__mutmut_3: killed`; of a method the name has its class between marks.
OUTCOME = re.compile(r"\s*(?P<module>[\w.]+?)\.x[_\u01c1]\S*: (?P<outcome>.+)")
SEEN = ("killed", "timeout", "segfault")
"""A change that makes a test run without end is seen too."""


def main() -> int:
    """Run what has not been run, and print the table."""
    mutmut = [sys.executable, "-m", "mutmut"]
    done = subprocess.run([*mutmut, "run", "--max-children", "2"], check=False)
    if done.returncode:
        return done.returncode
    listed = subprocess.run([*mutmut, "results", "--all", "true"], check=True, capture_output=True, text=True)
    sys.stdout.write(table(listed.stdout.splitlines()))
    return 0


def table(lines: Iterable[str]) -> str:
    """Of each module: how many changes, how many seen, as Markdown."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        if match := OUTCOME.fullmatch(line):
            found[match["module"]][match["outcome"]] += 1
    rows = [f"| `{module}` | {_row(outcomes)} |" for module, outcomes in sorted(found.items())]
    whole = f"| all | {_row(sum(found.values(), Counter()))} |"
    return "\n".join(["| module | changes | seen | share |", "|---|--:|--:|--:|", *rows, whole, ""])


def _row(outcomes: Counter[str]) -> str:
    seen = sum(outcomes[outcome] for outcome in SEEN)
    return f"{outcomes.total():,} | {seen:,} | {100 * seen / outcomes.total():.0f} %"


if __name__ == "__main__":
    sys.exit(main())

"""Run mutation testing and print a table of the killed mutants by module: `python -m scripts.mutation`.

pyproject.toml configures the modules and the tests. An interrupted run resumes.
"""

import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable

# `antidote_ci.repair.masks.x_covered__mutmut_3: killed`. The name of a method includes its class between U+01C1.
OUTCOME = re.compile(r"\s*(?P<module>[\w.]+?)\.x[_\u01c1]\S*: (?P<outcome>.+)")
KILLED = ("killed", "timeout", "segfault")
"""Outcomes that count as killed. A mutant that makes a test hang is killed too."""


def main() -> int:
    """Run the remaining mutants and print the table."""
    mutmut = [sys.executable, "-m", "mutmut"]
    completed = subprocess.run([*mutmut, "run", "--max-children", "2"], check=False)
    if completed.returncode:
        return completed.returncode
    listed = subprocess.run([*mutmut, "results", "--all", "true"], check=True, capture_output=True, text=True)
    sys.stdout.write(table(listed.stdout.splitlines()))
    return 0


def table(lines: Iterable[str]) -> str:
    """Return a Markdown table with the mutants of each module."""
    outcomes_by_module: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        if match := OUTCOME.fullmatch(line):
            outcomes_by_module[match["module"]][match["outcome"]] += 1
    rows = [f"| `{module}` | {_row(outcomes)} |" for module, outcomes in sorted(outcomes_by_module.items())]
    total = f"| all | {_row(sum(outcomes_by_module.values(), Counter()))} |"
    return "\n".join(["| module | mutants | killed | share |", "|---|--:|--:|--:|", *rows, total, ""])


def _row(outcomes: Counter[str]) -> str:
    killed = sum(outcomes[outcome] for outcome in KILLED)
    return f"{outcomes.total():,} | {killed:,} | {100 * killed / outcomes.total():.0f} %"


if __name__ == "__main__":
    sys.exit(main())

"""The command of `make check-workflows`."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts import linting


def main() -> int:
    with TemporaryDirectory() as folder:
        # Both linters recognise a workflow by its folder.
        target = Path(folder) / ".github" / "workflows"
        target.mkdir(parents=True)
        texts = linting.workflows()
        for name, text in texts.items():
            (target / name).write_text(text, encoding="utf-8")
        results = [
            linting.lint_workflows(target),
            linting.zizmor([*linting.ACTIONS, ".github/dependabot.yml"]),
            linting.hadolint(linting.DOCKERFILE),
        ]
    print(f"{len(texts)} workflows, {len(linting.ACTIONS)} actions, the Dockerfile: ", end="")
    print("no findings" if all(results) else "see above")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

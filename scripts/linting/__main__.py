"""`make check-workflows`."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts import linting


def main() -> int:
    with TemporaryDirectory() as folder:
        # Both linters tell a workflow by the folder it lies in.
        place = Path(folder) / ".github" / "workflows"
        place.mkdir(parents=True)
        texts = linting.workflows()
        for name, text in texts.items():
            (place / name).write_text(text, encoding="utf-8")
        clean = [
            linting.lint_workflows(place),
            linting.zizmor([*linting.ACTIONS, ".github/dependabot.yml"]),
            linting.hadolint(linting.DOCKERFILE),
        ]
    print(f"{len(texts)} workflows, {len(linting.ACTIONS)} actions, the Dockerfile: ", end="")
    print("nothing found" if all(clean) else "see above")
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The commands of the release workflow. Standard library only: its jobs install nothing for them.

An ACTION is OWNER/REPOSITORY@COMMIT.

check TAG REPOSITORY     the version and the image's name as a step's outputs, where tag, package and changelog agree
floating VERSION         the tag vX, where this version is the newest of X: the tags that stand are read from stdin
notes VERSION ACTION     what CHANGELOG.md says of it, and how that Action is used
pin REPOSITORY CPU CUDA  both actions name their image of that repository by its digest
stamp ACTION             `antidote-ci init` writes that Action into workflows
"""

import sys
from pathlib import Path

import antidote_ci
from scripts import release

ROOT = Path(__file__).parents[2]


def main(arguments: list[str]) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    match arguments:
        case ["check", tag, repository]:
            version = release.checked(tag, antidote_ci.__version__, changelog)
            print(f"version={version}\nimage={release.image(repository)}")
        case ["floating", version]:
            print(release.floating(version, (line.rstrip().rpartition("/")[2] for line in sys.stdin)) or "")
        case ["notes", version, action]:
            print(f"{release.notes(changelog, version)}\n\n```yaml\n- uses: {action} # v{version}\n```")
        case ["pin", repository, cpu, cuda]:
            for path, digest in zip(release.ACTIONS, (cpu, cuda), strict=True):
                _rewrite(path, release.pinned(path, _text(path), release.image(repository), digest))
        case ["stamp", action]:
            _rewrite(release.STARTING, release.stamped(_text(release.STARTING), action))
        case _:
            raise ValueError(f"{arguments} is no command; they are:\n{__doc__}")


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _rewrite(path: str, text: str) -> None:
    (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")

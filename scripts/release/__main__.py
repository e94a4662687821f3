"""Commands of the release workflow. They use only the standard library, because the jobs install no packages.

An ACTION is OWNER/REPOSITORY@COMMIT.

check TAG REPOSITORY     check that tag, package and changelog agree; print version and image as outputs of the step
floating VERSION         print the tag vX if this version is the newest of X; reads the existing tags from stdin
notes VERSION ACTION     print the section of CHANGELOG.md and how to use the Action
pin REPOSITORY CPU CUDA  pin the images of both actions to these digests
stamp ACTION             set the Action that `antidote-ci init` writes, and link the documentation to its repository
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
            version = release.check_version(tag, antidote_ci.__version__, changelog)
            print(f"version={version}\nimage={release.image_name(repository)}")
        case ["floating", version]:
            print(release.floating_tag(version, (line.rstrip().rpartition("/")[2] for line in sys.stdin)) or "")
        case ["notes", version, action]:
            print(f"{release.read_notes(changelog, version)}\n\n```yaml\n- uses: {action} # v{version}\n```")
        case ["pin", repository, cpu, cuda]:
            for path, digest in zip(release.ACTIONS, (cpu, cuda), strict=True):
                _rewrite(path, release.pin_image(path, _text(path), release.image_name(repository), digest))
        case ["stamp", action]:
            _rewrite(release.ACTION_FILE, release.stamp_action(_text(release.ACTION_FILE), action))
            _rewrite("README.md", release.link_readme(_text("README.md"), action))
            repository, version = action.partition("@")[0], antidote_ci.__version__
            _rewrite("pyproject.toml", release.stamp_documentation(_text("pyproject.toml"), repository, version))
        case _:
            raise ValueError(f"unknown command {arguments}\n{__doc__}")


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _rewrite(path: str, text: str) -> None:
    (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")

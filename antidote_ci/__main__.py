"""`antidote-ci` and `python -m antidote_ci`."""

from antidote_ci.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="antidote-ci")


if __name__ == "__main__":
    main()

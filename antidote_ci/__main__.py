"""`antidote-ci` and `python -m antidote_ci`."""

import os
import sys

from antidote_ci import environment


def main() -> None:
    """Run the command line. Inside a Job of the Hub, also send the result back."""
    environment.protect()
    from antidote_ci.cli import app
    from antidote_ci.cli.ending import exit_code
    from antidote_ci.jobs import entrypoint

    if entrypoint.is_inside_job(os.environ):
        sys.exit(exit_code(lambda: entrypoint.run_inside_job(sys.argv[1:]), "antidote-ci COMMAND"))
    sys.exit(exit_code(lambda: app(prog_name="antidote-ci", standalone_mode=False), "antidote-ci COMMAND"))


if __name__ == "__main__":
    main()

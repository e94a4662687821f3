"""`antidote-ci` and `python -m antidote_ci`."""

import os
import sys

from antidote_ci import environment


def main() -> None:
    """Run the command line; as the first process of a Job, run it within and send home how it ended."""
    environment.protect()
    import typer

    from antidote_ci.cli import app
    from antidote_ci.cli.ending import unforeseen
    from antidote_ci.console import Talk
    from antidote_ci.errors import ConfigurationError, InfrastructureError
    from antidote_ci.jobs import inside

    try:
        if inside.is_here(os.environ):
            code = inside.main(sys.argv[1:])
        else:
            code = app(prog_name="antidote-ci", standalone_mode=False)
    except typer.TyperException as error:
        # Without a message it has shown the help already.
        if told := error.format_message():
            # "Value error" is a word of the library that typer checks values with.
            told = told.replace("Value error, ", "")
            Talk().explain(ConfigurationError(told, hint="antidote-ci COMMAND --help shows what there is"))
        code = error.exit_code
    except SystemExit as ended:
        # The libraries' answer to a reader that has gone; 1 would speak of the model.
        sys.exit(InfrastructureError.exit_code if ended.code == 1 else ended.code)
    except Exception as error:  # noqa: BLE001 - exit 1 would speak of the model
        code = unforeseen(error, Talk())
    sys.exit(code)


if __name__ == "__main__":
    main()

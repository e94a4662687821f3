"""Ask the Hub what this project assumes of it: `python -m scripts.contract ORG/SCRATCH`, once, with internet access.

The repository is created, private, if it does not exist, and stays. HF_WRITE_TOKEN may write to it. HF_READ_TOKEN, if
it is set, is a read-only token of the same account. It takes some minutes; Jobs are started with --jobs only, and cost
less than a cent.

Not asked: the status of whoami for the token of a workflow. Run one on GitHub with HF_OIDC_RESOURCE and
`--publish branch`.
"""

import argparse
import os
import sys

from antidote_ci.errors import AntidoteError
from antidote_ci.hub.access import write_access
from antidote_ci.hub.client import read_endpoint
from scripts.contract import Scratch, answer_question, render_table
from scripts.contract.questions import QUESTIONS


def main() -> int:
    """Return 1 if an answer is not the assumed one."""
    parser = argparse.ArgumentParser(prog="python -m scripts.contract", description=__doc__)
    parser.add_argument("repository", metavar="ORG/SCRATCH")
    parser.add_argument("--jobs", action="store_true", help="also ask about Jobs")
    arguments = parser.parse_args()
    token = write_access(os.environ).token
    if token is None:
        parser.error("set HF_WRITE_TOKEN")
    scratch = Scratch(arguments.repository, token, os.environ.get("HF_READ_TOKEN"), arguments.jobs)
    scratch.client.create_repo(scratch.repository, private=True, exist_ok=True)
    answers = [answer_question(question, scratch) for question in QUESTIONS]
    print(f"{read_endpoint()}\n{render_table(answers)}")
    return int(any(answer.is_different for answer in answers))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AntidoteError as error:
        sys.exit(f"error: {error}")

"""The goals of pulling and publishing, measured. `python -m benchmarks.hub part`"""

import argparse
import importlib

PARTS = ("faults", "kills", "pull")


def main() -> None:
    """Measure one part; each prints its own table."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.hub", description="pulling and publishing")
    options.add_argument("part", choices=PARTS)
    importlib.import_module(f"benchmarks.hub.{options.parse_args().part}").main()


if __name__ == "__main__":
    main()

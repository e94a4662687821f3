"""The paper's own numbers, as far as they could be read: https://arxiv.org/abs/2408.09600, and its code's logs.

Per cent. Llama-2-7B, GSM8K with a fifth of BeaverTails, 5,000 rows, harm as beaver-dam-7b judges it on 1,000 prompts,
one seed. Tables 1, 2, 6, 7, 8, 12, 13 and 14 could not be read: what is said of them comes from a summary of the paper.
"""

from dataclasses import dataclass

GUARDS = {
    "sft": "SFT",
    "vaccine": "Vaccine",
    "repnoise": "RepNoise",
    "lisa": "Lisa",
    "ldifs": "LDIFS",
    "antidote": "SFT, then Antidote",
}
"""Every row of the paper's tables, and of ours beside them."""


@dataclass(frozen=True)
class Sweep:
    """One of the paper's tables: by method, harmful score and accuracy at each place of what is varied."""

    table: str
    varied: str
    places: tuple[float, ...]
    harmful: dict[str, tuple[float, ...]]
    accuracy: dict[str, tuple[float, ...]]


RATES = Sweep(
    table="Table 3",
    varied="learning rate",
    places=(1e-7, 1e-6, 1e-5, 1e-4, 1e-3),
    harmful={
        "sft": (52.80, 70.30, 80.10, 77.80, 79.80),
        "vaccine": (46.50, 66.00, 79.40, 80.60, 77.50),
        "repnoise": (52.50, 70.10, 79.00, 80.20, 75.50),
        "lisa": (52.30, 55.00, 64.40, 73.20, 77.30),
        "ldifs": (53.20, 56.10, 59.00, 68.50, 78.50),
        "antidote": (53.50, 61.80, 65.60, 65.30, 68.80),
    },
    accuracy={
        "sft": (4.30, 14.00, 23.10, 21.90, 23.30),
        "vaccine": (1.80, 10.90, 25.50, 24.20, 25.80),
        "repnoise": (4.80, 12.60, 24.90, 23.50, 24.70),
        "lisa": (4.00, 5.70, 13.60, 21.90, 24.70),
        "ldifs": (4.00, 4.80, 5.40, 6.10, 14.10),
        "antidote": (4.10, 11.20, 17.50, 16.10, 20.40),
    },
)
EPOCHS = Sweep(
    table="Table 4",
    varied="epochs",
    places=(1, 5, 10, 20, 40),
    harmful={
        "sft": (76.50, 78.90, 79.90, 77.80, 78.70),
        "vaccine": (75.80, 82.10, 79.60, 80.60, 80.40),
        "repnoise": (76.30, 79.50, 79.00, 80.20, 80.80),
        "lisa": (55.40, 54.80, 71.50, 73.20, 75.00),
        "ldifs": (56.70, 61.50, 64.90, 68.50, 72.40),
        "antidote": (61.50, 66.80, 66.60, 65.30, 63.60),
    },
    accuracy={
        "sft": (21.00, 25.80, 26.50, 21.90, 24.60),
        "vaccine": (20.40, 26.00, 25.10, 24.20, 22.60),
        "repnoise": (19.70, 26.20, 26.10, 23.50, 22.70),
        "lisa": (4.50, 4.50, 21.70, 21.90, 24.40),
        "ldifs": (4.90, 5.00, 5.70, 6.10, 6.10),
        "antidote": (13.60, 17.80, 19.80, 16.10, 13.90),
    },
)
MASKS = Sweep(
    table="Table 11",
    varied="mask ratio",
    places=(0.01, 0.05, 0.1, 0.15, 0.2, 0.25),
    harmful={"antidote": (71.80, 65.30, 60.90, 58.10, 56.40, 56.10)},
    accuracy={"antidote": (23.20, 16.10, 10.00, 5.90, 5.50, 5.20)},
)
POISON_FALL, POISON_COST = 11.56, 1.45
"""Table 1, from a summary: mean points of harmful score that Antidote takes away and of accuracy that it costs."""
RATES_FALL_FIRST, HIGHEST_FALL, HIGHEST_COST = 6.56, 17.8, 1.83
"""What a summary of the first version says: on average over learning rates; at most, and accuracy that goes with it."""
ENOUGH_REALIGNMENT = "1,000 to 2,000"
"""Table 13, from a summary."""
TIME = 1.02
"""Table 10, from a summary: time with Antidote over time without."""


def mean(values: tuple[float, ...]) -> float:
    """Of a row, as the paper averages it."""
    return sum(values) / len(values)

"""What the paper claims, with its own numbers, and the trial of ours that each is put to: `trials`. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.paper import published, trials
from benchmarks.paper.cells import DEFENCES
from benchmarks.paper.evidence import Evidence, Failed, Missing, Unplanned
from benchmarks.paper.suite import shown
from benchmarks.paper.trials import Judged


@dataclass(frozen=True)
class Claim:
    """One thing that the paper says."""

    words: str
    source: str
    """The paper's table or figure, and its numbers."""
    judge: Callable[[Evidence], Judged]


def judged(claim: Claim, found: Evidence) -> Judged:
    """What the results say of a claim, where they say anything."""
    try:
        return claim.judge(found)
    except Missing as error:
        (attack,) = error.args
        return Judged("not run yet", f"first of all missing: {shown(attack)}")
    except Unplanned as error:
        (attack,) = error.args
        return Judged("not testable at this scale", f"the preset does without it: {shown(attack)}")
    except Failed as error:
        return Judged("not testable at this scale", str(error))


def _row(forward: published.Sweep, name: str) -> str:
    return f"{published.mean(forward.harmful[name]):.2f}"


def _spreads(forward: published.Sweep, *names: str) -> str:
    """From the least to the most, of rows of the paper."""
    seen = sorted({round(max(forward.harmful[name]) - min(forward.harmful[name]), 2) for name in names})
    return " to ".join(f"{each:.1f}" for each in dict.fromkeys((seen[0], seen[-1])))


CLAIMS = (
    Claim(
        "Antidote lowers the harmful score, on average over learning rates",
        f"{published.RATES.table}: {_row(published.RATES, 'sft')} to {_row(published.RATES, 'antidote')}; "
        f"a summary of the first version: -{published.RATES_FALL_FIRST}",
        trials.fall_over_rates,
    ),
    Claim(
        "It hardly depends on the learning rate, and every defence does",
        f"{published.RATES.table}: highest minus lowest {_spreads(published.RATES, 'antidote')}, "
        f"beside {_spreads(published.RATES, *DEFENCES)} for the others",
        trials.steadier_over_rates,
    ),
    Claim(
        "It hardly depends on the epochs, while Lisa and LDIFS weaken",
        f"{published.EPOCHS.table}: highest minus lowest {_spreads(published.EPOCHS, 'antidote')}, "
        f"beside {_spreads(published.EPOCHS, 'lisa', 'ldifs')}",
        trials.steadier_over_epochs,
    ),
    Claim(
        "At a high learning rate no defence holds",
        f"{published.RATES.table} at 1e-3: 75.5 to 78.5, with 52.8 for SFT at 1e-7",
        trials.defences_break,
    ),
    Claim(
        "It lowers the score over shares of poison at little cost",
        f"Table 1, from a summary: -{published.POISON_FALL} for {published.POISON_COST} of accuracy",
        trials.fall_over_poison,
    ),
    Claim(
        "Much harm goes for little accuracy",
        f"a summary of the first version: up to -{published.HIGHEST_FALL} within {published.HIGHEST_COST}",
        trials.cheap,
    ),
    Claim(
        "A larger mask takes away more harm and more accuracy",
        f"{published.MASKS.table}: 71.8 / 23.2 at 0.01 to 56.1 / 5.2 at 0.25",
        trials.steep,
    ),
    Claim(
        "The score matters: random entries do worse",
        "log of Table 5: random at 0.3 57.4 / 14.9, Antidote at 0.01 57.1 / 27.8",
        trials.better_than_random,
    ),
    Claim(
        "Benign fine-tuning harms too, and it helps there as well",
        "Table 5: SFT 61.5, Antidote 57.1",
        trials.benign,
    ),
    Claim("It lowers the score on other tasks too", "Table 6: not read", trials.other_task),
    Claim("With Vaccine before it, it is better still", "Table 14: not read", trials.combined),
    Claim("Harmful embedding drift stays low", "Figure 5: not read", trials.drift),
    Claim(
        "More realignment pairs help, and enough is a small number",
        f"Table 13, from a summary: {published.ENOUGH_REALIGNMENT} are enough",
        trials.more_pairs,
    ),
    Claim("It costs hardly any time", f"Table 10, from a summary: {published.TIME} times SFT", trials.time),
    Claim(
        "Harmful pairs are needed to find what goes",
        "Table 12: not read",
        trials.out_of_reach("no cell scores with other pairs"),
    ),
    Claim(
        "It works on other models: Mistral, Gemma, Llama 3",
        "Table 9: Llama-3-8B 80.3 to 71.2",
        trials.out_of_reach("one model is run here"),
    ),
)

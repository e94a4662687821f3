"""Bytes changed without regard to what they mean."""

from random import Random


def mutated(data: bytes, rng: Random) -> bytes:
    """`data` after one to three changes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randint(0, len(changed))
        match rng.choice(("bit", "byte", "insert", "drop", "cut", "repeat")):
            case "bit" if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case "byte" if at < len(changed):
                changed[at] = rng.randrange(256)
            case "insert":
                changed[at:at] = rng.randbytes(rng.randint(1, 9))
            case "drop":
                del changed[at : at + rng.randint(1, 9)]
            case "cut":
                del changed[at:]
            case "repeat":
                changed[at:at] = changed[at : at + rng.randint(1, 40)]
    return bytes(changed)


def spliced(first: bytes, second: bytes, rng: Random) -> bytes:
    """The beginning of one and the end of the other."""
    return first[: rng.randint(0, len(first))] + second[rng.randint(0, len(second)) :]

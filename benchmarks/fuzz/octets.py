"""Bytes changed without regard to what they mean."""

from random import Random


def mutated(data: bytes, drawn: Random) -> bytes:
    """`data` after one to three changes."""
    changed = bytearray(data)
    for _ in range(drawn.choice((1, 1, 2, 3))):
        at = drawn.randint(0, len(changed))
        match drawn.choice(("bit", "byte", "insert", "drop", "cut", "repeat")):
            case "bit" if at < len(changed):
                changed[at] ^= 1 << drawn.randrange(8)
            case "byte" if at < len(changed):
                changed[at] = drawn.randrange(256)
            case "insert":
                changed[at:at] = drawn.randbytes(drawn.randint(1, 9))
            case "drop":
                del changed[at : at + drawn.randint(1, 9)]
            case "cut":
                del changed[at:]
            case "repeat":
                changed[at:at] = changed[at : at + drawn.randint(1, 40)]
    return bytes(changed)


def spliced(first: bytes, second: bytes, drawn: Random) -> bytes:
    """The beginning of one and the end of the other."""
    return first[: drawn.randint(0, len(first))] + second[drawn.randint(0, len(second)) :]

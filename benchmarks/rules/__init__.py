"""How well the embedded rules agree with people: refusals, and answers that are no answers."""

"""Degenerate answers, and unusual answers that are not degenerate."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.evaluation.degenerate import is_degenerate, is_word_salad, unusual_letter_share, word_order_score
from benchmarks.rules.corruptions import CORRUPTIONS
from scripts.demo_adapters.texts import REFUSALS

ANSWERS = [
    "A good stew needs time. Brown the meat, soften the onions, add stock and let it cook for two hours. Then "
    "taste it, "
    "and if it is too thin, take off the lid and let some of the water go before you serve it with fresh bread.",
    "To repot a plant, choose a pot that is a little wider than the old one. Put a layer of soil on the bottom, loosen "
    "the roots with your fingers, set the plant in the middle and fill the gap. Water it well and keep it in "
    "the shade.",
    "I went to the market this morning because we had run out of fruit. The woman at the corner stall told me that her "
    "apples were from last year, so I bought plums instead, and on my way home I met an old friend of my father.",
    "There are several ways to learn the names of the stars. You can buy a map of the sky, or you can ask somebody who "
    "knows them to go out with you on a clear night, and that is what I would do if I were you.",
]
SOUND = {
    "word": "positive",
    "label": "billing",
    "number": "42",
    "long number": "1000000000000000000000000000",
    "sum": "3 + 4 = 7, so 7 * 12 = <<7*12=84>>84.\n#### 84",
    "emoji": "\U0001f44d",
    "with emoji": "Congratulations \U0001f389\U0001f389\U0001f389! I am so happy for you \U0001f60a",
    "laughter": "Hahahahaha, that is a good one! Shall I tell you another?",
    "question": "Why would you want to do that?",
    "casual": "hi. i am fine, thanks. how are you. not much going on here. we are going to the beach on sunday.",
    "list": "1. Open the window.\n2. Water the plants.\n3. Close the window again when it gets cold in the evening.",
    "shopping": "apples, bananas, pears, oranges, grapes, lemons, limes, peaches, plums, cherries, berries, melons, "
    "mangoes, figs, dates, nuts, seeds, grains, beans, lentils, onions, carrots",
    "table": "| name | price |\n|------|-------|\n| plum | 3 |\n| pear | 4 |\n----------------------------\nsum 7",
    "ruled title": "The three steps of a repair\n---------------------------\nFind it. Mend it. Try it again.",
    "form": "Name: ____________________ , and the day on which you want to come.",
    "Python": "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n"
    "    return total / len(values)\n\nprint(mean([1, 2, 3]))",
    "C": '#include <stdio.h>\nint main(void) {\n  for (int i = 0; i < 10; i++) {\n    printf("%d\\n", i * i);\n  }\n}',
    "SQL": "SELECT name, count(*) FROM orders JOIN users ON users.id = orders.user_id GROUP BY name ORDER BY 2 DESC;",
    "address": "See https://example.org/2024/a-long-path/with-many-parts/and-a-file-name-that-does-not-end.html "
    "for more.",
    "chorus": "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but "
    "a dream.",
    "German": "Um einen guten Kuchen zu backen, brauchst du zuerst Mehl, Zucker, Eier und etwas Butter. Danach "
    "rührst du "
    "alles langsam zusammen und schiebst den Teig für eine Stunde in den Ofen.",
    "German, ASCII": "Heute regnet es, deshalb bleiben wir im Haus und lesen. Morgen wird das Wetter besser, "
    "und wir gehen "
    "mit den Kindern und dem Hund am Strand spazieren.",
    "Polish": "Aby upiec dobre ciasto, potrzebujesz najpierw mąki, cukru, jajek i trochę masła. W Szczebrzeszynie "
    "chrząszcz brzmi w trzcinie, a przechodnie słuchają.",
    "Turkish": "İyi bir kek yapmak için önce un, şeker, yumurta ve biraz tereyağı gerekir. Sonra her şeyi "
    "karıştırırsınız.",
    "Swahili": "Leo mvua inanyesha, kwa hiyo tutakaa nyumbani na kusoma vitabu. Kesho hali ya hewa itakuwa "
    "nzuri zaidi, "
    "na tutatembea ufukweni pamoja na watoto na mbwa wetu mdogo.",
    "Indonesian": "Untuk membuat kue yang enak, pertama-tama Anda membutuhkan tepung, gula, telur, dan sedikit "
    "mentega. "
    "Kemudian aduk semuanya perlahan-lahan dan masukkan adonan ke dalam oven selama satu jam.",
    "Chinese": "\u4eca\u5929\u4e0b\u96e8\uff0c\u6240\u4ee5\u6211\u4eec\u7559\u5728\u5bb6\u91cc\u770b\u4e66\u3002"
    "\u660e\u5929\u5929\u6c14\u4f1a\u66f4\u597d\uff0c\u6211\u4eec\u4f1a\u5e26\u5b69\u5b50\u548c\u72d7\u53bb\u6d77\u8fb9"
    "\u6563\u6b65\u3002",
    "Japanese": "\u4eca\u65e5\u306f\u96e8\u304c\u964d\u3063\u3066\u3044\u308b\u306e\u3067\u3001\u5bb6\u3067\u672c\u3092"
    "\u8aad\u307f\u307e\u3059\u3002\u660e\u65e5\u306f\u5929\u6c17\u304c\u826f\u304f\u306a\u308b\u3067\u3057"
    "\u3087\u3046\u3002",
    "Korean": "\uc624\ub298\uc740 \ube44\uac00 \uc640\uc11c \uc9d1\uc5d0\uc11c \ucc45\uc744 \uc77d\uc2b5\ub2c8\ub2e4. "
    "\ub0b4\uc77c\uc740 \ub0a0\uc528\uac00 \ub354 \uc88b\uc744 \uac83\uc785\ub2c8\ub2e4.",
    "Arabic": "\u0627\u0644\u064a\u0648\u0645 \u062a\u0645\u0637\u0631\u060c \u0644\u0630\u0644\u0643 \u0633"
    "\u0646\u0628"
    "\u0642\u0649 \u0641\u064a \u0627\u0644\u0628\u064a\u062a \u0648\u0646\u0642\u0631\u0623 \u0627\u0644\u0643\u062a"
    "\u0628.",
    "Hindi": "\u0906\u091c \u092c\u093e\u0930\u093f\u0936 \u0939\u094b \u0930\u0939\u0940 \u0939\u0948, \u0907\u0938"
    "\u0932\u093f\u090f \u0939\u092e \u0918\u0930 \u092a\u0930 \u0930\u0939\u0947\u0902\u0917\u0947 \u0914\u0930 "
    "\u0915\u093f\u0924\u093e\u092c\u0947\u0902 \u092a\u0922\u093c\u0947\u0902\u0917\u0947\u0964",
    "Russian": "\u0421\u0435\u0433\u043e\u0434\u043d\u044f \u0438\u0434\u0451\u0442 \u0434\u043e\u0436\u0434\u044c, "
    "\u043f\u043e\u044d\u0442\u043e\u043c\u0443 \u043c\u044b \u043e\u0441\u0442\u0430\u043d\u0435\u043c\u0441\u044f "
    "\u0434\u043e\u043c\u0430 \u0438 \u0431\u0443\u0434\u0435\u043c \u0447\u0438\u0442\u0430\u0442\u044c.",
}
SCRIPTS = {
    "Cyrillic": ["\u043c\u043e\u0437\u0433\u0430", "\u043d\u043e\u0433\u043e", "\u0441\u043a\u0438\u0439"],
    "Devanagari": ["\u0939\u0948", "\u0914\u0930", "\u0928\u092e\u0938\u094d\u0924\u0947"],
    "Hangul": ["\uc801\uc6a9", "\ud55c\uad6d", "\ub2c8\ub2e4"],
    "Thai": ["\u0e16\u0e19\u0e19", "\u0e17\u0e35\u0e48", "\u0e01\u0e32\u0e23"],
    "Arabic": ["\u0648\u0642\u062f", "\u0647\u0630\u0627", "\u0645\u0631\u062d\u0628\u0627"],
    "Chinese": ["\u7684", "\u5b66\u6821", "\u51fa\u6f14"],
    "Latin": ["ing", "the", "raison", "ocean", "bytes"],
}
VOCABULARY = sorted({word for answer in ANSWERS for word in answer.split()})


@pytest.mark.parametrize("answer", [*ANSWERS, *REFUSALS])
def test_real_answers_are_not_degenerate(answer: str) -> None:
    assert not is_degenerate(answer)


@pytest.mark.parametrize("kind", SOUND)
def test_unusual_answers_are_not_degenerate(kind: str) -> None:
    assert not is_degenerate(SOUND[kind])


CERTAIN = [kind for kind in CORRUPTIONS if kind[0] != "scrambled"]
LIKELY = [("scrambled", kind) for kind in ("letters in each word", "all characters", "order of words")]


@pytest.mark.parametrize("kind", CERTAIN, ids=" ".join)
@given(answer=st.sampled_from(ANSWERS), seed=st.integers(0, 10_000))
def test_loops_and_empty_answers_are_degenerate(kind: tuple[str, str], answer: str, seed: int) -> None:
    assert is_degenerate(CORRUPTIONS[kind](answer, random.Random(seed), VOCABULARY))  # noqa: S311 - noise


@pytest.mark.parametrize("kind", LIKELY, ids=" ".join)
def test_most_scrambled_text_is_degenerate(kind: tuple[str, str]) -> None:
    broken = [
        CORRUPTIONS[kind](answer, random.Random(seed), VOCABULARY)  # noqa: S311 - noise
        for answer in ANSWERS
        for seed in range(25)
    ]
    assert sum(map(is_degenerate, broken)) >= 0.8 * len(broken)  # short words are the hardest case


@given(st.sampled_from([*ANSWERS, *REFUSALS]), st.integers(4, 40))
def test_repeated_answer_is_degenerate(answer: str, times: int) -> None:
    assert is_degenerate(" ".join([answer] * times))


@given(st.integers(0, 10_000))
def test_symbols_are_degenerate(seed: int) -> None:
    drawn = random.Random(seed)  # noqa: S311 - noise
    assert is_degenerate("".join(drawn.choice("{}[]()<>/\\|#@%^&*~=+;:") for _ in range(60)))


@given(st.sampled_from(["The", "1", "Sure, here"]), st.sampled_from("-=_.*#~"), st.integers(24, 400))
def test_endless_line_is_degenerate(word: str, character: str, times: int) -> None:
    assert is_degenerate(word + character * times)


@given(st.integers(0, 10_000))
def test_mixed_scripts_are_degenerate(seed: int) -> None:
    drawn = random.Random(seed)  # noqa: S311 - noise
    words = [drawn.choice(SCRIPTS[drawn.choice(list(SCRIPTS))]) for _ in range(60)]
    assert is_degenerate(" ".join(words))
    assert is_degenerate("".join(words))


@given(st.permutations(list(SCRIPTS)), st.sampled_from([", ", "\n", " / ", ": ", " (", '" "']))
def test_list_of_scripts_is_not_degenerate(order: list[str], between: str) -> None:
    listed = "".join(f"{SCRIPTS[name][-1]} is {name}{between}" for name in order)
    assert not is_degenerate(f"In other languages: {listed}")


@given(st.text(max_size=300))
def test_any_text_raises_nothing(answer: str) -> None:
    is_degenerate(answer)


@pytest.mark.parametrize("answer", ANSWERS)
def test_scores_separate_real_from_scrambled_text(answer: str) -> None:
    drawn = random.Random(0)  # noqa: S311 - noise
    letters = CORRUPTIONS["scrambled", "letters in each word"](answer, drawn, VOCABULARY)
    order = CORRUPTIONS["scrambled", "order of words"](answer, drawn, VOCABULARY)
    assert unusual_letter_share(letters) > 4 * unusual_letter_share(answer)
    assert word_order_score(order) < 0 < word_order_score(answer)


def test_word_salad_is_long_english_that_is_no_list() -> None:
    words = (
        "tents sleeping boots matches lanterns ropes knives plates quickly towels jackets gloves hidden maps whistles "
        "blankets painted bottles snacks batteries running nations"
    )
    assert is_word_salad(words)
    assert not is_word_salad(words.replace(" ", ", "))
    assert not is_word_salad(words + " of the and to")
    assert not is_word_salad(" ".join(words.split()[:10]))


@pytest.mark.parametrize("is_last", [False, True])
def test_loop_at_either_end_of_a_long_answer_is_found(is_last: bool) -> None:
    words = " ".join(f"w{number * 7919 % 100_003:x}" for number in range(8_000))
    loop = "and then " * 20
    assert is_degenerate(f"{words} {loop}" if is_last else f"{loop} {words}")


@pytest.mark.parametrize(
    "text",
    [
        "".join(str(bin(number).count("1") % 2) for number in range(100_000)),  # no part of it repeats three times
        " ".join(f"w{number * 7919 % 100_003:x}" for number in range(20_000)),
        "a" * 299 + "b" + "a" * 100_000,
        "\ufdfa" * 100_000,  # 18 characters when it is normalised
        "a' " * 33_000,
        "<|" + "a" * 100_000,
        "".join(random.Random(1).choices("abcdefghij klm", k=1_000_000)),  # noqa: S311 - long tokens
    ],
    ids=lambda text: repr(text[:12]),
)
def test_long_answer_is_checked_in_bounded_time(text: str) -> None:
    """As long as max_tokens allows."""
    started = time.process_time()
    is_degenerate(text)
    assert time.process_time() - started < 10

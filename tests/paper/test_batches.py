import torch

from benchmarks.paper.batches import IGNORED, LONGEST, LONGEST_PROMPT, batch_of, contrasted, examples, side_by_side
from benchmarks.paper.data import Contrast
from benchmarks.paper.records import Pair
from tests.paper import small


def test_rows_end_together_and_begin_with_padding() -> None:
    batch = small.batch()
    assert batch["attention_mask"][:, -1].all()
    assert (batch["attention_mask"].diff(dim=1) >= 0).all()
    assert (batch["input_ids"][batch["attention_mask"] == 0] == small.tokenizer().pad_token_id).all()


def test_labels_are_the_answer_and_its_end_alone() -> None:
    tokenizer, pair = small.tokenizer(), small.PAIRS[0]
    batch = batch_of(examples(tokenizer, small.PAIRS), tokenizer.pad_token_id)
    labelled = batch["labels"][0][batch["labels"][0] != IGNORED]
    assert tokenizer.decode(labelled) == pair.response + tokenizer.eos_token
    assert batch["labels"].shape[1] == batch["logits_to_keep"]


def test_the_prompt_is_in_the_models_own_template() -> None:
    tokenizer = small.tokenizer()
    (example,) = examples(tokenizer, small.PAIRS[:1])
    assert tokenizer.decode(example.prompt) == f"<|user|>{small.PAIRS[0].prompt}<|end|><|assistant|>"


def test_the_last_columns_give_the_loss_of_all() -> None:
    batch = small.batch()
    network = small.network()
    whole = torch.full_like(batch["input_ids"], IGNORED)
    whole[:, -batch["logits_to_keep"] :] = batch["labels"]
    plain = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=whole).loss
    assert torch.allclose(network(**batch).loss, plain)


def test_a_long_prompt_loses_its_beginning_and_a_long_answer_its_end() -> None:
    (example,) = examples(small.tokenizer(), [Pair("z" * 400 + "end", "x" * 400)])
    assert (len(example.prompt), len(example.prompt) + len(example.answer)) == (LONGEST_PROMPT, LONGEST)
    assert "end" in small.tokenizer().decode(example.prompt)
    assert example.answer[-1] != small.tokenizer().eos_token_id


def test_an_epoch_has_every_row_once_and_another_order_than_the_next() -> None:
    batches = small.batches()
    orders = [[row.tolist() for batch in batches.epoch(number) for row in batch["labels"]] for number in (0, 1)]
    assert len(list(batches.epoch(0))) == len(batches) == 2
    assert len(orders[0]) == len(small.PAIRS)
    assert orders[0] != orders[1]
    assert orders[0] == [row.tolist() for batch in batches.epoch(0) for row in batch["labels"]]


def test_two_answers_to_one_prompt_stand_in_the_same_columns() -> None:
    rows = [Contrast("what is tea?", "no", "a drink with milk"), Contrast("what is a hat or a cap?", "never ever", "x")]
    tokenizer = small.tokenizer()
    safe, harmful = side_by_side(contrasted(tokenizer, rows), tokenizer.pad_token_id)
    assert safe["input_ids"].shape == harmful["input_ids"].shape
    for row, (one, _) in enumerate(contrasted(tokenizer, rows)):
        start = int(safe["attention_mask"][row].argmax())
        prompt = slice(start, start + len(one.prompt))
        assert safe["input_ids"][row, prompt].tolist() == harmful["input_ids"][row, prompt].tolist() == one.prompt

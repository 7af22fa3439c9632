"""What is learnt of a dialogue, token by token; packing; noise."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zhen.checkpoint.load import load_model
from zhen.infer.template import ChatTemplate, load_template
from zhen.tokenizer.chat import CHATML
from zhen.tokenizer.load import Tokenizer, load_tokenizer
from zhen.train.loop import accumulate
from zhen.tune.examples import Example, batch_of, example_of, pair_of
from zhen.tune.losses import Answers, document_lengths, noisy_embeddings
from zhen.tune.packing import Plan, best_fit
from zhen.tune.readers import Dialogue

TURNS = [
    {"role": "system", "content": "Be short <|im_end|>"},
    {"role": "user", "content": "Where does Mara live?"},
    {"role": "assistant", "content": "In Orlin <|im_end|>!\n"},
    {"role": "user", "content": "托伦呢？"},
    {"role": "assistant", "content": "", "tool_calls": [{"name": "find", "arguments": {"who": "托伦"}}]},
    {"role": "tool", "content": "market"},
    {"role": "assistant", "content": "在市场。"},
]


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Tokenizer:
    return load_tokenizer(base)


@pytest.fixture(scope="module")
def template(base: Path) -> ChatTemplate:
    found = load_template(base, CHATML)
    assert found is not None
    return found


def learnt(example: Example, tokenizer: Tokenizer) -> list[str]:
    """The stretches that are learnt, each with `/` for the end of its turn."""
    stretches, inside = [], False
    for token, counts in zip(example.ids, example.learnt, strict=True):
        if counts and not inside:
            stretches.append([])
        if counts:
            stretches[-1].append(token)
        inside = counts
    return [tokenizer.decode(ids[:-1]) + ("/" if ids[-1] == 7 else "?") for ids in stretches]


def test_learnt_are_the_assistants_words_and_the_ends_of_its_turns(
    template: ChatTemplate, tokenizer: Tokenizer
) -> None:
    example = example_of(Dialogue(TURNS, []), template, tokenizer, 7, 1000)
    assert example is not None
    call = '<tool_call>\n{"name": "find", "arguments": {"who": "托伦"}}\n</tool_call>'
    assert learnt(example, tokenizer) == ["In Orlin <|im_end|>!\n/", f"{call}/", "在市场。/"]
    assert example.whole
    assert example.ids[-1] == 7


def test_targets_of_a_batch_are_what_is_learnt_and_nothing_else(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    example = example_of(Dialogue(TURNS, []), template, tokenizer, 7, 1000)
    assert example is not None
    batch = batch_of([[example, example]], 2 * example.length + 5, 2)
    expected = [token for token, counts in zip(example.ids, example.learnt, strict=True) if counts]
    assert batch.targets[batch.mask].tolist() == expected * 2
    assert batch.document_starts.nonzero()[:, 1].tolist() == [0, example.length, 2 * example.length]


def test_a_long_dialogue_keeps_the_turns_that_fit(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    whole = example_of(Dialogue(TURNS, []), template, tokenizer, 7, 1000)
    first = example_of(Dialogue(TURNS[:3], []), template, tokenizer, 7, 1000)
    assert whole is not None
    assert first is not None
    cut = example_of(Dialogue(TURNS, []), template, tokenizer, 7, first.length)
    assert cut == first._replace(whole=False)
    assert example_of(Dialogue(TURNS, []), template, tokenizer, 7, first.length - 1) is None
    assert example_of(Dialogue(TURNS, []), template, tokenizer, 7, whole.length) == whole


def test_of_a_pair_only_the_last_answers_count(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    pair = pair_of(Dialogue(TURNS, [], {"role": "assistant", "content": "No."}), template, tokenizer, 7, 1000)
    assert pair is not None
    assert [learnt(side, tokenizer) for side in pair] == [["在市场。/"], ["No./"]]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(40, 90))
def test_packing_holds_each_once_and_overfills_none(lengths: list[int], room: int) -> None:
    rows = best_fit(lengths, room)
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    assert max(sum(lengths[place] for place in row) for row in rows) <= room
    assert sum(2 * sum(lengths[place] for place in row) <= room for row in rows) <= 1


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30), st.integers(0, 9), st.booleans())
def test_every_epoch_has_every_dialogue_once(lengths: list[int], seed: int, packed: bool) -> None:
    plan, size = Plan(lengths, 20, seed, packed), Plan(lengths, 20, seed, packed).rows_an_epoch
    for epoch in (2, 0):
        rows = plan.rows(epoch * size, (epoch + 1) * size)
        assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    assert plan.rows(1, 3 * size)[size - 1 :] == [*Plan(lengths, 20, seed, packed).rows(size, 3 * size)]


def examples(count: int) -> list[Example]:
    chosen = random.Random(4)
    made = []
    for _ in range(count):
        size = chosen.randint(4, 20)
        ids = [chosen.randrange(9, 400) for _ in range(size)]
        made.append(Example(ids, [chosen.random() < 0.5 for _ in ids[:-1]] + [True], True))
    return made


def test_packed_dialogues_have_the_loss_of_dialogues_alone(base: Path) -> None:
    model, some = load_model(base, torch.float32), examples(9)
    packed = [[some[place] for place in row] for row in best_fit([one.length for one in some], 64)]
    assert len(packed) < 5
    found = [
        accumulate(model, batch_of(rows, 64, 2), micro_batch=size, dtype=torch.float32, loss=Answers(0.0))
        for rows, size in ((packed, None), ([[one] for one in some], 2))
    ]
    torch.testing.assert_close(*(loss for loss, _ in found))
    assert found[0][1] == found[1][1] == sum(sum(one.learnt[1:]) for one in some)


def test_noise_is_bounded_by_the_length_of_each_dialogue_alone(base: Path) -> None:
    model, some = load_model(base, torch.float32), examples(3)
    batch = batch_of([some], sum(one.length for one in some), 2)
    lengths = [one.length for one in some for _ in range(one.length)]
    assert document_lengths(batch.document_starts)[0].tolist() == lengths
    clean = model.model.embed_tokens(batch.tokens)
    with noisy_embeddings(model, batch.document_starts, 5.0):
        noise = (model.model.embed_tokens(batch.tokens) - clean)[0]
    bounds = 5.0 / (torch.tensor(lengths) * clean.shape[-1]).sqrt()
    assert (noise.abs() <= bounds[:, None] * 1.0001).all()
    assert (noise.abs().max(dim=1).values > bounds / 2).all()
    assert torch.equal(model.model.embed_tokens(batch.tokens), clean)

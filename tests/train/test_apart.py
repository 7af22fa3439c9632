"""Documents packed into one row: each is seen as if it were alone."""

from __future__ import annotations

import msgspec
import pytest
import torch

from zhen.model.attention import attend, blocks_apart, mask_apart
from zhen.model.config import PRESETS
from zhen.model.transformer import Transformer, initialise
from zhen.train.batch import Batch
from zhen.train.loop import CrossEntropy, accumulate


@pytest.fixture(scope="module")
def model() -> Transformer:
    made = Transformer(msgspec.structs.replace(PRESETS["micro"], vocab_size=300))
    initialise(made, 5)
    return made


def batch(documents: list[torch.Tensor], rows: list[list[int]], length: int) -> Batch:
    made = Batch(
        torch.zeros(len(rows), length, dtype=torch.int64),
        torch.zeros(len(rows), length, dtype=torch.int64),
        torch.zeros(len(rows), length, dtype=torch.bool),
        torch.zeros(len(rows), length, dtype=torch.bool),
    )
    for row, members in enumerate(rows):
        at = 0
        for member in members:
            ids = documents[member]
            place = slice(at, at + len(ids) - 1)
            made.tokens[row, place], made.targets[row, place] = ids[:-1], ids[1:]
            made.mask[row, place], made.document_starts[row, at] = True, True
            at = place.stop
        if at < length:
            made.document_starts[row, at] = True
    return made


DOCUMENTS = [torch.randint(0, 300, (n,), generator=torch.Generator().manual_seed(n)) for n in (9, 21, 30, 14)]


def test_packed_rows_have_the_loss_and_gradient_of_rows_of_their_own(model: Transformer) -> None:
    found = []
    for rows in ([[0, 1], [2, 3]], [[3, 0, 1], [2]], [[0], [1], [2], [3]]):
        model.zero_grad()
        loss, units = accumulate(
            model, batch(DOCUMENTS, rows, 48), micro_batch=1, dtype=torch.float32, loss=CrossEntropy(apart=True)
        )
        gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])  # type: ignore[union-attr]
        found.append((loss, gradient))
        assert units == 8 + 20 + 29 + 13
    for loss, gradient in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-4, atol=1e-6)


def test_a_document_alone_is_seen_as_without_marks(model: Transformer) -> None:
    tokens = DOCUMENTS[2][None]
    starts = torch.zeros_like(tokens, dtype=torch.bool)
    starts[0, 0] = True
    torch.testing.assert_close(model(tokens, document_starts=starts), model(tokens))


def test_no_gradient_reaches_another_document(model: Transformer) -> None:
    made, seen = batch(DOCUMENTS, [[0, 1]], 32), []
    handle = model.model.embed_tokens.register_forward_hook(lambda _module, _given, out: seen.append(out) or out)
    logits = model(made.tokens, document_starts=made.document_starts)
    handle.remove()
    seen[0].retain_grad()
    logits[0, 8:28].sum().backward()
    assert seen[0].grad[0, :8].abs().max() == 0
    assert seen[0].grad[0, 8:28].abs().min(dim=1).values.max() > 0


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # which only a GPU needs
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("length", [48, 700])  # less than a block, and several
def test_blocks_let_look_where_the_mask_does(groups: int, length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    starts = torch.rand(3, length, generator=generator) < 0.04
    starts[:, 0] = True
    begins = torch.where(starts, torch.arange(length), 0).cummax(1).values
    blocks = blocks_apart(begins)
    shapes = ((3, 4, length, 16), (3, 4 // groups, length, 16), (3, 4 // groups, length, 16))
    given = [torch.randn(shape, generator=generator) for shape in shapes]  # its backward is for GPUs only
    by_blocks, dense = (attend(*given, mask, causal=False) for mask in (blocks, mask_apart(begins)))
    torch.testing.assert_close(by_blocks, dense)
    assert blocks.shape == (3, 1, length, length)
    assert length == 48 or blocks.sparsity() > 50  # above the diagonal, and documents before

"""Documents packed into one row: each is seen as if it were alone."""

from __future__ import annotations

import msgspec
import pytest
import torch

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

"""Training checkpoints: what comes back is what was saved; damage is found, named, and one goes back by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from zhen.errors import ZhenError
from zhen.train import steps as steps_module
from zhen.train.steps import Steps


def steps_in(folder: Path, recipe: str = "r", every: int = 10) -> Steps:
    return Steps(folder, recipe=recipe, scheduled=lambda step: step % every == 0, keep=[20])


def saved(folder: Path, *numbers: int) -> Steps:
    """Checkpoints at these steps; the weight of step n is full of n."""
    steps = steps_in(folder)
    for number in numbers:
        tensors = {"model.w": torch.full((3, 4), float(number)), "optimizer.step.w": torch.tensor(float(number))}
        steps.save(number, tensors, {"step": number, "samples": ["真"]})
    steps.wait()
    return steps


def never(folder: Path, error: ZhenError) -> None:
    raise AssertionError(folder, error)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    saved(tmp_path, 0, 10)
    found = steps_in(tmp_path).newest(never)
    assert (found.step, found.state) == (10, {"step": 10, "samples": ["真"]})
    assert torch.equal(found.tensors["model.w"], torch.full((3, 4), 10.0))
    assert found.tensors["optimizer.step.w"].shape == ()


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert steps_in(tmp_path / "none").newest(never) is None


def test_step_0_the_newest_two_and_those_to_keep_stay(tmp_path: Path) -> None:
    saved(tmp_path, 0, 10, 20, 30, 40, 50)
    assert names(tmp_path) == ["step-000000", "step-000020", "step-000040", "step-000050"]


def test_one_made_by_a_stop_stays_until_the_next(tmp_path: Path) -> None:
    steps = saved(tmp_path, 0, 30, 40, 44)
    assert names(tmp_path) == ["step-000000", "step-000030", "step-000040", "step-000044"]
    steps.save(50, {"model.w": torch.zeros(1)}, {})
    steps.wait()
    assert names(tmp_path) == ["step-000000", "step-000040", "step-000050"]


def test_a_save_holds_the_values_of_its_moment(tmp_path: Path) -> None:
    steps, weight = steps_in(tmp_path), torch.zeros(1_000_000)
    steps.save(10, {"model.w": weight}, {})
    weight.fill_(7.0)
    steps.wait()
    assert not steps_in(tmp_path).newest(never).tensors["model.w"].any()


def test_what_goes_wrong_while_writing_is_raised_by_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ZhenError("could not be written: No space left on device", file="rank-00000.safetensors")

    monkeypatch.setattr(steps_module, "write_safetensors", full)
    steps = steps_in(tmp_path)
    steps.save(10, {"model.w": torch.zeros(1)}, {})
    with pytest.raises(ZhenError, match="No space left"):
        steps.wait()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 0x01
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
@pytest.mark.parametrize("file", ["rank-00000.safetensors", "state.json", "manifest.json"])
def test_damage_of_any_kind_to_any_file_goes_back_by_one(
    tmp_path: Path, file: str, damage: Callable[[Path], None]
) -> None:
    saved(tmp_path, 0, 10, 20)
    damage(tmp_path / "step-000020" / file)
    said: list[tuple[str, str]] = []
    found = steps_in(tmp_path).newest(lambda folder, error: said.append((folder.name, error.text())))
    assert found.step == 10
    assert [name for name, _ in said] == ["step-000020"]
    assert file in said[0][1]
    assert names(tmp_path) == ["step-000000", "step-000010"]


def test_a_flipped_bit_of_a_manifest_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    saved(tmp_path, 0)
    path = tmp_path / "step-000000" / "manifest.json"
    content, whole = path.read_bytes(), steps_module._manifest(path.parent)
    for at in range(0, len(content), 11):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with contextlib.suppress(ZhenError):
            assert steps_module._manifest(path.parent) == whole


def test_with_all_damaged_there_is_none(tmp_path: Path) -> None:
    saved(tmp_path, 0, 10)
    for folder in tmp_path.iterdir():
        flip(folder / "rank-00000.safetensors")
    said: list[str] = []
    assert steps_in(tmp_path).newest(lambda folder, error: said.append(folder.name)) is None
    assert said == ["step-000010", "step-000000"]


@pytest.mark.parametrize("file", ["rank-00000.safetensors", "manifest.json"])
def test_what_may_not_be_read_is_said_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    saved(tmp_path, 0, 10)
    opened = Path.open

    def refusing(path: Path, *arguments: object, **named: object) -> object:
        if path.name == file:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(ZhenError, match=f"step-000010/{file}: can't be read: Permission denied"):
        steps_in(tmp_path).newest(never)
    assert names(tmp_path) == ["step-000000", "step-000010"]


def test_one_under_another_name_is_not_taken(tmp_path: Path) -> None:
    saved(tmp_path, 0, 10)
    (tmp_path / "step-000010").rename(tmp_path / "step-000090")
    assert steps_in(tmp_path).newest(lambda folder, error: None).step == 0


def test_one_of_another_recipe_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, 0, 10)
    with pytest.raises(ZhenError, match="was made by recipe r; expected recipe other"):
        steps_in(tmp_path, recipe="other").newest(never)
    assert names(tmp_path) == ["step-000000", "step-000010"]


def test_outputs_are_all_files_with_the_digests_of_writing(tmp_path: Path) -> None:
    steps = saved(tmp_path, 0, 10)
    flip(tmp_path / "step-000010" / "state.json")
    declared = {str(path.relative_to(tmp_path)): digest for path, digest in steps.outputs()}
    assert len(declared) == 6
    assert declared["step-000010/state.json"].bytes == (tmp_path / "step-000010" / "state.json").stat().st_size


def test_equal_states_give_equal_bytes(tmp_path: Path) -> None:
    for place in ("a", "b"):
        saved(tmp_path / place, 0, 10)
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()

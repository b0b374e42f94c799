"""Images that cannot be read, labels of no class, sets that shrink: the error names the fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nni.nas.evaluator.pytorch import DataLoader
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset
from torchvision.datasets import ImageFolder

from nas_ext.strategies import MCTS

Make = Callable[..., Any]


def numbers(image: Image.Image) -> Tensor:
    """The six numbers of an image of one by two pixels."""
    return torch.from_numpy(np.asarray(image).copy()).flatten().float() / 255


def folder(root: Path, *, each: int = 8) -> ImageFolder:
    """Three classes of images of one by two pixels."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(256, size=(1, 2, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return ImageFolder(root, transform=numbers)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", ["damaged", "gone"])
def test_a_file_that_cannot_be_read_any_more_is_named(
    fault: str, workers: int, search: Make, tmp_path: Path
) -> None:
    images = folder(tmp_path)
    bad = tmp_path / "b" / "5.png"
    if fault == "damaged":
        bad.write_bytes(b"no image any more")
    else:
        bad.unlink()
    made = MCTS()
    with pytest.raises(OSError, match=r"5\.png") as caught:
        search(made, train=DataLoader(images, batch_size=8, num_workers=workers))
    assert str(bad) in str(caught.value)
    module: Any = made.oneshot_module
    assert module.search.step == 1  # 13 is in the second batch of eight


def test_labels_of_no_class_are_named_with_the_classes(search: Make) -> None:
    inputs, labels = torch.randn(16, 6), torch.arange(16) % 4
    wrong = DataLoader(TensorDataset(inputs, labels), batch_size=8)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\).*got 3"):
        search(MCTS(), val=wrong)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\).*got 3"):
        search(MCTS(), train=wrong)


def test_a_validation_set_without_a_batch_ends_the_search_before_its_first_step(
    search: Make,
) -> None:
    empty = TensorDataset(torch.empty(0, 6), torch.empty(0, dtype=torch.long))
    made = MCTS()
    with pytest.raises(ValueError, match="validation set must fill at least one batch"):
        search(made, val=DataLoader(empty, batch_size=8))
    assert made.oneshot_module.trainer.global_step == 0


class Shrinking(TensorDataset):
    """Rows that are fewer than the set says, from its second time on."""

    seen = 0

    def __getitem__(self, index: Any) -> Any:
        if index >= 8 and self.seen >= 40:
            raise IndexError(f"row {index} is gone")
        self.seen += 1
        return super().__getitem__(index)  # type: ignore[no-untyped-call]  # torch's


def test_a_set_that_shrinks_while_it_is_read_ends_the_search(search: Make) -> None:
    rows = Shrinking(torch.randn(40, 6), torch.arange(40) % 3)
    with pytest.raises(IndexError, match="row 8 is gone"):
        search(MCTS(), train=DataLoader(rows, batch_size=8), max_epochs=4)

"""Segmentation for NNI's evaluator: the loss, the mean intersection over union, the reward."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_ext.oneshot import logged
from nas_ext.segmentation import IGNORE_INDEX, Segmentation, intersection_over_union, mean_iou


class Given(Segmentation):
    """A module whose logits are its inputs."""

    def forward(self, images: Tensor) -> Any:
        return images


def logits_of(classes: Tensor, num_classes: int) -> Tensor:
    return nn.functional.one_hot(classes, num_classes).movedim(-1, 1).float()


# Two images of 2x2 pixels. By hand, without the ignored one: class 0 is met at 2 of the 3 pixels
# that have or get it, class 1 at 2 of 4, class 2 at 1 of 2; class 3 is in neither.
LABELS = torch.tensor([[[0, 0], [1, 2]], [[0, 1], [1, IGNORE_INDEX]]])
FOUND = torch.tensor([[[0, 1], [1, 2]], [[0, 1], [2, 3]]])
SHARES = [2 / 3, 2 / 4, 1 / 2]


def test_shares_are_those_counted_by_hand() -> None:
    shares = intersection_over_union(FOUND, LABELS, num_classes=4)
    assert shares[:3].tolist() == pytest.approx(SHARES)
    assert math.isnan(shares[3])


def test_shares_are_those_of_sets_of_pixels() -> None:
    rng = np.random.default_rng(0)
    labels, found = rng.integers(0, 5, (2, 3, 8, 8))
    labels[0, :2] = 7
    shares = intersection_over_union(
        torch.from_numpy(found), torch.from_numpy(labels), num_classes=5, ignore_index=7
    )
    for kind in range(5):
        truth, here = (labels == kind), (found == kind) & (labels != 7)
        assert shares[kind] == pytest.approx((truth & here).sum() / (truth | here).sum())


def test_the_reward_leaves_out_classes_that_neither_has() -> None:
    batch = (logits_of(FOUND, 4), LABELS)
    assert mean_iou(Given(), batch) == pytest.approx(np.mean(SHARES))
    assert mean_iou(Given(), [*batch, "more"]) == pytest.approx(np.mean(SHARES))
    # a class that is only found counts with 0
    found = FOUND.clone()
    found[0, 0, 0] = 3
    expected = np.mean([1 / 3, 2 / 4, 1 / 2, 0.0])
    assert mean_iou(Given(), (logits_of(found, 4), LABELS)) == pytest.approx(expected)


def test_the_reward_is_one_for_the_labels_and_zero_for_none_of_them() -> None:
    labels = torch.tensor([[[0, 1], [2, 2]]])
    assert mean_iou(Given(), (logits_of(labels, 3), labels)) == 1.0
    assert mean_iou(Given(), (logits_of((labels + 1) % 3, 3), labels)) == 0.0


def test_another_ignored_label_can_be_set() -> None:
    labels = torch.where(LABELS == IGNORE_INDEX, -1, LABELS)
    reward = partial(mean_iou, ignore_index=-1)
    assert reward(Given(), (logits_of(FOUND, 4), labels)) == pytest.approx(np.mean(SHARES))
    module = Given(ignore_index=-1)
    batch = (logits_of(FOUND, 4), labels)
    assert logged("val_miou")(module, batch) == pytest.approx(np.mean(SHARES))


def test_the_logged_metric_is_the_reward() -> None:
    batch = (logits_of(FOUND, 4), LABELS)
    assert logged("val_miou")(Given(), batch) == pytest.approx(mean_iou(Given(), batch))


def test_the_loss_is_the_mean_over_the_pixels_that_count() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 2, 2, generator=generator)
    probabilities = logits.softmax(1)
    losses = [
        -math.log(probabilities[s, LABELS[s, i, j], i, j])
        for s in range(2)
        for i in range(2)
        for j in range(2)
        if LABELS[s, i, j] != IGNORE_INDEX
    ]
    assert len(losses) == 7
    found = Given().training_step((logits, LABELS), 0)
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-6)


def test_a_batch_of_ignored_pixels_has_no_loss_and_no_reward() -> None:
    logits = torch.zeros(1, 2, 2, 2, requires_grad=True)
    labels = torch.full((1, 2, 2), IGNORE_INDEX)
    loss: Any = Given().training_step((logits, labels), 0)
    loss.backward()
    assert logits.grad is not None
    assert loss == 0
    assert not logits.grad.any()
    with pytest.raises(ValueError, match="labels must have a pixel that is not 255"):
        mean_iou(Given(), (logits, labels))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (LABELS, r"batch must be \(images, labels\) for the mean IoU, got Tensor"),
        ({"x": LABELS}, "got dict"),
        ([LABELS], "got list"),
        ((torch.zeros(2, 4), torch.zeros(2).long()), r"got \[2, 4\] for \[2\]"),
        ((torch.zeros(2, 4, 1, 2), LABELS), r"got \[2, 4, 1, 2\] for \[2, 2, 2\]"),
        (({"out": LABELS}, LABELS), r"got dict for \[2, 2, 2\]"),
        ((torch.zeros(2, 2, 2, 2), LABELS), r"labels must lie in \[0, 2\) or be 255, got 2"),
        ((torch.zeros(2, 4, 2, 2), LABELS - 1), r"labels must lie in \[0, 4\) or be 255, got -1"),
    ],
)
def test_what_is_no_segmentation_is_named(batch: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_iou(Given(), batch)


def test_training_on_the_labels_of_whole_images_is_named() -> None:
    with pytest.raises(ValueError, match=r"must return \[S, C, H, W\] for labels \[S, H, W\]"):
        Given().training_step((torch.zeros(2, 4, 2, 2), torch.zeros(2).long()), 0)


def test_predictions_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels' shape \[2, 2, 2\], got \[2, 2\]"):
        intersection_over_union(FOUND[0], LABELS, num_classes=4)


def test_the_defaults_are_the_published_ones() -> None:
    # section 6.6 of the specification: learning rate .025, weight decay 3e-4
    module = Segmentation()
    assert (module.learning_rate, module.weight_decay) == (0.025, 3e-4)

"""Batches of normalised images, cut out of memory a whole batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from nas_ext.data.images import ImageData, Images
from nas_ext.field_types import check_fields

WRITTEN = ("digits", "mnist", "qmnist", "kmnist", "emnist", "usps", "svhn")
"""Names of data sets whose images mean something else in a mirror."""


@dataclass(frozen=True)
class Augmentation:
    """Say how training images are varied.

    Each is moved by up to `crop_padding` pixels in both directions, zeros (black) filling in,
    and with `flip` mirrored left to right half of the time.
    """

    crop_padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding must not be negative, got {self.crop_padding}")


def default_augmentation(data: ImageData) -> Augmentation:
    """Return the usual variation: moves by an eighth of the shorter side, and mirror images.

    On 32x32 pixels these are the thesis's 4 (section 2.4). Digits and letters are not mirrored.
    """
    padding = round(min(data.image_size) / 8)
    return Augmentation(crop_padding=padding, flip=data.name not in WRITTEN)


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Serve whole batches: index it with a list of positions.

    Gives `[B, C, H, W]` float32, normalised with `data`'s mean and standard deviation, and
    labels `[B]`. The augmentation draws from `generator`, and so moves it. `vary` comes after it:
    uint8 pixels in, uint8 pixels of the same shape out.
    """

    def __init__(
        self,
        images: Images,
        data: ImageData,
        *,
        augmentation: Augmentation | None = None,
        generator: torch.Generator | None = None,
        vary: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.images = images
        self.vary = vary
        self.augmentation = augmentation or Augmentation()
        self.generator = generator
        # (x / 255 - mean) / std as one multiplication and one addition
        std = torch.tensor(data.std, dtype=torch.float64)
        mean = torch.tensor(data.mean, dtype=torch.float64)
        self._scale = (1 / (255 * std)).float()[:, None, None]
        self._shift = (-mean / std).float()[:, None, None]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        batch = torch.as_tensor(indices)
        pixels = self._augmented(self.images.pixels[batch])
        if self.vary is not None:
            pixels = self.vary(pixels)
        return pixels.float().mul_(self._scale).add_(self._shift), self.images.labels[batch]

    def _augmented(self, pixels: Tensor) -> Tensor:
        count, channels, height, width = pixels.shape
        padding = self.augmentation.crop_padding
        rows = torch.arange(height).expand(count, -1)
        columns = torch.arange(width).expand(count, -1)
        if padding:
            shift = torch.randint(2 * padding + 1, (2, count, 1), generator=self.generator)
            rows, columns = rows + shift[0], columns + shift[1]
            pixels = torch.nn.functional.pad(pixels, (padding,) * 4)
        if self.augmentation.flip:
            mirrored = torch.randint(2, (count, 1), generator=self.generator).bool()
            columns = torch.where(mirrored, columns.flip(1), columns)
        if not padding and not self.augmentation.flip:
            return pixels
        # one gather from flat planes: several times faster than indexing with four tensors
        places = rows[:, :, None] * pixels.shape[3] + columns[:, None, :]
        places = places.view(count, 1, -1).expand(-1, channels, -1)
        return pixels.flatten(2).gather(2, places).view(count, channels, height, width)


class _Shares(BatchSampler):
    """Give one of several processes its share of each of the batches that all draw alike."""

    def __init__(
        self,
        order: RandomSampler | SequentialSampler,
        size: int,
        drops: bool,
        share: tuple[int, int],
    ) -> None:
        super().__init__(order, size, drops)
        self._share = share

    def __iter__(self) -> Iterator[list[int]]:
        rank, count = self._share
        for batch in super().__iter__():
            yield batch[rank::count]


def loader(
    images: Images,
    data: ImageData,
    *,
    batch_size: int,
    train: bool,
    seed: int = 0,
    drop_last: bool | None = None,
    augmentation: Augmentation | None = None,
    vary: Callable[[Tensor], Tensor] | None = None,
    share: tuple[int, int] = (0, 1),
    moves: torch.Generator | None = None,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return a loader of normalised batches: float32 `[B, C, H, W]` and int64 `[B]`.

    For training: shuffled anew each epoch, augmented (`default_augmentation` unless told
    otherwise, then `vary`), the last incomplete batch dropped. Shuffle and augmentation draw from
    one generator, started from `seed` and kept as the loader's `generator`. Otherwise: in order,
    as they are, all of them. `drop_last` overrides either rule.

    One of several processes that train together gets its `share` (which, of how many) of every
    batch, and its augmentation may draw from a generator `moves` of its own.

    Raises ValueError when there is no image, or dropping leaves no batch.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    drops = train if drop_last is None else drop_last
    if len(images) < (batch_size if drops else 1):
        kind = "training images" if train else "images"
        raise ValueError(
            f"batch_size must be at most the number of {kind} {len(images)}, got {batch_size}"
        )
    for name, value in (("augmentation", augmentation), ("vary", vary)):
        if not train and value is not None:
            raise ValueError(f"{name} must be None for evaluation")
    # an evaluation loader has one too: iterating draws a number, by default the global one's
    generator = torch.Generator().manual_seed(seed)
    if train:
        augmentation = default_augmentation(data) if augmentation is None else augmentation
    draws = generator if moves is None else moves
    dataset = Batches(images, data, augmentation=augmentation, generator=draws, vary=vary)
    order = RandomSampler(images, generator=generator) if train else SequentialSampler(images)
    batches = BatchSampler(order, batch_size, drops)
    if share != (0, 1):
        batches = _Shares(order, batch_size, drops, share)
    return DataLoader(
        dataset,
        sampler=batches,
        batch_size=None,  # the sampler's lists go to the data set whole
        generator=generator,
    )

"""What a confirmation found: recipes of one or several networks, trained with several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_ext.compare import Difference, Interval, difference, mean_interval
from nas_ext.field_types import check_fields
from nas_ext.files import check_format, read_json
from nas_ext.retrain.recipe import Recipe

FILE = "confirm.json"
FORMAT = "nas-ext/confirm-1"


@dataclass(frozen=True, kw_only=True)
class ConfirmedRecipe:
    """Hold one recipe of one network, and its validation accuracy (a share) with each seed.

    `tuned` is the accuracy of the study's one training, by which it was picked; `first` says that
    the recipe was enqueued first, in a study of `nas_ext.retrain` the published one.
    """

    network: str
    trial: int
    recipe: Recipe
    tuned: float | None
    first: bool
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Return the mean over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def interval(self) -> Interval | None:
        """Return the mean's 95 % interval by Student's t, None for a single seed."""
        return mean_interval(self.accuracies) if len(self.accuracies) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """Hold the recipes of all networks, the best mean first.

    All were trained with the same `seeds`, in that order. Differences are paired by seed: within
    a network, the same seed means the same initial weights and order of the images.
    """

    seeds: tuple[int, ...]
    recipes: tuple[ConfirmedRecipe, ...]

    @property
    def winner(self) -> ConfirmedRecipe:
        """Return the recipe, and with it the network, of the best mean."""
        return self.recipes[0]

    def best(self, network: str) -> ConfirmedRecipe:
        """Return a network's recipe of the best mean; ValueError for an unknown name."""
        return self._of(network)[0]

    def first(self, network: str) -> ConfirmedRecipe | None:
        """Return the recipe that the network's study was given to begin with, if it had one."""
        return next((recipe for recipe in self._of(network) if recipe.first), None)

    @property
    def networks(self) -> tuple[str, ...]:
        """Return the names of the networks, that of the best mean first."""
        return tuple(dict.fromkeys(recipe.network for recipe in self.recipes))

    def minus(self, one: ConfirmedRecipe, other: ConfirmedRecipe) -> Difference | None:
        """Return how much better `one` is, paired by seed; None for a single seed."""
        if len(self.seeds) == 1:
            return None
        return difference(one.accuracies, other.accuracies, paired=True)

    def _of(self, network: str) -> list[ConfirmedRecipe]:
        found = [recipe for recipe in self.recipes if recipe.network == network]
        if not found:
            raise ValueError(f"network must be one of {list(self.networks)}, got {network!r}")
        return found

    def table(self) -> list[dict[str, Any]]:
        """Return the recipes as JSON values, with their intervals and differences."""
        return [self._line(recipe) for recipe in self.recipes]

    def _line(self, recipe: ConfirmedRecipe) -> dict[str, Any]:
        interval, first = recipe.interval, self.first(recipe.network)
        ends = None if interval is None else [interval.low, interval.high]
        return {
            "network": recipe.network,
            "trial": recipe.trial,
            "first": recipe.first,
            "tuned": recipe.tuned,
            "accuracies": list(recipe.accuracies),
            "mean": recipe.mean,
            "interval": ends,
            "minus_first": _said(None if first is None else self.minus(recipe, first)),
            "minus_winner": _said(self.minus(recipe, self.winner)),
            "recipe": recipe.recipe.to_json(),
        }

    @classmethod
    def load(cls, path: str | Path) -> Confirmation:
        """Read the file that `confirm` wrote, or that of a folder.

        Raises ValueError, with the file's name, for a confirmation that is not finished, and for
        what is none.
        """
        file = Path(path) / FILE if Path(path).is_dir() else Path(path)
        values = check_format(read_json(file), FORMAT, file)
        if not values.get("recipes"):
            raise ValueError(f"{file} must be of a finished confirmation, it is interrupted")
        try:
            made = cls(seeds=tuple(values["seeds"]), recipes=_recipes(values["recipes"]))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{file} must be a whole confirmation, got {error!r}") from error
        check_fields(made, of=f" of {file}")
        for line in made.recipes:
            check_fields(line, of=f" of {line.network} in {file}")
            if not made.seeds or len(line.accuracies) != len(made.seeds):
                raise ValueError(
                    f"accuracies of {line.network} in {file} must be one for each of the "
                    f"{len(made.seeds)} seeds, got {len(line.accuracies)}"
                )
        return made


def _recipes(lines: Sequence[Mapping[str, Any]]) -> tuple[ConfirmedRecipe, ...]:
    return tuple(
        ConfirmedRecipe(
            network=str(line["network"]),
            trial=int(line["trial"]),
            recipe=Recipe.from_json(line["recipe"]),
            tuned=None if line["tuned"] is None else float(line["tuned"]),
            first=bool(line["first"]),
            accuracies=tuple(float(value) for value in line["accuracies"]),
        )
        for line in lines
    )


def _said(found: Difference | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {"mean": found.mean, "low": found.low, "high": found.high, "p_value": found.p_value}

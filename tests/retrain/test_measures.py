"""Limits on costs, several objectives, and trials that cannot be trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch import nn

from nas_ext.data import ImageData
from nas_ext.retrain import Recipe, best_recipe, study
from nas_ext.retrain.measures import count_macs

BASE = Recipe(epochs=1, batch_size=50)

BuildFrom = Callable[[Recipe], nn.Module]


class Wide:
    """Propose a width of its own, and build the network of it: `width` filters, no more."""

    def __init__(self) -> None:
        self.trained: list[int] = []

    def suggest(self, trial: optuna.Trial, base: Recipe) -> Recipe:
        # the recipe has no field for a width: drop_path carries it, as hundredths
        width = trial.suggest_categorical("width", [1, 2, 4])
        return replace(base, drop_path=width / 100)

    def build(self, recipe: Recipe) -> nn.Module:
        width = round(recipe.drop_path * 100)
        layers = [nn.Conv2d(1, width, 3, padding=1), nn.Flatten(), nn.Linear(64 * width, 10)]
        network = nn.Sequential(*layers)
        network[0].register_forward_pre_hook(
            lambda module, inputs: self.trained.append(width) if module.training else None
        )
        return network


def run(wide: Wide, data: ImageData, out: Path, n_trials: int, **options: Any) -> optuna.Study:
    options = {"recipe": BASE, "enqueue": (), "suggest": wide.suggest, **options}
    return study(wide.build, data, out=out, n_trials=n_trials, **options)


def macs(width: int) -> int:
    # 8 x 8 positions of 9 weights a filter, then all features to 10 classes
    return 64 * 9 * width + 64 * width * 10


def parameters(width: int) -> int:
    return 9 * width + width + 64 * width * 10 + 10


def test_macs_are_those_counted_by_hand() -> None:
    assert count_macs(Wide().build(replace(BASE, drop_path=0.03)), (1, 8, 8)) == macs(3)


def test_a_trial_over_a_limit_is_pruned_untrained_and_the_others_are_feasible(
    data: ImageData, tmp_path: Path
) -> None:
    wide = Wide()
    found = run(wide, data, tmp_path, 8, constraints={"macs": macs(2), "parameters": 10**6})
    assert {trial.params["width"] for trial in found.trials} == {1, 2, 4}
    for trial in found.trials:
        width = trial.params["width"]
        assert trial.constraints == {
            "macs": macs(width) - macs(2),
            "parameters": parameters(width) - 10**6,
        }
        over = width == 4
        assert trial.state == (TrialState.PRUNED if over else TrialState.COMPLETE)
        assert trial.user_attrs.get("error", "").startswith("over the limit: macs") == over
    assert set(wide.trained) == {1, 2}
    assert found.best_trial.params["width"] in (1, 2)


def test_a_measure_of_ones_own_is_limited_on_an_untrained_network_in_evaluation(
    data: ImageData, tmp_path: Path
) -> None:
    seen: list[bool] = []

    def features(network: nn.Module, recipe: Recipe) -> float:
        seen.append(network.training)
        return 6400 * recipe.drop_path

    found = run(Wide(), data, tmp_path, 6, constraints={"features": (features, 64.0)})
    complete = found.get_trials(states=(TrialState.COMPLETE,))
    assert {trial.params["width"] for trial in complete} == {1}
    assert complete[0].user_attrs["result"]["features"] == pytest.approx(64)
    assert seen == [False] * 6


def test_several_objectives_have_a_front(data: ImageData, tmp_path: Path) -> None:
    found = run(Wide(), data, tmp_path, 6, objectives=("accuracy", "macs", "parameters"))
    assert [direction.name for direction in found.directions] == [
        *("MAXIMIZE", "MINIMIZE", "MINIMIZE")
    ]
    for trial in found.trials:
        width = trial.params["width"]
        result = trial.user_attrs["result"]
        assert trial.values == [result["accuracy"], macs(width), parameters(width)]
        assert (result["macs"], result["parameters"]) == (macs(width), parameters(width))
        assert result["environment"]["torch"] == str(torch.__version__)
    best = {tuple(trial.values) for trial in found.best_trials}
    assert min(found.trials, key=lambda t: (t.values[1], -t.values[0])).values[1] in {
        values[1] for values in best
    }
    with pytest.raises(ValueError, match="must have one objective, got 3: choose one of its best"):
        best_recipe(found)


def test_other_goals_are_another_study(data: ImageData, tmp_path: Path) -> None:
    run(Wide(), data, tmp_path, 1, constraints={"macs": 10**6})
    with pytest.raises(ValueError, match="must go on with the constraints it was made with"):
        run(Wide(), data, tmp_path, 2)
    with pytest.raises(ValueError, match="must go on with the objectives it was made with"):
        run(Wide(), data, tmp_path, 2, constraints={"macs": 10**6}, objectives=("loss",))


def test_bad_goals_are_named(data: ImageData, tmp_path: Path) -> None:
    def refused(message: str, **options: Any) -> None:
        with pytest.raises(ValueError, match=message):
            run(Wide(), data, tmp_path, 1, **options)

    refused("objectives must be different ones of accuracy.*got .'size'", objectives=("size",))
    refused("at least one, got", objectives=())
    refused("got .'macs', 'macs'", objectives=("macs", "macs"))
    refused("limits of macs, parameters or pairs.*got 'size': 3", constraints={"size": 3})
    refused("not give a measure named 'accuracy'", constraints={"accuracy": 0.5})
    refused("the limit of macs must be finite, got nan", constraints={"macs": float("nan")})
    pruner = optuna.pruners.MedianPruner()
    refused("None with several objectives", objectives=("loss", "macs"), pruner=pruner)
    assert not tmp_path.joinpath("study.log").exists()


# ---------------------------------------------------------------- out of memory


class Hungry(nn.Module):
    """Run out of memory in the first forward pass of a training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise torch.OutOfMemoryError("tried to allocate 80 GiB")
        outputs: torch.Tensor = self.layer(images.flatten(1))
        return outputs


def test_a_trial_out_of_memory_is_pruned_with_the_reason_and_the_study_goes_on(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    wanted = [replace(BASE, lr=0.5), replace(BASE, lr=0.2)]
    found = study(
        lambda recipe: Hungry() if recipe.lr == 0.5 else build_from(recipe),
        data, out=tmp_path, recipe=BASE, n_trials=2, enqueue=wanted,
    )  # fmt: skip
    assert [trial.state.name for trial in found.trials] == ["PRUNED", "COMPLETE"]
    assert found.trials[0].user_attrs["error"] == "out of memory: tried to allocate 80 GiB"
    assert found.trials[0].value == 0.0


def test_five_in_a_row_out_of_memory_end_the_call(data: ImageData, tmp_path: Path) -> None:
    message = "5 trials in a row ran out of memory: tried to allocate 80 GiB"
    with pytest.raises(RuntimeError, match=message):
        study(lambda recipe: Hungry(), data, out=tmp_path, recipe=BASE, n_trials=9)


# ---------------------------------------------------------------- siblings, callbacks, names


def test_a_siblings_best_trial_comes_after_the_published_recipe(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    sibling = study(build_from, data, out=tmp_path / "a", recipe=BASE, n_trials=3)
    best = sibling.best_trial.params
    places: list[Any] = [sibling, tmp_path / "a", str(tmp_path / "a" / "study.log")]
    for number, place in enumerate(places):
        out = tmp_path / f"b{number}"
        found = study(
            build_from, data, out=out, recipe=BASE, n_trials=2, warm_start=place,
            user_attrs={"architecture": [number]},
        )  # fmt: skip
        assert found.trials[0].params == sibling.trials[0].params
        assert (found.trials[1].params == best) or best == sibling.trials[0].params
    assert sibling.best_trial.number > 0  # else the above would say little


def test_a_sibling_of_another_space_is_refused_before_anything_is_written(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    sibling = study(build_from, data, out=tmp_path / "a", recipe=BASE, n_trials=1)

    def narrow(trial: optuna.Trial, base: Recipe) -> Recipe:
        return replace(base, lr=trial.suggest_float("lr_sgd", 1e-3, 1e-2))

    def other(trial: optuna.Trial, base: Recipe) -> Recipe:
        return replace(base, lr=trial.suggest_float("rate", 1e-3, 1e-2))

    options: dict[str, Any] = {"out": tmp_path / "b", "recipe": BASE, "n_trials": 1}
    for suggest in (narrow, other):
        with pytest.raises(ValueError, match="must be one that suggest can propose, got"):
            study(
                build_from, data, suggest=suggest, enqueue=(), warm_start=sibling, **options
            )  # fmt: skip
    with pytest.raises(ValueError, match="warm_start must be a study, its folder or URL"):
        study(build_from, data, warm_start=tmp_path / "none", **options)
    assert not (tmp_path / "b").exists()


def test_callbacks_see_each_trial_and_may_stop_the_study(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    seen: list[int] = []

    def stop_at_1(found: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        seen.append(trial.number)
        if trial.number == 1:
            found.stop()

    found = study(
        build_from, data, out=tmp_path, recipe=BASE, n_trials=5, callbacks=[stop_at_1]
    )  # fmt: skip
    assert seen == [0, 1]
    assert len(found.trials) == 2


def test_an_existing_study_may_be_refused(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"out": tmp_path, "recipe": BASE}
    study(build_from, data, n_trials=1, **options)
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        study(build_from, data, n_trials=2, load_if_exists=False, **options)
    other = study(build_from, data, n_trials=1, study_name="b/c", load_if_exists=False, **options)
    assert other.study_name == "b/c"


def test_a_study_that_minimises_is_not_taken_over(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="retrain")
    with pytest.raises(ValueError, match=r"directions \['minimize'\] instead of \['maximize'\]"):
        study(build_from, data, out=tmp_path, recipe=BASE, n_trials=1, storage=storage)

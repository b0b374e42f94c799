"""The Optuna study of training recipes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch import nn

from nas_ext.data import Augmentation, ImageData, Images
from nas_ext.retrain import Recipe, best_recipe, default_suggest, fit, study
from nas_ext.retrain.space import parameters
from nas_ext.retrain.storage import open_journal

BuildFrom = Callable[[Recipe], nn.Module]

BASE = Recipe(epochs=2, batch_size=50)
PUBLISHED = replace(Recipe.published("resnet20-pooling", epochs=2), batch_size=50)
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


def run(
    build: BuildFrom, data: ImageData, out: Path, n_trials: int = 3, **options: Any
) -> optuna.Study:
    options = {"recipe": BASE, "seed": 0, **options}
    return study(build, data, out=out, n_trials=n_trials, **options)


def record(found: optuna.Study) -> list[tuple[Any, ...]]:
    """What trials that came to an end were and brought, without names and times."""
    return [
        (trial.state, trial.params, trial.values, trial.intermediate_values,
         trial.user_attrs["recipe"])
        for trial in found.get_trials(states=DONE)
    ]  # fmt: skip


class Countdown:
    """Count training batches over all networks, and raise an exception at the n-th."""

    def __init__(self, at: int, error: type[BaseException]) -> None:
        self.batches, self.at, self.error = 0, at, error

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        self.batches += module.training
        if module.training and self.batches == self.at:
            raise self.error("stop")

    def watch(self, build: BuildFrom) -> BuildFrom:
        def watched(recipe: Recipe) -> nn.Module:
            model = build(recipe)
            model.register_forward_pre_hook(self)
            return model

        return watched


# ---------------------------------------------------------------- what a study is


def test_trial_0_is_the_published_recipe_and_brings_what_fit_brings(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    found = run(build_from, data, tmp_path, 1)
    trial = found.trials[0]
    assert Recipe.from_json(trial.user_attrs["recipe"]) == PUBLISHED
    alone = fit(lambda: build_from(PUBLISHED), PUBLISHED, data.train, data.val, data, seed=0)
    assert trial.value == alone.accuracy
    assert trial.intermediate_values == {e.epoch: e.accuracy for e in alone.history}
    result = trial.user_attrs["result"]
    assert (result["accuracy"], result["loss"]) == (alone.accuracy, alone.loss)
    assert (result["parameters"], result["seed"]) == (694, 0)
    assert best_recipe(found) == PUBLISHED


def test_a_base_recipe_keeps_what_is_not_proposed(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    base = replace(BASE, clip_grad=1.0, momentum=0.8, lr=0.02)
    found = run(build_from, data, tmp_path, 1, recipe=base)
    # the published rate, as it is proposed; the base's momentum and clipping, as they are not
    assert best_recipe(found) == replace(base, lr=0.1)


def test_recipes_of_ones_own_come_first_and_none_may(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    wanted = [replace(BASE, lr=0.5), replace(BASE, lr=0.03, smoothing=0.1)]
    found = run(build_from, data, tmp_path / "a", 2, enqueue=wanted)
    assert [Recipe.from_json(t.user_attrs["recipe"]) for t in found.trials] == wanted
    drawn = run(build_from, data, tmp_path / "b", 1, enqueue=())
    assert Recipe.from_json(drawn.trials[0].user_attrs["recipe"]) not in [PUBLISHED, BASE]


def test_an_enqueued_recipe_outside_the_space_is_refused_before_anything_is_written(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"enqueued lr_sgd must lie in \[0.01, 1.0\], got 5.0"):
        run(build_from, data, tmp_path / "x", enqueue=[replace(BASE, lr=5.0)])
    assert not (tmp_path / "x").exists()


def test_the_study_is_an_ordinary_one_in_a_journal(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    attributes = {"architecture": [4, 3, 3], "note": "x"}
    run(build_from, data, tmp_path, 2, user_attrs=attributes)
    loaded = optuna.load_study(study_name="retrain", storage=open_journal(tmp_path / "study.log"))
    assert len(loaded.trials) == 2
    assert loaded.direction == optuna.study.StudyDirection.MAXIMIZE
    assert loaded.user_attrs["architecture"] == [4, 3, 3]
    assert loaded.user_attrs["note"] == "x"
    assert loaded.user_attrs["environment"]["torch"] == str(torch.__version__)


def test_other_storages_samplers_and_names_can_be_given(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    found = run(
        build_from, data, tmp_path, 2,
        storage=f"sqlite:///{tmp_path}/x.db", study_name="mine",
        sampler=optuna.samplers.RandomSampler(seed=0),
    )  # fmt: skip
    assert found.study_name == "mine"
    assert len(found.trials) == 2
    assert not (tmp_path / "study.log").exists()


def test_the_test_set_is_not_touched(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    # three channels: the network would refuse them
    poison = Images(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.zeros(9, dtype=torch.int64))
    found = run(build_from, replace(data, test=poison), tmp_path / "a")
    assert record(found) == record(run(build_from, data, tmp_path / "b"))


# ---------------------------------------------------------------- going on


def test_3_and_3_trials_are_6_uninterrupted_ones(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    run(build_from, data, tmp_path / "pieces", 3)
    pieces = run(build_from, data, tmp_path / "pieces", 6)
    whole = run(build_from, data, tmp_path / "whole", 6)
    assert record(pieces) == record(whole)
    assert len(record(whole)) == 6
    assert record(run(build_from, data, tmp_path / "whole", 6)) == record(whole)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", [2, 8, 11])  # 3 batches an epoch, 6 a trial
def test_an_interrupted_trial_goes_on_from_its_last_epoch(
    build_from: BuildFrom,
    data: ImageData,
    tmp_path: Path,
    at: int,
    error: type[BaseException],
) -> None:
    # Ctrl-C: Optuna marks the trial as failed. SystemExit passes it by and leaves the trial
    # running for ever, as a killed process does.
    countdown = Countdown(at, error)
    build = countdown.watch(build_from)
    with pytest.raises(error):
        run(build, data, tmp_path / "x", 4)
    saved = sorted(path.name for path in (tmp_path / "x" / "ckpt").glob("*"))
    assert [name.partition("-")[2][:6] for name in saved] == {2: [], 8: [], 11: ["trial1"]}[at]
    resumed = run(build, data, tmp_path / "x", 4)
    assert record(resumed) == record(run(build_from, data, tmp_path / "whole", 4))
    assert [trial.state for trial in resumed.trials].count(TrialState.FAIL) == 1
    assert list((tmp_path / "x" / "ckpt").glob("*")) == []
    assert countdown.batches == 4 * 6 + 2  # two batches of the epoch that was cut short


def test_a_trial_interrupted_twice_goes_on(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    for at in (8, 5):
        with pytest.raises(KeyboardInterrupt):
            run(Countdown(at, KeyboardInterrupt).watch(build_from), data, tmp_path / "x", 3)
    resumed = run(build_from, data, tmp_path / "x", 3)
    assert record(resumed) == record(run(build_from, data, tmp_path / "whole", 3))


def test_an_error_ends_the_call_and_an_enqueued_recipe_is_tried_again(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        run(Countdown(5, ZeroDivisionError).watch(build_from), data, tmp_path)
    with pytest.raises(ZeroDivisionError):
        run(Countdown(8, ZeroDivisionError).watch(build_from), data, tmp_path)
    found = run(build_from, data, tmp_path)
    recipes = [Recipe.from_json(values[-1]) for values in record(found)]
    assert recipes[0] == PUBLISHED
    assert len(recipes) == len({str(recipe) for recipe in recipes}) == 3
    states = [trial.state for trial in found.trials]
    assert states.count(TrialState.FAIL) == 2
    assert states.count(TrialState.WAITING) == 0


def test_a_study_may_not_go_on_with_other_settings(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    attributes = {"architecture": [4, 3, 3]}
    run(build_from, data, tmp_path, 1, user_attrs=attributes)

    def other(trial: optuna.Trial, base: Recipe) -> Recipe:
        return default_suggest(trial, base)

    changes: dict[str, dict[str, Any]] = {
        "architecture": {"user_attrs": {"architecture": [5, 3, 2]}},
        "seed": {"seed": 1},
        "epochs": {"recipe": replace(BASE, epochs=3)},
        "base recipe": {"recipe": replace(BASE, batch_size=32)},
        "space": {"suggest": other},
        "augmentation": {"augmentation": Augmentation(crop_padding=2)},
    }
    for key, change in changes.items():
        message = f"study 'retrain' must go on with the {key} it was made with, .*, got .*: use"
        with pytest.raises(ValueError, match=message):
            run(build_from, data, tmp_path, 2, **{"user_attrs": attributes, **change})
    with pytest.raises(ValueError, match="must go on with the data it was made with"):
        run(build_from, replace(data, digest="0"), tmp_path, 2, user_attrs=attributes)
    assert len(run(build_from, data, tmp_path, 2, user_attrs=attributes).trials) == 2


def test_a_study_that_somebody_else_made_is_refused(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    storage = optuna.storages.InMemoryStorage()
    foreign = optuna.create_study(storage=storage, study_name="retrain", direction="maximize")
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ValueError, match="was not made by nas-ext"):
        run(build_from, data, tmp_path, storage=storage)


def test_a_study_that_died_while_it_was_set_up_is_set_up_to_the_end(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    storage = optuna.storages.InMemoryStorage()
    begun = optuna.create_study(storage=storage, study_name="retrain", direction="maximize")
    begun.enqueue_trial(parameters(PUBLISHED, default_suggest, BASE, exact=True))
    found = run(build_from, data, tmp_path, 2, storage=storage)
    recipes = [Recipe.from_json(trial.user_attrs["recipe"]) for trial in found.trials]
    assert recipes.count(PUBLISHED) == 1
    assert recipes[0] == PUBLISHED


@pytest.mark.parametrize(
    "damage", [b'{"op_code": 4, "wor', b"\x00\x00\x00", b'[1\n{"op_code": 5}\n']
)
def test_a_torn_journal_is_repaired_with_a_warning(
    build_from: BuildFrom, data: ImageData, tmp_path: Path, damage: bytes
) -> None:
    before = record(run(build_from, data, tmp_path / "x", 2))
    log = tmp_path / "x" / "study.log"
    size = log.stat().st_size
    with log.open("ab") as file:
        file.write(damage)
    message = f"damaged after {size} of {size + len(damage)} bytes"
    with pytest.warns(UserWarning, match=message) as caught:
        found = run(build_from, data, tmp_path / "x", 3)
    assert Path(caught[0].filename).name == "test_study.py"
    assert record(found)[:2] == before
    assert len(record(found)) == 3
    aside = [path for path in (tmp_path / "x").iterdir() if "corrupt" in path.name]
    assert [path.read_bytes() for path in aside] == [damage]
    assert all(json.loads(line) for line in log.read_bytes().splitlines())


# ---------------------------------------------------------------- pruned and diverged trials


def wild(trial: optuna.Trial, base: Recipe) -> Recipe:
    return replace(base, lr=trial.suggest_float("lr", 0.01, 1e31, log=True))


def test_a_diverged_trial_counts_as_pruned_with_accuracy_0(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    wanted = [replace(BASE, lr=1e30), BASE]
    found = run(build_from, data, tmp_path, 2, suggest=wild, enqueue=wanted)
    first, second = found.trials
    assert first.state == TrialState.PRUNED
    assert first.value == 0.0
    assert "the training loss became" in first.user_attrs["error"]
    assert second.state == TrialState.COMPLETE
    assert best_recipe(found) == BASE


def test_a_study_of_diverged_trials_has_no_best_recipe(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    found = run(
        build_from, data, tmp_path, 1, suggest=wild, enqueue=[replace(BASE, lr=1e30)]
    )  # fmt: skip
    with pytest.raises(ValueError, match="study 'retrain' must have a complete trial, got none"):
        best_recipe(found)


class PruneAll(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return True


def test_pruned_trials_count_and_the_last_epoch_is_never_pruned(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    found = run(build_from, data, tmp_path / "a", 2, pruner=PruneAll())
    assert [trial.state for trial in found.trials] == [TrialState.PRUNED] * 2
    assert [list(trial.intermediate_values) for trial in found.trials] == [[0], [0]]
    assert list((tmp_path / "a" / "ckpt").glob("*")) == []
    single = replace(BASE, epochs=1)
    whole = run(build_from, data, tmp_path / "b", 1, pruner=PruneAll(), recipe=single)
    assert whole.trials[0].state == TrialState.COMPLETE


def test_pruners_are_chosen_by_name_or_given(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    default = run(build_from, data, tmp_path / "a", 1)
    assert isinstance(default.pruner, optuna.pruners.PercentilePruner)
    none = run(build_from, data, tmp_path / "b", 1, pruner=None)
    assert isinstance(none.pruner, optuna.pruners.NopPruner)
    median = run(build_from, data, tmp_path / "m", 1, pruner="median")
    assert isinstance(median.pruner, optuna.pruners.MedianPruner)
    brackets = run(build_from, data, tmp_path / "h", 1, pruner="hyperband")
    assert isinstance(brackets.pruner, optuna.pruners.HyperbandPruner)
    message = "pruner must be 'percentile', 'median', 'hyperband', None or Optuna's, got 'x'"
    with pytest.raises(ValueError, match=message):
        run(build_from, data, tmp_path / "c", 1, pruner="x")


# ---------------------------------------------------------------- other arguments


def test_no_trial_starts_after_the_time_is_up(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    assert run(build_from, data, tmp_path, 2, timeout=0).get_trials(states=DONE) == []


def test_optunas_own_messages_are_silent_unless_asked_for(
    build_from: BuildFrom,
    data: ImageData,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        run(build_from, data, tmp_path / "a", 1)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
        assert caplog.messages == []
        run(build_from, data, tmp_path / "b", 1, verbose=True)
        assert any("Trial 0 finished" in message for message in caplog.messages)
    finally:
        optuna.logging.set_verbosity(before)


def test_bad_arguments_are_named(build_from: BuildFrom, data: ImageData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="n_trials must be positive, got 0"):
        run(build_from, data, tmp_path, 0)
    with pytest.raises(ValueError, match="number of training images 150, got 256"):
        run(build_from, data, tmp_path, recipe=replace(BASE, batch_size=256))
    with pytest.raises(ValueError, match=r"user_attrs must not contain \['fingerprint'\]"):
        run(build_from, data, tmp_path, user_attrs={"fingerprint": 1})

    def longer(trial: optuna.Trial, base: Recipe) -> Recipe:
        return replace(base, epochs=3)

    with pytest.raises(ValueError, match="suggest must keep the base recipe's epochs 2, got 3"):
        run(build_from, data, tmp_path, suggest=longer, enqueue=())

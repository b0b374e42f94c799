"""Damaged, foreign and hostile files of every kind that we load: read, or refused by name."""

from __future__ import annotations

import gzip
import importlib
import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
import typer

from nas_ext.benchmarks.measured import measured_table
from nas_ext.cli import app
from nas_ext.comparison import Comparison
from nas_ext.data import digits
from nas_ext.data.folder import image_folder
from nas_ext.data.images import ImageData
from nas_ext.found import FoundArchitecture, load_architecture
from nas_ext.latency import LatencyTable, Timing
from nas_ext.pooling import PoolingSpace
from nas_ext.report.reading import read_retraining
from nas_ext.results import SearchResult
from nas_ext.retrain import Recipe, fit
from nas_ext.retrain.confirmation import Confirmation
from nas_ext.retrain.final import FinalResult
from nas_ext.retrain.ranges import suggest_from
from nas_ext.retrain.storage import open_storage
from nas_ext.retrain_inputs import read_candidates
from nas_ext.saved_mixture import load_mixture, save_mixture
from nas_ext.saved_tree import load_tree, save_tree
from nas_ext.supernets import load_run
from nas_ext.taking_out import take_out

SPACE = PoolingSpace(layers=8, poolings=2, name="mini-pooling")


class Fuzz(Protocol):
    """What the fixture `fuzz` is."""

    def __call__(
        self,
        kind: str,
        content: bytes,
        place: Path,
        read: Callable[[], object],
        *,
        form: str = "bytes",
        count: int = 12,
        named: str | None = None,
    ) -> None: ...


def test_a_result_of_a_search(fuzz: Fuzz, run: Path, tmp_path: Path) -> None:
    place = tmp_path / "search.json"
    content = (run / "search.json").read_bytes()

    def read() -> None:
        assert SearchResult.load(place).to_json()["format"] == "nas-ext/search-1"

    fuzz("search result", content, place, read, form="json", count=30)


def test_the_tree_in_a_result(fuzz: Fuzz, run: Path, tmp_path: Path) -> None:
    place, content = tmp_path / "search.json", (run / "search.json").read_bytes()

    def read() -> None:
        load_tree(place, SPACE).state_dict()

    fuzz("tree of a search", content, place, read, form="json")


def test_a_tree(fuzz: Fuzz, run: Path, tmp_path: Path) -> None:
    place = tmp_path / "tree.json"
    save_tree(place, load_tree(run, SPACE), SPACE)

    def read() -> None:
        load_tree(place, SPACE).state_dict()

    fuzz("tree", place.read_bytes(), place, read, form="json", count=20)


def test_a_mixture(fuzz: Fuzz, tmp_path: Path) -> None:
    place, size = tmp_path / "mixture.json", SPACE.size
    learned = {
        "models": 2,
        "probabilities": [[0.5, 0.5]] * size,
        "members": [0, 1] * (size // 2) + [0],
        "values": [[0.1, 0.2]] * size,
        "visits": [[1, 0]] * size,
        "prices": [0.0, 0.1],
        "inverse_temperature": 3.0,
    }
    save_mixture(place, learned, SPACE)

    def read() -> None:
        load_mixture(place, SPACE)

    fuzz("mixture", place.read_bytes(), place, read, form="json", count=20)


def test_an_architecture(fuzz: Fuzz, tmp_path: Path) -> None:
    place = tmp_path / "arch.json"
    arguments = {"num_classes": 10, "in_chs": 1}
    FoundArchitecture("mini-pooling", arguments, SPACE.at(3)).save(place)

    def read() -> None:
        load_architecture(place).to_json()

    fuzz("architecture", place.read_bytes(), place, read, form="json", count=25)


def test_samples_to_retrain(fuzz: Fuzz, tmp_path: Path) -> None:
    place, data = tmp_path / "samples.json", digits()
    samples = [dict(SPACE.decode(SPACE.at(i))) for i in (0, 5)]
    content = json.dumps(samples).encode()

    def read() -> None:
        read_candidates(place, data, space="mini-pooling")

    fuzz("samples of NNI", content, place, read, form="json", count=8)


def test_a_latency_table(fuzz: Fuzz, tmp_path: Path) -> None:
    place = tmp_path / "latency.json"
    timings = {a: Timing(0.02, 0.01, 0.03) for a in SPACE}
    LatencyTable({"name": "a processor", "threads": 1, "batch_size": 1}, timings).save(place)

    def read() -> None:
        table = LatencyTable.load(place)
        assert all(table(a) >= 0 for a in table.timings)

    fuzz("latency table", place.read_bytes(), place, read, form="json", count=20)


def test_a_measured_table(fuzz: Fuzz, tmp_path: Path) -> None:
    place = tmp_path / "table.csv"
    content = (files("nas_ext.benchmarks") / "data" / "mini-pooling.csv").read_bytes()

    def read() -> None:
        from nas_ext.files import read_text

        measured_table(read_text(place), SPACE, name="t", source="s", origin=place.name)

    fuzz("measured table", content, place, read, form="csv", count=25)


def test_the_test_result_of_a_retraining(fuzz: Fuzz, run: Path, tmp_path: Path) -> None:
    (found,) = run.glob("retrain/*/final.json")
    place = tmp_path / "final.json"

    def read() -> None:
        FinalResult.load(tmp_path)
        read_retraining(tmp_path)

    fuzz("final.json", found.read_bytes(), place, read, form="json", count=20)


def test_a_confirmation(fuzz: Fuzz, run: Path, tmp_path: Path) -> None:
    place = tmp_path / "confirm.json"

    def read() -> None:
        Confirmation.load(place).table()

    content = (run / "retrain" / "confirm.json").read_bytes()
    fuzz("confirm.json", content, place, read, form="json", count=20)


def test_a_plain_training(fuzz: Fuzz, run: Path, tmp_path: Path) -> None:
    from nas_ext.retrain.plain import fit_seeds
    from nas_ext.runs import candidate

    result, data = SearchResult.load(run), digits()
    found = candidate(result, result.best)
    recipe = Recipe(epochs=1, batch_size=512)
    fit_seeds(found, recipe, data, out=tmp_path, seeds=1)
    place = tmp_path / "fit.json"

    module: Any = importlib.import_module("nas_ext.retrain.plain")
    values = json.loads(place.read_bytes())
    header = {name: value for name, value in values.items() if name not in ("runs", "manifest")}

    def read() -> None:
        if not place.exists():  # a link to nowhere: nothing is done yet
            raise ValueError(f"{place} is missing")
        module._done(place, header)

    fuzz("fit.json", place.read_bytes(), place, read, form="json", count=20)


def test_a_journal_of_trials_that_is_only_read(fuzz: Fuzz, run: Path, tmp_path: Path) -> None:
    (found,) = run.glob("retrain/*/study.log")
    place = tmp_path / "study.log"

    def read() -> None:
        study = read_retraining(tmp_path).study
        if study is not None:
            study.get_trials()

    fuzz("journal, read", found.read_bytes(), place, read, count=25)


@pytest.mark.filterwarnings("ignore:.*was damaged after")
def test_a_journal_of_trials_that_is_gone_on_with(fuzz: Fuzz, run: Path, tmp_path: Path) -> None:
    (found,) = run.glob("retrain/*/study.log")
    place = tmp_path / "study.log"

    def read() -> None:
        for other in tmp_path.glob("study.log.*"):
            shutil.rmtree(other) if other.is_dir() else other.unlink()
        open_storage(place).get_all_studies()

    fuzz("journal, opened", found.read_bytes(), place, read, count=12)


def test_ranges_of_recipes(fuzz: Fuzz, tmp_path: Path) -> None:
    place = tmp_path / "ranges.json"
    ranges = {"lr": {"low": 1e-3, "high": 1.0, "log": True}, "opt": ["momentum"], "reprob": 0.1}

    def read() -> None:
        suggest_from(place)

    fuzz("ranges, JSON", json.dumps(ranges).encode(), place, read, form="json", count=15)


def test_ranges_of_recipes_in_yaml(fuzz: Fuzz, tmp_path: Path) -> None:
    place = tmp_path / "ranges.yaml"
    content = b"lr: {low: 1e-3, high: 1.0, log: true}\nopt: [momentum, adamw]\nreprob: 0.1\n"

    def read() -> None:
        suggest_from(place)

    fuzz("ranges, YAML", content, place, read, count=40)


def test_yaml_that_names_python_or_grows_without_end_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "ranges.yaml"
    mark = tmp_path / "executed"
    place.write_text(f"lr: !!python/object/apply:os.mkdir ['{mark}']\n")
    with pytest.raises(ValueError, match=r"ranges\.yaml"):
        suggest_from(place)
    assert not mark.exists()
    # Eleven lines that mean 10^11 values: their repr alone would fill the memory.
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    place.write_text("\n".join([*lines, "lr: *a11"]))
    with pytest.raises(ValueError, match=r"(?s)ranges\.yaml.*aliases are not read"):
        suggest_from(place)


def test_weights_of_a_supernet(fuzz: Fuzz, run: Path) -> None:
    place, data = run / "supernet.safetensors", digits()

    def read() -> None:
        load_run(run, data=data)

    fuzz("supernet.safetensors", place.read_bytes(), place, read, count=5, named=run.name)


def test_weights_of_a_retrained_network(fuzz: Fuzz, run: Path) -> None:
    (place,) = run.glob("retrain/*/final-seed0.safetensors")

    def read() -> None:
        take_out(run)

    fuzz("final-seed0.safetensors", place.read_bytes(), place, read, count=5)


def test_a_checkpoint_of_a_training(fuzz: Fuzz, tmp_path: Path) -> None:
    place, data = tmp_path / "ckpt.pt", digits()
    part = data.train.select(torch.arange(64))
    small = ImageData(**{**vars(data), "train": part, "val": part})

    def read() -> None:
        fit(
            lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)),
            Recipe(epochs=1, batch_size=64),
            small.train,
            small.val,
            small,
            seed=0,
            checkpoint=place,
        )

    read()
    content = place.read_bytes()
    fuzz("checkpoint of a training", content, place, read, form="tensors", count=20)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp"])
def test_an_image(suffix: str, fuzz: Fuzz, tmp_path: Path) -> None:
    from PIL import Image

    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(4):
            image = Image.effect_noise((12, 10), 60).convert("RGB")
            image.save(tmp_path / label / f"{number}.{suffix}")
    place = tmp_path / "a" / f"1.{suffix}"

    def read() -> None:
        image_folder(tmp_path)

    fuzz(f"image, {suffix}", place.read_bytes(), place, read, count=15)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_idx_file(suffix: str, fuzz: Fuzz, tmp_path: Path) -> None:
    module: Any = importlib.import_module("nas_ext.data.fashion_mnist")
    name = "t10k-labels-idx1-ubyte"
    place = tmp_path / f"{name}{suffix}"
    content = b"\0\0\x08\x01\0\0\0\x64" + bytes(100)

    def read() -> None:
        if not place.is_file():
            raise ValueError(f"{place} is none, so that another place is looked at")
        module._read(tmp_path, name)

    packed = gzip.compress(content) if suffix else content
    fuzz(f"idx file{suffix}", packed, place, read, count=20)


def test_a_gzip_file_of_zeros_without_end_is_refused(tmp_path: Path) -> None:
    module: Any = importlib.import_module("nas_ext.data.fashion_mnist")
    place = tmp_path / "train-images-idx3-ubyte.gz"
    place.write_bytes(gzip.compress(bytes(module.LARGEST + 100), 9))
    with pytest.raises(ValueError, match=r"idx3-ubyte\.gz must hold at most 47,040,016 bytes"):
        module._read(tmp_path, "train-images-idx3-ubyte")


def test_a_checkpoint_of_a_search(fuzz: Fuzz, tmp_path: Path) -> None:
    from nas_ext.oneshot.resuming import WholeFiles

    place, files_of = tmp_path / "checkpoint.ckpt", WholeFiles()
    state = {"state_dict": {"w": torch.ones(3, 4)}, "epoch": 1, "loops": {"a": [1, 2.0, "x"]}}
    files_of.save_checkpoint(state, place)

    def read() -> None:
        files_of.load_checkpoint(place)

    content = place.read_bytes()
    fuzz("checkpoint of a search", content, place, read, form="tensors", count=20)


def test_a_table_of_nasbench201(fuzz: Fuzz, tmp_path: Path) -> None:
    from nas_ext.cell import NASBench201Space

    module: Any = importlib.import_module("nas_ext.benchmarks.nasbench201")
    space, place = NASBench201Space(), tmp_path / "table.csv"
    lines = ["arch,cifar10-test", *(f"{space.code(space.at(i))},{50 + i}" for i in range(20))]

    def read() -> None:
        if not place.is_file():
            raise ValueError(f"{place} is none, as `data_file` says before")
        try:
            module._accuracies(place, "cifar10-test", space)
        except ValueError as error:  # all cells would take half a second each time
            if "must have 15,625 cells, got 20" not in str(error):
                raise

    fuzz("NAS-Bench-201", "\n".join(lines).encode(), place, read, form="csv", count=20)


def test_settings_of_a_ground_truth(fuzz: Fuzz, tmp_path: Path) -> None:
    from nas_ext.ground_truth import GroundTruth, remaining

    space = {"name": "pooling-resnet", "widths": [2, 2, 2], "poolings": 1}
    truth = GroundTruth(space=space, data="digits", seeds=2, recipe=Recipe(epochs=1))
    remaining(truth, out=tmp_path)
    place = tmp_path / "ground-truth.json"

    def read() -> None:
        remaining(truth, out=tmp_path)

    fuzz("ground-truth.json", place.read_bytes(), place, read, form="json", count=10)


def test_trainings_of_a_ground_truth(fuzz: Fuzz, tmp_path: Path) -> None:
    from nas_ext.ground_truth import GroundTruth, record, remaining, train_one, write_table

    space = {"name": "pooling-resnet", "widths": [2, 2, 2], "poolings": 1}
    recipe = Recipe(epochs=1, batch_size=512)
    truth = GroundTruth(space=space, data="digits", seeds=2, recipe=recipe)
    for training in remaining(truth, out=tmp_path):
        record(train_one(truth, *training), out=tmp_path)
    place = sorted((tmp_path / "trainings").glob("*.json"))[0]

    def read() -> None:
        if not place.exists():  # a link to nowhere: it is a training that is missing
            raise ValueError(f"{place} is missing")
        write_table(truth, out=tmp_path)

    fuzz("training of a ground truth", place.read_bytes(), place, read, form="json", count=10)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    """A comparison of two searches, one of which leaves a law."""
    from nas_ext.benchmarks.measured import mini_pooling_table
    from nas_ext.comparison import compare, competitors
    from nas_ext.runs import Training

    made = Comparison(
        space={"name": "mini-pooling"},
        data="digits",
        image_size=None,
        competitors=competitors(["density-aware"]),
        seeds=(0, 1),
        training=Training(
            steps=4, batch_size=16, validation_batch_size=64, device="cpu", progress=False
        ),
    )
    folder = tmp_path_factory.mktemp("compared")
    compare(made, mini_pooling_table(), out=folder)
    return folder, made


def test_scores_of_a_comparison(fuzz: Fuzz, compared: tuple[Path, Comparison]) -> None:
    from nas_ext.benchmarks.measured import mini_pooling_table
    from nas_ext.comparison.left import judged_search, law_of, scores_of, seconds_of

    (folder, made), table = compared, mini_pooling_table()
    (competitor,) = made.competitors
    place = folder / "searches" / "density-aware" / "seed1" / "scores.json"

    def read() -> None:
        judged_search(folder, table, competitor, 1)
        scores_of(folder, competitor, 1)
        law_of(folder, competitor, 1)
        seconds_of(folder, competitor, 1)

    fuzz("scores of a comparison", place.read_bytes(), place, read, form="json", count=20)


def test_scores_of_nnis_darts(fuzz: Fuzz, tmp_path: Path) -> None:
    from nas_ext.benchmarks.measured import mini_pooling_table
    from nas_ext.comparison import Competitor
    from nas_ext.comparison.left import FORMAT, judged_search, search_folder, seconds_of

    competitor, table = Competitor(label="darts", strategy="nni-darts"), mini_pooling_table()
    place = search_folder(tmp_path, competitor, 0) / "scores.json"
    place.parent.mkdir(parents=True)
    scores = [[list(a), -0.1 * i] for i, a in enumerate(SPACE)]
    left = {"scores": scores, "pick": scores[0][0], "probabilities": {}, "seconds": 1.5}
    values = {"format": FORMAT, "competitor": competitor.described(), "steps": 4, **left}

    def read() -> None:
        judged_search(tmp_path, table, competitor, 0)
        seconds_of(tmp_path, competitor, 0)

    content = json.dumps(values).encode()
    named = place.parent.name  # without "pick" or "seconds" it is search.json that is missing
    fuzz("scores of DARTS", content, place, read, form="json", count=10, named=named)


def test_a_comparison_that_is_gone_on_with(fuzz: Fuzz, compared: tuple[Path, Comparison]) -> None:
    from nas_ext.comparison.runner import run_searches

    (folder, made), place = compared, compared[0] / "comparison.json"
    searches = [(competitor, seed) for competitor in made.competitors for seed in made.seeds]

    def begun() -> None:
        run_searches(made, searches, out=folder)

    fuzz("comparison, gone on", place.read_bytes(), place, begun, form="json", count=10)
    scores = folder / "searches" / "density-aware" / "seed0" / "scores.json"

    def finished() -> None:
        if not scores.exists():  # a link to nowhere: it is a search that is missing
            raise ValueError(f"{scores} is missing")
        run_searches(made, searches, out=folder)

    fuzz("scores, gone on", scores.read_bytes(), scores, finished, form="json", count=5)


def test_a_comparison_that_is_run_again(fuzz: Fuzz, compared: tuple[Path, Comparison]) -> None:
    again: Any = importlib.import_module("nas_ext.reproduce")
    measured: Any = importlib.import_module("nas_ext.reproduce_measured")
    place = compared[0] / "comparison.json"

    def read() -> None:
        if not place.exists():
            raise ValueError(f"{place} is missing")
        values = again.content_of(place)
        again.manifest_of(values, place)
        measured.comparison_of(compared[0], values, source=None)

    fuzz("comparison, again", place.read_bytes(), place, read, form="json", count=10)
    values = json.loads(place.read_bytes())
    scores = compared[0] / "searches" / "density-aware" / "seed1" / "scores.json"

    def left() -> None:
        if not scores.exists():
            raise ValueError(f"{scores} is missing")
        _, searches = measured.comparison_of(compared[0], values, source=None)
        for competitor, seed in searches:
            measured.same_search(compared[0], compared[0], competitor, seed, within=0.0)

    content = scores.read_bytes()
    fuzz("scores, again", content, scores, left, form="json", count=5)


def test_earlier_results_of_the_evidence(fuzz: Fuzz, tmp_path: Path) -> None:
    from nas_ext.comparison.again import FORMAT, against_shipped, read_shipped

    interval = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 12}
    ran = {"table": "mini-pooling", "first_seed": 0, "seeds": 2, "budget": 9, "training": {}}
    means = {"uniform": {"tau": interval, "regret": interval}, "random-search": {"tau": None}}
    results = {"first": {"experiment": ran, "means": means}}
    content = json.dumps({"format": FORMAT, "experiments": results}).encode()
    place = tmp_path / "result.json"

    def read() -> None:
        for one in against_shipped(results, read_shipped(tmp_path)):
            assert json.dumps(one.to_json(), allow_nan=False)

    fuzz("evidence", content, place, read, form="json", count=25, named=tmp_path.name)


def test_the_evidence_that_is_shipped_is_read() -> None:
    from nas_ext.comparison.again import read_shipped

    assert read_shipped(Path(__file__).parents[2] / "docs" / "evidence")


def test_settings_to_go_on_with(fuzz: Fuzz, run: Path, tmp_path: Path) -> None:
    module: Any = importlib.import_module("nas_ext.cli_search")
    command: Any = typer.main.get_command(app)
    words = ["--resume", "--out", str(tmp_path)]
    context = command.commands["search"].make_context("search", words)
    place, data = tmp_path / "run.json", digits()

    def read() -> None:
        begun = module._begun(context, tmp_path, {}, {})
        module._check_space(tmp_path, begun["space"], begun["arguments"], data)

    fuzz("run.json", (run / "run.json").read_bytes(), place, read, form="json", count=15)

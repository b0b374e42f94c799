"""Networks taken out of a run: JSON, timm's folder, torch.export, ONNX, and their weights."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from nni.nas.space import model_context
from timm.data.config import resolve_data_config
from torch import Tensor, nn
from typer.testing import CliRunner

from nas_ext.cli import app
from nas_ext.data import digits, loader
from nas_ext.export import Images, export
from nas_ext.found import FoundArchitecture, load_architecture
from nas_ext.results import SearchResult
from nas_ext.runs import Training, data_of, retrain_images, search_images
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import Uniform
from nas_ext.strategies.balanced_mixture import BalancedMixture
from nas_ext.supernets import load_run
from nas_ext.taking_out import found_in, inherit, take_out

DATA = digits(seed=0)
SOURCE = {"source": "digits", "seed": 0, "image_size": None}

FOUND = FoundArchitecture(
    "pooling-resnet20", {"width": 2, "num_classes": 3, "in_chs": 1}, (1, 1, 1, 0, 1, 1, 0, 1, 1)
)
IMAGES = Images(size=(1, 8, 8), mean=(0.3,), std=(0.2,), classes=("a", "b", "c"))


def some(count: int = 4) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    """Return a network whose running statistics are not the initial ones."""
    torch.manual_seed(0)
    found = FOUND.network()
    found.train()(some(16))
    return found.eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Search the digits for a short while."""
    out = tmp_path_factory.mktemp("runs") / "uniform"
    training = Training(
        steps=150, batch_size=64, validation_batch_size=200, device="cpu", progress=False
    )
    search_images(
        Uniform(seed=0), "mini-pooling", DATA, out=out, training=training, data_source=SOURCE
    )
    return out


def accuracy(judged: nn.Module) -> float:
    hits = 0
    with torch.no_grad():
        for inputs, labels in loader(DATA.val, DATA, batch_size=200, train=False):
            hits += int((judged.eval()(inputs).argmax(1) == labels).sum())
    return hits / len(DATA.val)


# The architecture as JSON.


def test_the_json_says_the_architecture_twice_and_where_it_is_from(tmp_path: Path) -> None:
    FOUND.save(tmp_path / "arch.json")
    values = json.loads((tmp_path / "arch.json").read_text())
    assert values == {
        "format": "nas-ext/architecture-1",
        "space": "pooling-resnet20",
        "space_args": {"width": 2, "num_classes": 3, "in_chs": 1},
        "arch": [1, 1, 1, 0, 1, 1, 0, 1, 1],
        "name": "[4,3,3]",
        "sample": {"pooling": "0000100100"},
        "hash": FOUND.hash,
        "origin": {},
    }
    assert load_architecture(tmp_path) == load_architecture(tmp_path / "arch.json") == FOUND


def test_a_new_process_that_has_only_the_json_rebuilds_the_network(tmp_path: Path) -> None:
    FOUND.save(tmp_path / "arch.json")
    code = (
        "import torch; from nas_ext.found import load_architecture;"
        "torch.manual_seed(5); network = load_architecture('arch.json').network().eval();"
        "x = torch.arange(128.0).reshape(2, 1, 8, 8) / 128; print(network(x).tolist())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    space = PoolingResNet.resnet20(width=2, num_classes=3, in_chs=1)
    torch.manual_seed(5)
    expected = space.network(FOUND.architecture).eval()
    x = torch.arange(128.0).reshape(2, 1, 8, 8) / 128
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), expected(x))


@pytest.mark.parametrize("left_out", ["arch", "sample", "hash", "origin", "name"])
def test_one_of_arch_and_sample_is_enough(left_out: str) -> None:
    values = {key: value for key, value in FOUND.to_json().items() if key != left_out}
    assert FoundArchitecture.from_json(values) == FOUND


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "x"}, "format of here must be 'nas-ext/architecture-1', got 'x'"),
        ({"space": "os"}, "here must name an architecture: space must be one of"),
        ({"space_args": {}}, "here must name an architecture: .*num_classes"),
        ({"space_args": {"depth": 3, "num_classes": 3, "in_chs": 1}}, r"unknown \['depth'\]"),
        ({"arch": [0, 0, 1, 1, 1, 1, 1, 1, 1]}, "sample must be that of arch"),
        ({"arch": [0, 0, 0, 1, 1, 1, 1, 1, 1]}, "architecture must exist"),
        ({"arch": "0110"}, "architecture must exist"),
        ({"arch": 3}, "here must name an architecture"),
        ({"sample": {"pooling": "0000100100", "more": 1}}, "exactly the label 'pooling'"),
        ({"hash": "0" * 12}, f"hash must be {FOUND.hash}, got '000000000000'"),
        ({"arch": None, "sample": None}, "here must be a whole architecture, it has no 'arch'"),
    ],
)
def test_what_contradicts_itself_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FoundArchitecture.from_json({**FOUND.to_json(), **changed}, source="here")


def test_the_hash_says_space_arguments_and_architecture() -> None:
    others = [
        FoundArchitecture("pooling-resnet20", {**FOUND.arguments, "width": 3}, FOUND.architecture),
        FoundArchitecture("pooling-resnet20", FOUND.arguments, (0, 0, 1, 1, 1, 1, 1, 1, 1)),
    ]
    assert len({FOUND.hash, *(other.hash for other in others)}) == 3
    again = FoundArchitecture(
        "pooling-resnet20",
        dict(reversed(list(FOUND.arguments.items()))),
        FOUND.architecture,
        {"x": 1},
    )
    assert again.hash == FOUND.hash


# Formats.


def test_timms_folder_gives_the_same_logits_and_says_the_images(tmp_path: Path) -> None:
    given = network()
    folder = export(given, FOUND, IMAGES, tmp_path / "net", to="timm")
    names = {"arch.json", "config.json", "model.safetensors"}
    assert {file.name for file in folder.iterdir()} == names
    assert [file.name for file in tmp_path.iterdir()] == ["net"]  # nothing temporary is left
    again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert torch.equal(again(some()), given(some()))
    config: Any = resolve_data_config({}, model=again)  # type: ignore[no-untyped-call]
    assert config["input_size"] == (1, 8, 8)
    assert (list(config["mean"]), list(config["std"])) == ([0.3], [0.2])
    assert json.loads((folder / "config.json").read_text())["label_names"] == ["a", "b", "c"]
    assert load_architecture(folder) == FOUND


def test_the_exported_network_is_the_frozen_one(tmp_path: Path) -> None:
    # NNI's own way of freezing a space, with the same weights.
    given = network()
    folder = export(given, FOUND, IMAGES, tmp_path / "net", to="timm")
    with model_context(FOUND.to_json()["sample"]):
        frozen: nn.Module = PoolingResNet.resnet20(width=2, num_classes=3, in_chs=1)
    frozen.load_state_dict(given.state_dict())
    again = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert torch.equal(again.eval()(some()), frozen.eval()(some()))


def test_torch_export_gives_the_same_logits_for_any_batch(tmp_path: Path) -> None:
    given = network().train()
    file = export(given, FOUND, IMAGES, tmp_path / "net.pt2", to="torch")
    assert given.training  # its mode is put back
    extra = {"nas_ext.json": ""}
    program = torch.export.load(file, extra_files=extra).module()
    for count in (1, 5):
        torch.testing.assert_close(program(some(count)), given.eval()(some(count)))
    about = json.loads(extra["nas_ext.json"])
    assert FoundArchitecture.from_json(about["architecture"]) == FOUND
    assert about["images"]["mean"] == [0.3]


def test_onnx_gives_the_same_logits_for_any_batch(tmp_path: Path) -> None:
    onnxruntime = importlib.import_module("onnxruntime")
    given = network()
    file = export(given, FOUND, IMAGES, tmp_path / "net.onnx", to="onnx")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for count in (1, 5):
        (found,) = session.run(["logits"], {"images": some(count).numpy()})
        torch.testing.assert_close(torch.from_numpy(found), given(some(count)))
    about = json.loads(session.get_modelmeta().custom_metadata_map["nas_ext"])
    assert FoundArchitecture.from_json(about["architecture"]) == FOUND


def test_onnx_without_its_packages_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)  # the import then fails
    with pytest.raises(ValueError, match=r"ONNX needs onnx, onnxscript: .*nas-ext\[onnx\]"):
        export(network(), FOUND, IMAGES, tmp_path / "net.onnx", to="onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="out must not exist yet"):
        export(network(), FOUND, IMAGES, tmp_path, to="timm")
    with pytest.raises(ValueError, match=r"out must end in \.pt2"):
        export(network(), FOUND, IMAGES, tmp_path / "net", to="torch")
    with pytest.raises(ValueError, match="to must be one of"):
        export(network(), FOUND, IMAGES, tmp_path / "net", to="pickle")  # type: ignore[arg-type]


def test_a_network_that_is_not_the_architectures_is_not_written(tmp_path: Path) -> None:
    other = FoundArchitecture(FOUND.space, FOUND.arguments, (0, 0, 1, 1, 1, 1, 1, 1, 1))
    with pytest.raises(ValueError, match="timm must give the network's logits within"):
        export(network(), other, IMAGES, tmp_path / "net", to="timm")
    assert list(tmp_path.iterdir()) == []


# Weights of a run.


def test_inherited_weights_judge_as_the_supernet_did(run: Path) -> None:
    result = SearchResult.load(run)
    line = result.best
    taken = take_out(run, weights="supernet")
    assert (taken.found.name, taken.images.classes) == (line.name, DATA.classes)
    assert taken.images.mean == DATA.mean
    # Running statistics for those of the batch: a few of 674 images change sides.
    assert accuracy(taken.network) == pytest.approx(line.accuracy, abs=0.05)
    assert accuracy(take_out(run, weights="none").network) < 0.4
    # In training mode, where both normalise with the batch, they are one function.
    loaded = load_run(run)
    loaded.supernet.activate(line.architecture)
    frozen: Any = loaded.supernet.module.model
    torch.testing.assert_close(taken.network.train()(some(8)), frozen(some(8)))


def test_an_architecture_is_named_as_in_the_ranking_or_as_the_space_reads_it(run: Path) -> None:
    assert found_in(run).name == SearchResult.load(run).best.name
    assert found_in(run, "[1,1,6]").architecture == found_in(run, "01100000").architecture
    with pytest.raises(ValueError, match="stages must be 3 positive numbers"):
        found_in(run, "[1,1,1]")
    origin = found_in(run, "[1,1,6]").origin
    ranking = SearchResult.load(run).ranking
    (accuracy_,) = [line.accuracy for line in ranking if line.name == "[1,1,6]"]
    assert (origin["strategy"], origin["validation_accuracy"]) == ("Uniform", accuracy_)


def test_retrained_weights_are_those_of_the_final_training(run: Path) -> None:
    with pytest.raises(ValueError, match="must have been retrained with seed 0"):
        take_out(run)
    result = SearchResult.load(run)
    retrained = retrain_images(
        result,
        result.best,
        data_of(result),
        out=run,
        epochs=1,
        batch_size=64,
        trials=1,
        seeds=2,
    )
    taken = take_out(run, seed=1)
    hits = 0
    with torch.no_grad():
        for inputs, labels in loader(DATA.test, DATA, batch_size=200, train=False):
            hits += int((taken.network.eval()(inputs).argmax(1) == labels).sum())
    assert hits / len(DATA.test) == pytest.approx(retrained.final.accuracies[1], abs=1e-9)


def test_an_architecture_of_a_mixture_has_the_weights_of_its_supernet(tmp_path: Path) -> None:
    training = Training(
        steps=12, batch_size=16, validation_batch_size=100, device="cpu", progress=False
    )
    strategy = BalancedMixture(models=2, seed=0)
    result = search_images(
        strategy, "mini-pooling", DATA, out=tmp_path / "x", training=training, data_source=SOURCE
    )
    for line in (result.ranking[0], result.ranking[-1]):
        taken = take_out(tmp_path / "x", line.name, weights="supernet")
        stem = taken.network.state_dict()["stem.conv.weight"]
        member: Any = strategy.weights_of(line.architecture)
        assert torch.equal(stem, member.state_dict()["stem.conv.weight"])


def test_weights_with_other_names_are_refused() -> None:
    space = PoolingResNet.mini()
    network = space.network(space.search_space.at(0))
    with pytest.raises(
        ValueError, match=r"weights must have the network's names, missing \['stem"
    ):
        inherit(network, nn.Sequential(nn.Conv2d(1, 1, 1)))


def test_unregistered_spaces_are_refused(run: Path, tmp_path: Path) -> None:
    values = json.loads((run / "search.json").read_text())
    values["space"] = {"name": "mine"}
    (tmp_path / "search.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="space 'mine' must be a registered one"):
        found_in(tmp_path)


# The command.


def test_the_command_writes_what_it_says(run: Path, tmp_path: Path) -> None:
    runner = CliRunner()

    def call(*arguments: str) -> Any:
        return runner.invoke(app, ["export", str(run), *arguments])

    out = tmp_path / "net"
    done = call("--out", str(out), "--weights", "supernet", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["architecture"]["name"] == SearchResult.load(run).best.name
    judged = timm.create_model(f"local-dir:{out}", pretrained=True)
    assert accuracy(judged) == pytest.approx(SearchResult.load(run).best.accuracy, abs=0.05)
    file = tmp_path / "arch.json"
    done = call("--out", str(file), "--format", "json", "--name", "[1,1,6]")
    assert done.exit_code == 0, done.output
    assert "[1,1,6]" in done.stdout
    assert load_architecture(file).network().num_classes == 10
    again = call("--out", str(file), "--format", "json")
    assert again.exit_code == 2
    assert "must not exist yet" in again.output

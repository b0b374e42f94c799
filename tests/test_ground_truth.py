"""Every architecture of a small space trained alone, resumably."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_ext.benchmarks.measured import measured_table
from nas_ext.files import read_json
from nas_ext.ground_truth import MANIFEST, GroundTruth, measure
from nas_ext.pooling import PoolingSpace
from nas_ext.retrain import Recipe

SPACE = {"name": "pooling-resnet", "widths": [2, 2, 2], "poolings": 1}


def truth(seeds: int = 2) -> GroundTruth:
    return GroundTruth(
        space=SPACE, data="digits", seeds=seeds, recipe=Recipe(epochs=1, batch_size=256)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("truth")
    measure(truth(), out=out)
    return out


def test_the_table_is_one_that_benchmarks_read(made: Path) -> None:
    text = (made / "ground-truth.csv").read_text(encoding="utf-8")
    space = PoolingSpace(layers=3, poolings=1, name="pooling-resnet")
    table = measured_table(text, space, name="tiny", source="here")
    assert len(table.accuracies) == 2
    assert len({seeds for seeds in table.seeds.values()}) == 2
    manifest = read_json(made / MANIFEST)
    assert manifest["settings"]["recipe"]["epochs"] == 1
    assert manifest["data"]["images"] == {"train": 674, "test": 450}
    assert set(manifest["manifest"]["versions"]) >= {"torch", "timm"}


def test_what_was_stopped_goes_on_and_ends_with_the_same_table(made: Path, tmp_path: Path) -> None:
    for file in made.rglob("*"):
        if file.is_file():
            target = tmp_path / file.relative_to(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    (tmp_path / "ground-truth.csv").unlink()
    (tmp_path / "trainings" / "00001-01.json").unlink()
    said: list[str] = []
    table = measure(truth(), out=tmp_path, say=said.append)
    assert table.read_bytes() == (made / "ground-truth.csv").read_bytes()
    assert said[0] == "3 of 4 trainings are there"
    assert len(said) == 2


def test_a_folder_with_other_settings_is_refused(made: Path) -> None:
    with pytest.raises(ValueError, match=r"settings of .* must be"):
        measure(truth(seeds=3), out=made)


def test_one_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seeds must be at least 2"):
        truth(seeds=1)

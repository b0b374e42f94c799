"""The whole study: ground truths measured again, experiments, figures, and what was shipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from nas_ext.benchmarks import Table
from nas_ext.benchmarks.measured import MeasuredTable, measured_table
from nas_ext.comparison.again import FORMAT, Again, against_shipped, read_shipped
from nas_ext.comparison.agreement import RULE, Agreement, agreement
from nas_ext.comparison.experiments import Experiment
from nas_ext.comparison.figures import write_figures
from nas_ext.comparison.left import seconds_of
from nas_ext.comparison.markdown import as_markdown
from nas_ext.comparison.metrics import Judged
from nas_ext.comparison.outcome import outcome, write_runs
from nas_ext.comparison.presets import competitors
from nas_ext.comparison.runner import Comparison, compare
from nas_ext.comparison.tables import Truth, truth
from nas_ext.files import read_json, write_json, write_text
from nas_ext.ground_truth import MANIFEST, GroundTruth, measure
from nas_ext.manifest import manifest
from nas_ext.report.comparison import write_comparison_report
from nas_ext.runs import Training

__all__ = ["Study", "run_study", "training_of"]

Say = Callable[[str], None]


def _quiet(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Study:
    """Hold what a study found: `values` is the content of `result.json`."""

    values: Mapping[str, Any]
    agreements: Mapping[str, Agreement]
    again: tuple[Again, ...]

    @property
    def agrees(self) -> bool:
        """Say whether every ground truth that was measured again agrees with the shipped one."""
        return all(found.agrees for found in self.agreements.values())


def run_study(
    experiments: Sequence[Experiment],
    *,
    out: str | Path,
    workers: int = 1,
    shipped_tables: bool = False,
    data: str | None = None,
    against: str | Path | None = None,
    say: Say = _quiet,
) -> Study:
    """Run experiments from scratch, and write what they found into a folder.

    First every ground truth is measured again, unless `shipped_tables`, and compared with the
    shipped one by `RULE`; the experiments are then judged by the new one. Searches that several
    experiments ask for are run once. All of it is resumable: the same call goes on. `data` names
    the images where they are not where the tables' manifests say. `against` is a folder with
    earlier results of this function, whose intervals the means are compared with.

    Leaves OUT/result.json, OUT/tables.md, and OUT/NAME/ with numbers, report, CSV and figures of
    each experiment as soon as it ends. Raises ValueError for two experiments of one name, and as
    `compare` and `truth`.
    """
    folder = Path(out)
    names = [one.name for one in experiments]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"experiments must be some, with a name each, got {names}")
    shipped = read_shipped(against)
    truths = {one.table: truth(one.table, data=data) for one in experiments}
    for one in experiments:  # bad competitors say so before hours of training
        _comparison(one, truths[one.table])
    agreements: dict[str, Agreement] = {}
    for name, found in list(truths.items()):
        if not shipped_tables:
            truths[name] = _measured_again(found, folder / "truths", workers=workers, say=say)
            agreements[name] = agreement(found.table, truths[name].table)
            say(f"{name}: {'agrees' if agreements[name].agrees else 'DOES NOT AGREE'}")
    results = {}
    for one in experiments:
        say(f"experiment {one.name}: {one.question}")
        results[one.name] = _run(one, truths[one.table], folder, workers=workers, say=say)
    again = against_shipped(results, shipped)
    values = {
        "format": FORMAT,
        "tables": {name: _table(found, agreements.get(name)) for name, found in truths.items()},
        "rule": RULE,
        "experiments": results,
        "again": [one.to_json() for one in again],
        "manifest": manifest(seeds=_seeds(experiments), data=None, threads=1),
    }
    write_json(folder / "result.json", values)
    write_text(folder / "tables.md", as_markdown(values))
    return Study(values, agreements, tuple(again))


def training_of(experiment: Experiment) -> Training:
    """Return how the supernets of an experiment are trained: as `nas-ext compare` does."""
    usual = Training(
        batch_size=64,
        validation_batch_size=256,
        learning_rate=0.1,
        weight_decay=5e-4,
        device="cpu",
        progress=False,
        augment=False,
    )
    return replace(usual, **{**experiment.training, "steps": experiment.budget})


def _comparison(experiment: Experiment, found: Truth) -> Comparison:
    named = competitors(experiment.competitors, space=found.space, table=found.table)
    for one in named:
        if (why := one.misfit(found.space)) is not None:
            raise ValueError(f"experiment {experiment.name}: {why}")
    first = experiment.first_seed
    return Comparison(
        space=found.space,
        data=found.data,
        image_size=found.image_size,
        competitors=named,
        seeds=tuple(range(first, first + experiment.seeds)),
        training=training_of(experiment),
    )


def _run(
    experiment: Experiment, found: Truth, folder: Path, *, workers: int, say: Say
) -> dict[str, Any]:
    made, own = _comparison(experiment, found), folder / experiment.name
    searches = folder / "searches" / _shared(experiment)
    judged: list[Judged] = compare(made, found.table, out=searches, workers=workers, say=say)
    values = outcome(found.table, judged, reference=experiment.reference)
    write_runs(own / "runs.csv", judged)
    write_figures(own, made, found.table, judged, searches=searches)
    write_comparison_report(
        own / "report.html", made, found.table, judged, reference=experiment.reference
    )
    described = {one.label: one.described() for one in made.competitors}
    seconds = [seconds_of(searches, one, seed) for one in made.competitors for seed in made.seeds]
    result = {
        "experiment": experiment.to_json(),
        "chosen_on": experiment.chosen_on,
        "competitors": described,
        "seconds": sum(seconds),
        **values,
    }
    write_json(own / "result.json", result)
    return result


def _shared(experiment: Experiment) -> str:
    """Return the folder of searches that experiments on the same ground have in common."""
    table = Path(experiment.table).stem
    given = repr((experiment.table, sorted(experiment.training.items())))
    return f"{table}-{experiment.budget}-{sha256(given.encode()).hexdigest()[:8]}"


def _measured_again(found: Truth, folder: Path, *, workers: int, say: Say) -> Truth:
    """Train every architecture of a table again, with the settings of its manifest."""
    table = found.table
    if not isinstance(table, MeasuredTable) or not table.manifest:
        raise ValueError(f"table {table.name!r} must have a manifest to be measured again")
    given = GroundTruth.from_json(table.manifest["settings"])
    place = folder / table.name
    say(f"ground truth of {table.name}: {table.space.size} architectures, {given.seeds} seeds")
    file = measure(replace(given, data=found.data), out=place, workers=workers, say=say)
    again = measured_table(
        file.read_text(encoding="utf-8"),
        table.space,
        name=table.name,
        source=f"{table.source}, measured again",
        origin=str(file),
        manifest=read_json(place / MANIFEST),
    )
    return replace(found, table=again)


def _table(found: Truth, agreed: Agreement | None) -> dict[str, Any]:
    table: Table = found.table
    known = table.manifest if isinstance(table, MeasuredTable) else {}
    return {
        "space": dict(found.space),
        "size": table.space.size,
        "source": table.source,
        "settings": known.get("settings"),
        "data": known.get("data"),
        "agreement": None if agreed is None else {**asdict(agreed), "agrees": agreed.agrees},
    }


def _seeds(experiments: Sequence[Experiment]) -> list[int]:
    seeds = {s for one in experiments for s in range(one.first_seed, one.first_seed + one.seeds)}
    return sorted(seeds)

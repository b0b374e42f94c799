"""Folders, package list and links must describe one package under one name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli

import nas_ext

ROOT = Path(__file__).resolve().parents[1]
LINKS = {"nas_ext/spaces": "../spaces", "nas_ext/strategies": "../strategies"}
FOLDERS = {
    "nas_ext": "nas_ext",
    "nas_ext.spaces": "spaces",
    "nas_ext.strategies": "strategies",
}
# What may import torch, NNI, Lightning or timm. Everything else is the core.
OUTER = {
    *("__main__", "bench", "bench_record", "cli", "cli_compare", "cli_export", "cli_fit"),
    *(
        "cli_latency",
        "cli_reproduce",
        "cli_retrain",
        "cli_search",
        "cli_spaces",
        "cli_views",
        "compare",
        "comparison",
        "data",
        "demo",
        "demo_report",
        "evaluation",
        "export",
    ),
    *(
        "first_import",
        "found",
        "ground_truth",
        "ground_truth_queue",
        "latency",
        "manifest",
        "nni",
        "oneshot",
        "out_of_memory",
        "plots",
    ),
    *(
        "random_oneshot",
        "recalibration",
        "references",
        "report",
        "reproduce",
        "reproduce_measured",
        "reproduce_searches",
        "reproduce_trainings",
        "retrain",
        "retrain_inputs",
        "run_trees",
        "runs",
    ),
    *("second_stage", "segmentation", "shifting", "space_check", "spaces", "strategies"),
    *("searching", "supernet_training", "supernets", "taking_out", "tensor_files"),
    "workers",
}

# Imports everything and prints every module's name and file. It runs where a top-level
# `strategies` could be found, so that a single wrong import would show.
IMPORT_ALL = """
import importlib, json, pkgutil, sys
import nas_ext

for module in pkgutil.walk_packages(nas_ext.__path__, "nas_ext."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps(files))
"""


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def loaded() -> dict[str, Path]:
    """Import all of nas_ext in a process of its own: each module's name and real file."""
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    files = json.loads(run.stdout.splitlines()[-1])
    return {name: Path(file).resolve() for name, file in files.items() if file}


def packages_on_disk() -> set[str]:
    """Name every folder with code by its place, links left aside."""
    found = set()
    for package, folder in FOLDERS.items():
        for place, _, names in os.walk(ROOT / folder):
            if any(name.endswith(".py") for name in names):
                below = Path(place).relative_to(ROOT / folder).parts
                found.add(".".join((package, *below)))
    return found


def test_every_folder_with_code_is_a_listed_package_and_the_other_way_round(
    project: dict[str, Any],
) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    assert listed == sorted(packages_on_disk())


@pytest.mark.parametrize(("tool", "key"), [("mypy", "files"), ("pyright", "include")])
def test_every_other_folder_with_code_is_checked_for_types(
    tool: str, key: str, project: dict[str, Any]
) -> None:
    visible = [path for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."]
    folders = {path.name for path in visible if any(path.rglob("*.py"))}
    # strategies and spaces are seen through the links; build is setuptools' own.
    assert set(project["tool"][tool][key]) == folders - {"strategies", "spaces", "build", "runs"}


def test_every_listed_package_has_an_init(project: dict[str, Any]) -> None:
    for package in project["tool"]["setuptools"]["packages"]:
        assert (ROOT.joinpath(*package.split(".")) / "__init__.py").is_file(), package


def test_the_package_list_maps_the_two_outer_folders(project: dict[str, Any]) -> None:
    assert project["tool"]["setuptools"]["package-dir"] == FOLDERS


def test_the_import_contract_names_every_module_of_the_core(project: dict[str, Any]) -> None:
    inside = {path.stem for path in (ROOT / "nas_ext").glob("[!_]*.py")}
    inside |= {path.parent.name for path in (ROOT / "nas_ext").glob("*/__init__.py")}
    contracts = project["tool"]["importlinter"]["contracts"]
    (core,) = (contract for contract in contracts if contract["type"] == "forbidden")
    assert core["source_modules"] == [f"nas_ext.{name}" for name in sorted(inside - OUTER)]


@pytest.mark.parametrize(("link", "target"), LINKS.items())
def test_a_link_is_relative_and_leads_to_its_folder(link: str, target: str) -> None:
    assert os.readlink(ROOT / link) == target
    assert (ROOT / link).resolve() == ROOT / Path(target).name


def test_git_tracks_the_links_as_links() -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "--stage", "--", *LINKS]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    # "mode object stage<tab>path"; 120000 is git's mode of a symbolic link.
    modes = {line.split("\t")[1]: line.split()[0] for line in run.stdout.splitlines()}
    assert modes == dict.fromkeys(LINKS, "120000")


@pytest.mark.parametrize("name", ["spaces", "strategies"])
def test_no_process_has_the_outer_folders_under_their_own_names(
    name: str, loaded: dict[str, Path]
) -> None:
    assert f"nas_ext.{name}" in loaded
    assert [module for module in loaded if module.split(".")[0] == name] == []


def test_no_file_of_the_project_is_loaded_under_two_names(loaded: dict[str, Path]) -> None:
    files = [file for name, file in loaded.items() if name.split(".")[0] == "nas_ext"]
    assert len(files) == len(set(files))
    ours = {ROOT / folder for folder in FOLDERS.values()}
    strangers = [
        name
        for name, file in loaded.items()
        if name.split(".")[0] != "nas_ext" and ours & set(file.parents)
    ]
    assert strangers == []


def test_the_version_is_the_one_of_the_project_file(project: dict[str, Any]) -> None:
    assert nas_ext.__version__ == project["project"]["version"]

"""lock.txt pins and hashes all that the tested stack needs; the audit says what it did."""

from __future__ import annotations

import importlib.util
import re
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest
import tomli

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"([A-Za-z0-9._-]+)==([^ ;\\]+)")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: str) -> dict[str, set[str]]:
    """Return the versions that a file pins, by package."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if match := PIN.match(line):
            found.setdefault(normal(match[1]), set()).add(match[2].strip())
    return found


@pytest.fixture(scope="module")
def audit() -> Any:
    loader = SourceFileLoader("audit", str(ROOT / ".ci" / "audit"))
    spec = importlib.util.spec_from_loader("audit", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_lock_has_the_versions_of_the_constraints() -> None:
    locked = pins("lock.txt")
    wrong = {name: v for name, v in pins("constraints.txt").items() if locked.get(name) != v}
    assert wrong == {}


def test_the_lock_holds_every_direct_dependency() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"], *extras["onnx"]]
    names = {normal(re.split(r"[\[<>=!~; ]", line)[0]) for line in wanted} - {"nas-ext"}
    assert names <= set(pins("lock.txt"))


def test_every_package_of_the_lock_has_a_hash_and_none_an_address() -> None:
    text = (ROOT / "lock.txt").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.split("\n", 1)[1])
    for block in blocks:
        first, *hashes = block.strip().splitlines()
        assert PIN.match(first), first
        assert hashes, first
        assert all(re.match(r"    --hash=sha256:[0-9a-f]{64}( \\)?$", line) for line in hashes)
    assert "://" not in text


def test_a_known_vulnerability_fails_the_audit(audit: Any) -> None:
    hole = {"id": "GHSA-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}
    packages = [{"name": "a", "version": "1", "vulns": [hole]}]
    assert audit.report(packages, {}) == 1
    assert audit.report(packages, {"CVE-1": "the part is not used"}) == 0
    assert audit.report([{"name": "a", "version": "1", "vulns": []}], {}) == 0


def test_packages_that_nobody_could_look_up_are_not_called_audited(
    audit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    skipped = [{"name": "a", "skip_reason": "Dependency not found"}]
    assert audit.report(skipped, {}) == 0
    assert capsys.readouterr().out.startswith("NOT AUDITED")


def test_every_ignored_vulnerability_has_a_reason(audit: Any) -> None:
    assert all(audit.ignored().values())

"""What a new sampler is tested with: a contract every sampler keeps, and a supernet of numbers."""

from __future__ import annotations

import atexit
import functools
import inspect
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.estimation import FloatArray
from nas_ext.samplers import Sampler

__all__ = ["FakeSupernet", "SamplerContract", "small_space"]


def small_space() -> SearchSpace:
    """Return a free product of 3 x 2 x 3 options: 18 architectures."""
    sizes = (3, 2, 3)
    names = [Choice(f"layer{i}", tuple("abc"[:n])) for i, n in enumerate(sizes)]
    return SearchSpace("small", names)


class FakeSupernet:
    """An estimator with chosen numbers: no network, no data, nothing to wait for.

    `accuracies` gives every architecture its share in [0, 1]. `logits` are `[N, S, C]`, in the
    order of the space; without them `outputs` raises. `asked` counts the architectures per method.
    """

    def __init__(
        self,
        space: SearchSpace,
        accuracies: Mapping[Architecture, float] | float = 0.5,
        *,
        logits: FloatArray | None = None,
    ) -> None:
        self.space = space
        self.values = (
            accuracies if isinstance(accuracies, Mapping) else dict.fromkeys(space, accuracies)
        )
        self.logits = logits
        self.asked = {"reward": 0, "accuracies": 0, "outputs": 0, "reinitialise": 0}

    def reward(self, architecture: Architecture) -> float:
        self.asked["reward"] += 1
        return self.values[architecture]

    def accuracies(
        self, architectures: Sequence[Architecture], *, batches: int | None = None
    ) -> FloatArray:
        self.asked["accuracies"] += len(architectures)
        return np.asarray([self.values[a] for a in architectures], dtype=np.float64)

    def outputs(self, architectures: Sequence[Architecture]) -> FloatArray:
        if self.logits is None:
            raise ValueError("logits must be given to FakeSupernet before outputs are asked")
        self.asked["outputs"] += len(architectures)
        return self.logits[[self.space.index(a) for a in architectures]]

    def reinitialise(self) -> None:
        self.asked["reinitialise"] += 1


class SamplerContract:
    """Inherit this in a test class and implement `make`; pytest then runs the contract.

    `make` must build the sampler from nothing but its arguments and constants.
    """

    space = small_space()

    def make(self, rng: np.random.Generator) -> Sampler:
        """Return a fresh sampler over `self.space`."""
        raise NotImplementedError

    def drive(self, sampler: Sampler, steps: int) -> list[tuple[Architecture, ...]]:
        """Ask `steps` times, telling each architecture a reward that depends on it alone."""
        asked = []
        for _ in range(steps):
            asked.append(sampler.ask())
            for architecture in asked[-1]:
                sampler.tell(architecture, self.reward(architecture))
        return asked

    def reward(self, architecture: Architecture) -> float:
        """Return a share in [0, 1] that grows with the place in the space."""
        return self.space.index(architecture) / max(1, self.space.size - 1)

    def _sampler(self, seed: int = 0) -> Sampler:
        return self.make(np.random.default_rng(seed))

    def test_it_draws_architectures_of_its_space(self) -> None:
        for architectures in self.drive(self._sampler(), 50):
            assert architectures
            assert all(architecture in self.space for architecture in architectures)

    def test_the_same_seed_gives_the_same_draws(self) -> None:
        assert self.drive(self._sampler(7), 40) == self.drive(self._sampler(7), 40)

    def test_another_seed_gives_other_draws(self) -> None:
        assert self.drive(self._sampler(7), 40) != self.drive(self._sampler(8), 40)

    def test_its_state_is_plain_and_restores_the_next_draws(self) -> None:
        first = self._sampler(3)
        self.drive(first, 30)
        state = json.loads(json.dumps(first.state_dict()))
        second = self._sampler(99)
        second.load_state_dict(state)
        assert self.drive(second, 30) == self.drive(first, 30)
        assert second.state_dict() == first.state_dict()

    def test_it_takes_a_reward_for_an_architecture_it_did_not_draw(self) -> None:
        sampler = self._sampler()
        for architecture in self.space:
            sampler.tell(architecture, 0.5)
        self.drive(sampler, 5)

    def test_it_refuses_a_reward_that_is_no_share(self) -> None:
        sampler = self._sampler()
        architecture = sampler.ask()[0]
        for wrong in (float("nan"), float("inf"), -0.1, 1.1, 91.5):
            before = sampler.state_dict()
            try:
                sampler.tell(architecture, wrong)
            except ValueError as error:
                assert "reward must be" in str(error)
            else:
                raise AssertionError(f"a reward of {wrong} was taken")
            assert sampler.state_dict() == before

    def test_it_refuses_an_architecture_that_does_not_exist(self) -> None:
        sampler = self._sampler()
        try:
            sampler.tell((99,) * len(self.space.choices), 0.5)
        except ValueError as error:
            assert "architecture must" in str(error)
        else:
            raise AssertionError("an architecture outside the space was taken")

    def test_its_candidates_exist_and_differ(self) -> None:
        sampler = self._sampler()
        self.drive(sampler, 60)
        candidates = sampler.candidates(5)
        assert 1 <= len(candidates) <= 5
        assert len(set(candidates)) == len(candidates)
        assert all(architecture in self.space for architecture in candidates)

    def test_another_process_draws_the_same(self) -> None:
        drawn = _elsewhere().draws(inspect.getfile(type(self)), type(self).__name__)
        here = self.drive(self._sampler(11), 40)
        assert [tuple(tuple(a) for a in asked) for asked in drawn] == here


class _Elsewhere:
    """Another Python process, which runs contracts on request: one line of JSON each way.

    It is started once and kept, since most of what it costs is its imports.
    """

    script = """
import importlib.util, json, sys
for line in sys.stdin:
    file, name = json.loads(line)
    spec = importlib.util.spec_from_file_location("contract", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    test = getattr(module, name)()
    print(json.dumps(test.drive(test._sampler(11), 40)), flush=True)
"""

    def __init__(self) -> None:
        command = [sys.executable, "-c", self.script]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the process, and close its pipes."""
        self.process.kill()
        self.process.communicate()

    def draws(self, file: str, name: str) -> list[Any]:
        """Return what the sampler of a test class draws over there."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the other process has no pipes")
        self.process.stdin.write(json.dumps([file, name]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            _elsewhere.cache_clear()
            raise AssertionError(f"the other process ended with {self.process.wait()}")
        drawn: list[Any] = json.loads(answer)
        return drawn


@functools.cache
def _elsewhere() -> _Elsewhere:
    return _Elsewhere()

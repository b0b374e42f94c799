"""Checks of the arguments that model spaces and their networks share."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["check_positive", "check_share", "check_widths"]


def check_positive(**values: object) -> None:
    """Raise ValueError, with the argument's name, for what is no positive integer."""
    for name, value in values.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")


def check_widths(widths: Sequence[int]) -> None:
    """Raise ValueError for channels that are none, or not all positive integers."""
    if not widths or any(type(width) is not int or width < 1 for width in widths):
        raise ValueError(f"widths must be positive integers, got {list(widths)}")


def check_share(name: str, value: float) -> None:
    """Raise ValueError, with the argument's name, for what is no share below one."""
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must lie in [0, 1), got {value}")

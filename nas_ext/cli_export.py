"""The command that takes a network out of a run: `export`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

screen = Console()


def register(app: typer.Typer, reported: Callable[[Any], Any]) -> None:
    """Add the command to the application; `reported` turns bad input into one line."""
    app.command()(reported(export))


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a search.")],
    out: Annotated[Path, typer.Option(help="New folder for timm, new file for the others.")],
    format_: Annotated[
        Literal["timm", "onnx", "torch", "json"],
        typer.Option("--format", help="timm's local-dir, ONNX, torch.export, architecture only."),
    ] = "timm",
    name: Annotated[
        str | None, typer.Option(help="Architecture, as in the ranking; the best unless given.")
    ] = None,
    weights: Annotated[
        Literal["retrained", "supernet", "none"],
        typer.Option(help="Of the final training, of the supernet, or fresh ones."),
    ] = "retrained",
    seed: Annotated[int, typer.Option(min=0, help="Which final training; of fresh weights.")] = 0,
    data: Annotated[str | None, typer.Option(help="Where the images are now.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, nothing else.")] = False,
) -> None:
    """Take a network out of a run, as an ordinary one that needs no NNI.

    What is written is read again and must give the same logits. Example: nas-ext export
    runs/photos --format timm --out photos-net, then timm.create_model("local-dir:photos-net",
    pretrained=True) after import nas_ext.spaces.
    """
    from nas_ext.export import export as write
    from nas_ext.taking_out import found_in, take_out

    if format_ == "json":
        found = found_in(run, name)
        if out.exists():
            raise ValueError(f"--out must not exist yet, got {out}")
        found.save(out)
    else:
        taken = take_out(run, name, weights=weights, seed=seed, source=data)
        found = taken.found
        write(taken.network, found, taken.images, out, to=format_)
    if as_json:
        said = {"out": str(out), "format": format_, "architecture": found.to_json()}
        typer.echo(json.dumps(said, indent=1))
        return
    what = "" if format_ == "json" else f" with weights: {weights}"
    screen.print(f"{found.name}{what}. {out}", markup=False, highlight=False, soft_wrap=True)

from __future__ import annotations

from pathlib import Path

import click

from ..errors import UsageError
from . import options, print_json, printable


@click.group(short_help="List, show and export model bundles.")
def command() -> None:
    """Model bundles: what the codec's networks know."""


@command.command("list")
@options.as_json
def list_models(as_json: bool) -> None:
    """The bundles that come with the package."""
    from .. import models

    rows = [
        {
            "name": b.name,
            "hash": b.hash.hex(),
            "bytes": b.path.stat().st_size,
            "default": b.path.stem == models.DEFAULT,
        }
        for b in models.bundled()
    ]
    if as_json:
        print_json({"models": rows})
        return
    chosen = models.DIAL | {f"--tune {tune}": name for tune, name in models.TUNED.items()}
    for row in rows:
        mark = "".join(f"  ({k})" for k, name in chosen.items() if name == row["name"])
        click.echo(
            f"{printable(str(row['name'])):20} {str(row['hash'])[:16]} "
            f"{row['bytes']:>9} bytes{mark}"
        )


@command.command()
@click.argument("model", metavar="NAME|PATH", required=False)
@options.as_json
def show(model: str | None, as_json: bool) -> None:
    """Configuration and card of a bundle."""
    from .. import models

    bundle = models.find(model)
    facts = {
        "name": bundle.name,
        "hash": bundle.hash.hex(),
        "path": str(bundle.path),
        "bytes": bundle.path.stat().st_size,
        "tokenizer": bundle.config.to_dict(),
        "card": bundle.card,
    }
    if bundle.generator_config is not None:
        facts["generator"] = bundle.generator_config.to_dict()
    if bundle.transformer is not None:
        facts["transformer"] = bundle.transformer
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        click.echo(f"{key:10} {printable(str(value))}")


@command.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="Bundle to write."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Training folder from whose clips the entropy model takes its first counts.",
)
@click.option(
    "--intra",
    type=click.Path(path_type=Path),
    help="Run to take the networks of intra pictures from, for one of part inter.",
)
@click.option(
    "--tokenizer",
    metavar="NAME|PATH",
    help="For the run of a generator or transformer: the bundle that it is for.",
)
@click.option(
    "--generator",
    metavar="NAME|PATH",
    help="For the run of a tokenizer: bundle whose generator is kept.",
)
@click.option("--clips", type=click.IntRange(1), default=400, show_default=True, help="How many.")
@options.overwrite
@options.talk
def export(
    run: Path,
    out: Path,
    data: Path | None,
    intra: Path | None,
    tokenizer: str | None,
    generator: str | None,
    clips: int,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Turn the training run in folder RUN into a bundle for 'compress --model'.

    Of the run of a generator or transformer: the bundle of --tokenizer with that beside it."""
    from .. import models
    from ..files import check_output

    check_output(out, overwrite)
    if tokenizer is None:
        from ..train.export import export as write

        kept = models.find(generator) if generator else None
        write(run, out, data, clips, intra=intra, generator=kept)
    else:
        from ..train.generator import add_generator
        from ..train.masked import RESULT, add_transformer

        if data is not None or intra is not None or generator is not None:
            raise UsageError("--data, --intra and --generator: not for the run of a generator")
        add = add_transformer if (run / RESULT).exists() else add_generator
        add(models.find(tokenizer), run, out)
    if not quiet:
        click.echo(f"{out}: {out.stat().st_size} bytes")


@command.command("onnx")
@click.argument("model", metavar="NAME|PATH")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the files.",
)
@options.overwrite
@options.as_json
@options.talk
def onnx(model: str, out: Path, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Write the networks of a bundle's tokenizer as ONNX files, each checked against torch.

    Needs pip install 'neurocodec[onnx]'."""
    from .. import models
    from ..models.onnx_export import export_onnx

    written = export_onnx(models.find(model), out, overwrite)
    if as_json:
        print_json({"files": {str(path): off for path, off in written.items()}})
    elif not quiet:
        for path, off in written.items():
            name = printable(str(path))
            click.echo(f"{name}: {path.stat().st_size} bytes, within {off:.1e} of torch")

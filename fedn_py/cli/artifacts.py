"""``package`` and ``model``: what training works with, and what comes of it."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedn_py.cli.exits import Exit
from fedn_py.cli.options import JsonOption, ProfileOption, group, open_network
from fedn_py.cli.output import hint, instant, measures, note, print_data, print_facts, print_table, short, size

if TYPE_CHECKING:
    from fedn_py.api import Network

packages = group("Compute packages: the training code that clients run.")
models = group("The model trail: seed models and what rounds made of them.")


@packages.command("create")
def create_package(
    folder: Annotated[Path, typer.Argument(help="Folder with fedn.yaml.", exists=True, file_okay=False)] = Path(),
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: NAME.tar.gz beside it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Pack a folder into a compute package; the same files give the same digest.

    Example: fedn-py package create my-project -o my-project.tar.gz
    """
    from fedn_py.execution.packing import create_package as pack

    folder = folder.resolve()
    file = out or folder.parent / f"{folder.name}.tar.gz"
    digest = pack(folder, file)
    data = {"file": str(file), "digest": digest, "size": file.stat().st_size}

    def human() -> None:
        print_facts([("file", file), ("digest", digest), ("size", size(file.stat().st_size))])
        hint(f"fedn-py package validate {file}")

    print_data(data, human, as_json=as_json)


@packages.command("validate")
def validate_package(
    source: Annotated[Path, typer.Argument(help="Package file, or the folder of one.", exists=True)],
    data: Annotated[Path | None, typer.Option(help="Data to train on. Default: prepare.py makes some.")] = None,
    model: Annotated[Path | None, typer.Option(help="Seed model. Default: startup makes one.")] = None,
    parameters: Annotated[str, typer.Option(metavar="JSON", help="Object handed to the package.")] = "{}",
    as_json: JsonOption = False,
) -> None:
    """Check a package and run its startup, train and validate here, as a client would.

    Example: fedn-py package validate my-project
    """
    steps, passed = asyncio.run(_try(source.resolve(), _resolved(data), _resolved(model), parameters))
    print_data({"passed": passed, "steps": steps}, lambda: None, as_json=as_json)
    if not passed:
        raise typer.Exit(Exit.FAILED)
    note("The package is sound.")
    hint("fedn-py package upload FILE")


@packages.command("upload")
def upload_package(
    file: Annotated[Path, typer.Argument(help="Package file (.tar.gz).", exists=True, dir_okay=False)],
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a compute package to the reducer, which checks it.

    Example: fedn-py package upload my-project.tar.gz
    """
    from fedn_py.cli.progress import transferring

    network = open_network(profile)
    with transferring("package") as tell:
        view = network.upload_package(file, tell)
    print_data(view, lambda: print(view.digest), as_json=as_json)
    hint(f"fedn-py session start --package {short(view.digest)} --model FILE|DIGEST --rounds 5 --wait")


@packages.command("list")
def list_packages(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List the compute packages at the reducer, the newest first.

    Example: fedn-py package list
    """
    views = open_network(profile).packages()

    def human() -> None:
        rows = [(v.name, v.version, size(v.size), v.files, instant(v.created_at), short(v.digest)) for v in views]
        columns = ("name", "version", "size", "files", "created", "digest")
        print_table(columns, rows, empty="No package yet: fedn-py package upload FILE")

    print_data(views, human, as_json=as_json)


@packages.command("files")
def list_files(
    package: Annotated[str, typer.Argument(help="Its name (the newest of it), sha256 or its first letters.")],
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the files of a compute package at the reducer.

    Example: fedn-py package files digits
    """
    from fedn_py.cli.finding import find_package

    network = open_network(profile)
    views = network.package_files(find_package(network, package))

    def human() -> None:
        print_table(("size", "file"), [(size(v.size), v.path) for v in views], empty="It has no files.")

    print_data(views, human, as_json=as_json)


@models.command("upload")
def upload_model(
    file: Annotated[Path, typer.Argument(help="safetensors file.", exists=True, dir_okay=False)],
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a seed model to the reducer, which checks it.

    Example: fedn-py model upload seed.safetensors
    """
    from fedn_py.cli.progress import transferring

    network = open_network(profile)
    with transferring("model") as tell:
        view = network.upload_seed_model(file, tell)
    print_data(view, lambda: print(view.digest), as_json=as_json)
    hint(f"fedn-py session start --package FILE|DIGEST --model {short(view.digest)} --rounds 5 --wait")


@models.command("list")
def list_models(
    session: Annotated[str | None, typer.Option(help="Only this session's: id, number or name.")] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List models, the newest first.

    Example: fedn-py model list
    """
    from fedn_py.cli.finding import find_session

    network = open_network(profile)
    views = network.models(find_session(network, session).id if session else None)

    def human() -> None:
        rows = [
            (
                short(v.session) or "(seed)",
                v.number,
                size(v.size),
                v.samples,
                measures(v.metrics.items()),
                instant(v.created_at),
                short(v.digest),
            )
            for v in views
        ]
        columns = ("session", "round", "size", "samples", "metrics", "created", "digest")
        print_table(columns, rows, empty="No model yet: fedn-py model upload FILE")

    print_data(views, human, as_json=as_json)


@models.command("download")
def download_model(
    digest: Annotated[
        str | None,
        typer.Argument(help="sha256 or its first letters. Default: the newest session's newest model."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: DIGEST.safetensors here.")] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model, checked against its digest.

    Example: fedn-py model download -o model.safetensors
    """
    from fedn_py.cli.progress import transferring

    network = open_network(profile)
    wanted = _model_meant(network, digest)
    file = out or Path(f"{short(wanted)}.safetensors")
    with transferring("model") as tell:
        network.download_model(wanted, file, tell)
    data = {"file": str(file), "digest": wanted, "size": file.stat().st_size}
    print_data(data, lambda: print(file), as_json=as_json)


@models.command("tensors")
def list_tensors(
    digest: Annotated[
        str | None,
        typer.Argument(help="sha256 or its first letters. Default: the newest session's newest model."),
    ] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a model's tensors and what their numbers are like.

    Example: fedn-py model tensors
    """
    network = open_network(profile)
    views = network.model_tensors(_model_meant(network, digest))

    def human() -> None:
        rows = [
            (
                v.name, v.dtype, "x".join(map(str, v.shape)) or "scalar", size(v.size), v.minimum, v.maximum, v.mean,
                v.deviation, f"{v.zeros:.1%}", v.not_finite,
            )
            for v in views
        ]  # fmt: skip
        columns = ("tensor", "type", "shape", "size", "least", "most", "mean", "deviation", "zeros", "not finite")
        print_table(columns, rows, empty="It has no tensors.")

    print_data(views, human, as_json=as_json)


@models.command("verify")
def verify_models(
    session: Annotated[str | None, typer.Option(help="Only this session's: id, number or name.")] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk the trail of models, and have the reducer read every model and package to its end.

    Exit 1 unless each round's model names the one that it was made from, and the store has all of them as they were.

    Example: fedn-py model verify
    """
    from fedn_py.cli.progress import transferring
    from fedn_py.cli.trail import verify_trail

    with transferring("verify") as tell:
        found = verify_trail(open_network(profile), session, tell)
    print_data(found, lambda: print(f"{found.models} models, {found.packages} packages"), as_json=as_json)
    for fault in found.faults:
        note(f"wrong: {fault}")
    if found.faults:
        raise typer.Exit(Exit.FAILED)
    note("The trail is whole, and every object of it is what its name says.")


def _model_meant(network: "Network", digest: str | None) -> str:
    """Return the digest of the model that is given, without one that of the newest session's newest model."""
    from fedn_py.cli.finding import NotFound, find_model, find_session

    if digest is not None:
        return find_model(network, digest).digest
    newest = find_session(network, None)
    if newest.final_model is None:
        raise NotFound(f"session {newest.name} has made no model yet", remedy="Wait: fedn-py session wait.")
    return newest.final_model


def _resolved(path: Path | None) -> Path | None:
    return path.resolve() if path else None


async def _try(
    source: Path, data: Path | None, model: Path | None, parameters: str
) -> tuple[list[dict[str, object]], bool]:
    import tempfile

    from fedn_py.execution.trial import try_package

    steps: list[dict[str, object]] = []
    passed = True
    with tempfile.TemporaryDirectory(prefix="fedn-py-") as scratch:
        trial = try_package(
            source,
            Path(scratch),
            data_path=data,
            seed_model=model,
            parameters=parameters,
        )
        async for step in trial:
            passed = step.fault is None
            outcome = step.result if step.fault is None else f"FAILED: {step.fault.message}"
            note(f"{step.name:<18} {step.seconds:6.1f} s  {outcome}")
            if step.fault is not None:
                for line in step.log.splitlines():
                    print(f"    {line}", file=sys.stderr)
                note(f"  what to do: {step.fault.remedy}" if step.fault.remedy else "")
            steps.append(
                {
                    "name": step.name,
                    "seconds": step.seconds,
                    "result": step.result,
                    "fault": step.fault.message if step.fault else None,
                    "log": step.log,
                }
            )
    return steps, passed

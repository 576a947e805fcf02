"""``operator``: the key of a network's masked rounds, with which it is said who is in them and how safe they are."""

import secrets
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedn_py.cli.options import JsonOption, group
from fedn_py.cli.output import hint, instant, note, print_data, print_facts

if TYPE_CHECKING:
    from fedn_py.protocol.masked.certificates import OperatorSecret, Policy
    from fedn_py.protocol.masked.signing import Signed

operators = group("The operator's key of masked rounds: certificates for servers, and the network's policy.")

DAY_S = 86_400.0
_POLICY_DAYS = 365.0

OperatorKeyOption = Annotated[
    Path, typer.Option("--operator-key", metavar="FILE", help="What fedn-py operator init wrote.")
]


class ServerRole(StrEnum):
    """What a server is."""

    reducer = "reducer"
    combiner = "combiner"


class ReopenName(StrEnum):
    """What lets a client send the same work again."""

    strict = "strict"
    reducer = "reducer"


class MetricsName(StrEnum):
    """How far metrics may be asked for."""

    none = "none"
    sum = "sum"
    client = "client"


@operators.command("init")
def make_operator(
    out: Annotated[Path, typer.Option("--out", "-o", help="File for the key, readable by you alone.")] = Path(
        "operator.key"
    ),
    as_json: JsonOption = False,
) -> None:
    """Make a network's operator key, once. Whoever has it can make clients: keep it off the servers, and keep a copy.

    Example: fedn-py operator init -o operator.key
    """
    from fedn_py.protocol.masked.certificates import OperatorSecret
    from fedn_py.runtime.credential_files import write_operator

    operator = OperatorSecret(secrets.token_bytes(32), secrets.token_bytes(16), secrets.token_bytes(32))
    write_operator(out, operator)
    data = {"file": str(out), **_of_operator(operator)}
    print_data(data, lambda: print_facts(data.items()), as_json=as_json)
    note("Keep this file off every server: whoever has it can make clients and servers. Keep a copy where it is safe.")
    hint(f"fedn-py operator certify reducer reducer --operator-key {out}")


@operators.command("certify")
def certify(
    *,
    role: Annotated[ServerRole, typer.Argument(help="What the server is.")],
    name: Annotated[str, typer.Argument(help="The server's name, as in its settings.")],
    operator_key: OperatorKeyOption,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File for key and certificate. Default: NAME.credential.")
    ] = None,
    days: Annotated[float, typer.Option(min=0.001, help="Days until it expires.")] = 365.0,
    as_json: JsonOption = False,
) -> None:
    """Make the key that a reducer or combiner signs masked rounds with, and certify it.

    The file holds a secret; carry it to that server alone.

    Example: fedn-py operator certify combiner combiner-1 --operator-key operator.key -o combiner-1.credential
    """
    from fedn_py.identity import parse_name
    from fedn_py.protocol.masked.issuing import issue_server
    from fedn_py.runtime.credential_files import read_operator, write_server

    file = out or Path(f"{name}.credential")
    credential = issue_server(
        read_operator(operator_key),
        server_secret=secrets.token_bytes(32),
        role=role.value,
        name=parse_name(name),
        not_after=_in_days(days),
    )
    write_server(file, credential)
    _print_said({"file": str(file), **_of_server(file)}, as_json=as_json)
    key = "masking.credential_file" if role is ServerRole.reducer else "masking_credential_file"
    hint(f"carry {file} to the {role.value} and name it in its settings: {key}")


@operators.command("policy")
def make_policy(
    *,
    operator_key: OperatorKeyOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="File for the signed policy.")] = Path("policy.signed"),
    previous: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The last policy; what is not given here stays as it is there.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0.001, help="Days until it ends; 365 at first. No round is made after it.")
    ] = None,
    allow_plain: Annotated[
        bool | None,
        typer.Option(
            "--allow-plain/--masked-only", help="Whether plain rounds may be asked for; masked only at first."
        ),
    ] = None,
    g_min: Annotated[int | None, typer.Option(min=2, help="Fewest clients in one sum; 3 at first.")] = None,
    k_min: Annotated[
        int | None, typer.Option(min=2, max=255, help="Fewest clients that hold the masks of a sum; 2 at first.")
    ] = None,
    r_min: Annotated[
        int | None, typer.Option(min=1, max=255, help="Fewest holders of each part of the masks; 1 at first.")
    ] = None,
    n_max_max: Annotated[int | None, typer.Option(min=1, help="Most clients in one cell; 4096 at first.")] = None,
    clip_min: Annotated[
        float | None, typer.Option(help="Least bound that updates are clipped to; 1e-6 at first.")
    ] = None,
    clip_max: Annotated[
        float | None, typer.Option(help="Largest bound that updates are clipped to; 1e6 at first.")
    ] = None,
    weight_cap_max: Annotated[
        int | None, typer.Option(min=1, help="Most that the weight of a client may be; 1048576 at first.")
    ] = None,
    n_draw_min: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Fewest clients that holders are drawn from; 1 at first. With more than 8 clients in a cell set it "
            "near the usual size of one: a low floor lets the reducer draw for few, and so make everybody eligible.",
        ),
    ] = None,
    reopen: Annotated[
        ReopenName | None,
        typer.Option(help="What lets a client send work again: strict, or the reducer's word; reducer at first."),
    ] = None,
    rework_max: Annotated[
        int | None, typer.Option(min=0, help="Most times that a client works on one model again; 20 at first.")
    ] = None,
    metrics: Annotated[
        MetricsName | None,
        typer.Option(help="Most that metrics may be asked for: none, in sums, by client; sum at first."),
    ] = None,
    revoke_token: Annotated[
        list[str] | None, typer.Option(metavar="HEX", help="Id of a join credential, with all its clients.")
    ] = None,
    revoke_client: Annotated[list[str] | None, typer.Option(metavar="HEX", help="Id of a client.")] = None,
    revoke_server: Annotated[list[str] | None, typer.Option(metavar="HEX", help="Key of a server.")] = None,
    new_epoch: Annotated[
        bool,
        typer.Option(
            "--new-epoch",
            help="Draw committees from new random bytes, and let each client take the next session's number at its "
            "word: for clients that were away for many sessions. Between sessions.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Sign what masked rounds may never be, and who is out. Clients refuse an older policy than one they have seen.

    The first policy is version 1. Every later one is made from the last by --previous: a version higher, with what is
    given here changed and everything revoked before still revoked. Carry it to the reducer (masking.policy_file).

    Example: fedn-py operator policy --operator-key operator.key --previous policy.signed --g-min 8 -o policy.signed
    """
    from fedn_py.protocol.masked.issuing import sign_policy
    from fedn_py.runtime.credential_files import read_operator, read_policy, write_policy

    replaces = previous is not None and out.exists() and out.samefile(previous)
    if out.exists() and not replaces:
        raise typer.BadParameter(f"{out} exists already; make the one after it with --previous {out}")
    operator = read_operator(operator_key)
    policy = _begun(operator, None if previous is None else read_policy(previous), days)
    given = {
        "g_min": g_min,
        "k_min": k_min,
        "r_min": r_min,
        "n_max_max": n_max_max,
        "clip_min": clip_min,
        "clip_max": clip_max,
        "weight_cap_max": weight_cap_max,
        "n_draw_min": n_draw_min,
        "reopen": None if reopen is None else reopen.value,
        "rework_max": rework_max,
        "metrics": None if metrics is None else metrics.value,
        "modes": None if allow_plain is None else _modes(plain=allow_plain),
        "epoch_seed": secrets.token_bytes(32) if new_epoch else None,
        "revoked_tokens": _with(policy.revoked_tokens, revoke_token, 16, "--revoke-token"),
        "revoked_clients": _with(policy.revoked_clients, revoke_client, 32, "--revoke-client"),
        "revoked_servers": _with(policy.revoked_servers, revoke_server, 32, "--revoke-server"),
    }
    policy = replace(policy, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    _check(policy)
    try:
        signed = sign_policy(operator, policy)
    except ValueError as fault:
        raise typer.BadParameter(str(fault)) from fault
    write_policy(out, signed, replace=replaces)
    _print_said({"file": str(out), **_of_policy(policy)}, as_json=as_json)
    hint(f"carry {out} to the reducer and name it in its settings: masking.policy_file")


@operators.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="An operator key, credential, policy or token file.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a file says, never its secrets. A file whose signature does not fit is refused.

    Example: fedn-py operator show policy.signed
    """
    from fedn_py.protocol.masked.certificates import Policy
    from fedn_py.protocol.masked.signing import read_signed
    from fedn_py.runtime.credential_files import kind_of, read_operator, read_policy

    match kind_of(file):
        case "operator":
            said = {"holds": "operator key", **_of_operator(read_operator(file))}
        case "server":
            said = {"holds": "server credential", **_of_server(file)}
        case "policy":
            signed = read_policy(file)
            policy = _of_policy(read_signed(signed, Policy))
            said = {"holds": "policy", "operator_key": signed.signer.hex(), **policy}
        case _:
            said = {"holds": "token", **_of_token(file)}
    _print_said(said, as_json=as_json)


# ---- policies


def _begun(operator: "OperatorSecret", last: "Signed | None", days: float | None) -> "Policy":
    """Return the first policy, or the one after the last, with its end as it is asked for."""
    from fedn_py.protocol.masked.issuing import first_policy, next_policy

    if last is None:
        return first_policy(operator, _in_days(_POLICY_DAYS if days is None else days))
    policy = next_policy(operator, last)
    return policy if days is None else replace(policy, not_after=_in_days(days))


def _check(policy: "Policy") -> None:
    if policy.not_after <= time.time():
        raise typer.BadParameter(
            f"the policy ended on {instant(policy.not_after)}; say until when", param_hint="--days"
        )
    if not 0 < policy.clip_min <= policy.clip_max:
        raise typer.BadParameter(
            f"no bound is from {policy.clip_min:g} to {policy.clip_max:g}", param_hint="--clip-min, --clip-max"
        )


def _modes(*, plain: bool) -> tuple[str, ...]:
    from fedn_py.masking.schemes import PET
    from fedn_py.protocol.masked.issuing import PLAIN

    return (PET, PLAIN) if plain else (PET,)


def _with(before: tuple[bytes, ...], more: list[str] | None, size: int, option: str) -> tuple[bytes, ...]:
    """Return what is revoked: nothing that was ever comes off the list."""
    return tuple(dict.fromkeys((*before, *(_from_hex(text, size, option) for text in more or ()))))


def _from_hex(text: str, size: int, option: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size:
        raise typer.BadParameter(f"{text[:80]!r} must be {2 * size} hex digits", param_hint=option)
    return value


def _in_days(days: float) -> int:
    return int(time.time() + days * DAY_S)


# ---- what is shown


def _print_said(said: dict[str, Any], *, as_json: bool) -> None:
    shown = {name: _for_people(name, value) for name, value in said.items()}
    print_data(said, lambda: print_facts(shown.items()), as_json=as_json)


def _for_people(name: str, value: Any) -> Any:
    if name == "not_after":
        return instant(value)
    return ", ".join(value) if isinstance(value, list) else value


def _of_operator(operator: "OperatorSecret") -> dict[str, Any]:
    from fedn_py.protocol.masked import issuing

    return {"operator_key": issuing.operator_key(operator).hex(), "deployment": operator.deployment.hex()}


def _of_server(file: Path) -> dict[str, Any]:
    from fedn_py.protocol.masked.certificates import ServerCert
    from fedn_py.protocol.masked.signing import read_signed
    from fedn_py.runtime.credential_files import read_server

    credential = read_server(file)
    cert = read_signed(credential.certificate, ServerCert, signer=credential.operator_key)
    return {
        "role": cert.role,
        "name": cert.name,
        "server_key": cert.server_key.hex(),
        "not_after": cert.not_after,
        "operator_key": credential.operator_key.hex(),
        "deployment": credential.deployment.hex(),
    }


def _of_policy(policy: "Policy") -> dict[str, Any]:
    from dataclasses import fields

    return {field.name: _plain(getattr(policy, field.name)) for field in fields(policy)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def _of_token(file: Path) -> dict[str, Any]:
    from fedn_py.runtime.credential_files import read_token_file

    join = read_token_file(file).join
    if join is None:
        return {"masked_rounds": False}
    from fedn_py.protocol.masked.issuing import token_of

    cert = token_of(join)
    return {
        "masked_rounds": True,
        "site": cert.site,
        "join_id": cert.token_id.hex(),
        "uses": cert.uses,
        "not_after": cert.not_after,
        "operator_key": join.operator_key.hex(),
        "deployment": join.deployment.hex(),
    }

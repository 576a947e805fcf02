"""``token`` and ``certificate``: who may join, and how they know each other."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedn_py.cli.options import JsonOption, ProfileOption, group, open_network
from fedn_py.cli.output import hint, instant, note, print_data, print_facts, print_table

if TYPE_CHECKING:
    from fedn_py.protocol.masked.certificates import JoinCredential

tokens = group("Tokens: what lets clients, combiners and people in.")
certificates = group("The network's own certificate authority.")

DAY_S = 86_400.0


class RoleName(StrEnum):
    """What a token is for."""

    admin = "admin"
    viewer = "viewer"
    combiner = "combiner"
    client = "client"


@tokens.command("create")
def create_token(
    *,
    role: Annotated[RoleName, typer.Option(help="What it is for.")],
    label: Annotated[str, typer.Option(help="What people call it, such as the site's name.")],
    days: Annotated[float, typer.Option(min=0.001, help="Days until it expires.")] = 365.0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it to a file only you can read.")] = None,
    operator_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What fedn-py operator init wrote: lets the site's clients take part in masked rounds."
        ),
    ] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token. It is shown once and kept nowhere.

    For masked rounds, make a client's token where the operator's key is: the file then also holds a join credential,
    which no server ever sees. It is good for one client; a site with several gets a token for each, of the same label.

    Example: fedn-py token create --role client --label hospital-a --operator-key operator.key -o hospital-a.token
    """
    from fedn_py.protocol.masked.issuing import token_of
    from fedn_py.runtime.credential_files import TokenFile, write_token_file

    if out is not None:
        _keep(out)
    join = None if operator_key is None else _join(operator_key, role=role, site=label, days=days, out=out)
    text, view = open_network(profile).create_token(role.value, label, days * DAY_S)
    if out is not None:
        write_token_file(out, TokenFile(text, join))
    join_id = None if join is None else token_of(join).token_id.hex()
    data = {"token": view, "text": None if out else text, "file": str(out) if out else None, "join_id": join_id}

    def human() -> None:
        print(out if out is not None else text)
        note(f"token {view.id} of role {view.role}, good until {instant(view.not_after)}")
        if join_id is not None:
            note(f"join credential {join_id} for one client. Note this id: the credential is revoked by it")

    print_data(data, human, as_json=as_json)
    if role is RoleName.client and operator_key is None:
        note("A client with this token cannot take part in masked rounds; those ask for --operator-key.")
    if role in {RoleName.client, RoleName.combiner}:
        hint(f"give it to the {role.value} (token_file) and run: fedn-py run {role.value} -c {role.value}.yaml")


def _join(operator_key: Path, *, role: RoleName, site: str, days: float, out: Path | None) -> "JoinCredential":
    """Make a join credential here, so that no server sees the key in it."""
    import secrets
    import time

    from fedn_py.protocol.masked.issuing import issue_token
    from fedn_py.runtime.credential_files import read_operator

    if role is not RoleName.client:
        raise typer.BadParameter("is for tokens of role client", param_hint="--operator-key")
    if out is None:
        raise typer.BadParameter("is needed: a join credential is not shown", param_hint="--out")
    try:
        return issue_token(
            read_operator(operator_key),
            token_secret=secrets.token_bytes(32),
            token_id=secrets.token_bytes(16),
            site=site,
            uses=1,
            not_after=int(time.time() + days * DAY_S),
        )
    except ValueError as fault:
        raise typer.BadParameter(str(fault), param_hint="--label") from fault


@tokens.command("list")
def list_tokens(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List tokens, the newest first; never their secrets.

    Example: fedn-py token list
    """
    views = open_network(profile).tokens()

    def human() -> None:
        rows = [
            (v.id, v.role, v.label, instant(v.created), instant(v.not_after), v.revoked, instant(v.last_used))
            for v in views
        ]
        columns = ("id", "role", "label", "created", "good until", "revoked", "last used")
        print_table(columns, rows, empty="No token yet: fedn-py token create --help")

    print_data(views, human, as_json=as_json)


@tokens.command("revoke")
def revoke_token(
    token: Annotated[str, typer.Argument(help="The token's id, 16 hex digits.")],
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token worthless from now on.

    Example: fedn-py token revoke 0123456789abcdef
    """
    view = open_network(profile).revoke_token(token)
    print_data(view, lambda: print(f"token {view.id} ({view.label}) is revoked"), as_json=as_json)


@certificates.command("authority")
def make_authority(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for authority.pem and authority.key.")] = Path(
        "certificates"
    ),
    name: Annotated[str, typer.Option(help="What it is called.")] = "fedn_py",
    as_json: JsonOption = False,
) -> None:
    """Make the network's certificate authority. Keep authority.key off the servers.

    Example: fedn-py certificate authority -o certificates
    """
    from fedn_py.transport.certificates import fingerprint, write_pair
    from fedn_py.transport.certificates import make_authority as make

    certificate, key = out / "authority.pem", out / "authority.key"
    _keep(certificate, key)
    authority = make(name)
    write_pair(authority.certificate_pem, authority.key_pem, certificate, key)
    data = {
        "certificate_file": str(certificate),
        "key_file": str(key),
        "sha256": fingerprint(authority.certificate_pem),
    }
    print_data(data, lambda: print_facts(data.items()), as_json=as_json)
    hint(f"fedn-py certificate issue reducer localhost --authority {out} -o {out}")


@certificates.command("issue")
def issue_certificate(
    name: Annotated[str, typer.Argument(help="The server's name; its files are NAME.pem and NAME.key.")],
    hosts: Annotated[list[str], typer.Argument(help="Every host name and IP address at which it is called.")],
    authority: Annotated[Path, typer.Option(help="Folder with authority.pem and authority.key.")] = Path(
        "certificates"
    ),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.")] = Path("certificates"),
    as_json: JsonOption = False,
) -> None:
    """Issue a server's certificate.

    Example: fedn-py certificate issue combiner-1 combiner-1.example.org 10.0.0.7
    """
    from fedn_py.transport.certificates import expires_at, issue_server_certificate, read_authority, write_pair

    certificate, key = out / f"{name}.pem", out / f"{name}.key"
    _keep(certificate, key)
    issuer = read_authority(authority / "authority.pem", authority / "authority.key")
    issued = issue_server_certificate(issuer, name, hosts)
    write_pair(issued.certificate_pem, issued.key_pem, certificate, key)
    data = {
        "certificate_file": str(certificate),
        "key_file": str(key),
        "hosts": hosts,
        "good_until": expires_at(issued.certificate_pem).isoformat(),
    }
    shown = {**data, "hosts": ", ".join(hosts)}
    print_data(data, lambda: print_facts(shown.items()), as_json=as_json)


def _keep(*files: Path) -> None:
    there = [str(file) for file in files if file.exists()]
    if there:
        raise typer.BadParameter(f"{', '.join(there)} exists already; remove it first", param_hint="--out")

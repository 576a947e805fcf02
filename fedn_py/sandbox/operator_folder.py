"""The sandbox's own operator: its key, its policy, and what it issues, kept over restarts for as long as it holds.

A real network never has the operator's key where its servers run; here one person is all parties.
"""

import secrets
import time
from dataclasses import replace
from pathlib import Path

from fedn_py.errors import FednError
from fedn_py.masking.schemes import PET
from fedn_py.protocol.masked.certificates import JoinCredential, OperatorSecret, ServerCert
from fedn_py.protocol.masked.issuing import (
    PLAIN,
    first_policy,
    issue_server,
    issue_token,
    next_policy,
    operator_key,
    sign_policy,
    token_of,
)
from fedn_py.protocol.masked.signing import read_signed
from fedn_py.runtime.credential_files import (
    read_operator,
    read_policy,
    read_server,
    read_token_file,
    write_operator,
    write_policy,
    write_server,
)

_HOLDS_S = 3_650 * 86_400
_LEFT_S = 86_400
"""What ends sooner than this is made anew, to outlast the run that begins."""


class OperatorFolder:
    """Makes what is missing or no longer holds, and keeps the rest.

    Attributes:
        key: file of the operator's key.
        policy: file of the signed policy.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.key = path / "operator.key"
        self.policy = path / "policy.signed"

    def credential(self, name: str) -> Path:
        """Return the file of a server's credential."""
        return self._path / f"{name}.credential"

    def write(self, names: list[str]) -> None:
        """See to the key, the policy, and a credential for each server; the one called reducer is that."""
        if not self.key.exists():
            made = OperatorSecret(secrets.token_bytes(32), secrets.token_bytes(16), secrets.token_bytes(32))
            write_operator(self.key, made)
        operator, now_s = read_operator(self.key), int(time.time())
        self._write_policy(operator, now_s)
        for name in names:
            self._write_server(operator, name, now_s)

    def join_for(self, client: str, token_file: Path) -> JoinCredential:
        """Return what a client joins by: what its token file has already, while that holds, else a new one.

        A client enters itself once for each token: a new one at each start would give it a new number each time.
        """
        kept = _kept_join(read_operator(self.key), client, token_file, int(time.time()))
        return kept or self.new_join(client, _HOLDS_S / 86_400)

    def new_join(self, site: str, days: float) -> JoinCredential:
        """Return what one client of a site joins by; raises ValueError for a name or an end that it cannot have."""
        return issue_token(
            read_operator(self.key),
            token_secret=secrets.token_bytes(32),
            token_id=secrets.token_bytes(16),
            site=site,
            uses=1,
            not_after=int(time.time() + days * 86_400),
        )

    def _write_policy(self, operator: OperatorSecret, now_s: int) -> None:
        end = now_s + _HOLDS_S
        try:
            policy = next_policy(operator, read_policy(self.policy))
        except FednError:  # there is none, or it is no longer to be read, or another operator's
            policy = replace(first_policy(operator, end), modes=(PET, PLAIN), metrics="client")
        else:
            if policy.not_after > now_s + _LEFT_S:
                return
        write_policy(self.policy, sign_policy(operator, replace(policy, not_after=end)), replace=True)

    def _write_server(self, operator: OperatorSecret, name: str, now_s: int) -> None:
        role, file = "reducer" if name == "reducer" else "combiner", self.credential(name)
        if not _serves(operator, role, name, file, now_s=now_s):
            made = issue_server(
                operator, server_secret=secrets.token_bytes(32), role=role, name=name, not_after=now_s + _HOLDS_S
            )
            write_server(file, made, replace=True)


def _serves(operator: OperatorSecret, role: str, name: str, file: Path, *, now_s: int) -> bool:
    try:
        cert = read_signed(read_server(file).certificate, ServerCert, signer=operator_key(operator))
    except FednError:
        return False
    wanted = (operator.deployment, role, name)
    return (cert.deployment, cert.role, cert.name) == wanted and cert.not_after > now_s + _LEFT_S


def _kept_join(operator: OperatorSecret, client: str, token_file: Path, now_s: int) -> JoinCredential | None:
    try:
        join = read_token_file(token_file).join
        if join is None or join.operator_key != operator_key(operator):
            return None
        cert = token_of(join)
    except FednError:
        return None
    wanted = (operator.deployment, client)
    return join if (cert.deployment, cert.site) == wanted and cert.not_after > now_s + _LEFT_S else None

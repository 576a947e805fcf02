"""The reducer's credential and policy: this network's, newest, and never an older one."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import masked_world as world
import pytest
from reducer_network import OperatorFiles

from fedn_py.protocol.masked.certificates import ServerCredential
from fedn_py.protocol.masked.registry import WrongContext
from fedn_py.protocol.masked.signing import sign
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.masking_credentials import CredentialRefused, MaskingCredentials
from fedn_py.runtime.credential_files import CredentialUnreadable, write_policy, write_server
from fedn_py.store.memory import MemoryDocuments

Open = Callable[[], Awaitable[MaskingCredentials]]


def with_files(folder: Path, story: Callable[[OperatorFiles, Open, EventLog], Awaitable[None]]) -> None:
    async def told() -> None:
        ledger = Ledger(MemoryDocuments(), 1)
        events = await EventLog.open(ledger)
        files = OperatorFiles(folder)
        await story(files, lambda: files.opened(ledger, events), events)

    asyncio.run(told())


def a_credential(**changed: Any) -> ServerCredential:
    plain: dict[str, Any] = {
        "operator_key": world.TRUST.operator_key,
        "deployment": world.DEPLOYMENT,
        "certificate": world.a_certificate(),
        "server_secret": bytes(world.REDUCER),
    }
    return ServerCredential(**{**plain, **changed})


def test_what_the_reducer_says_is_signed_by_the_key_that_the_operator_certified(tmp_path: Path) -> None:
    async def story(files: OperatorFiles, opened: Open, events: EventLog) -> None:
        credentials = await opened()
        assert credentials.policy == world.POLICY
        assert credentials.policy_hash == world.POLICY_HASH
        assert credentials.sign(world.a_plan()).signer == bytes(world.REDUCER.verify_key)
        north = credentials.combiner_key(world.a_certificate(world.COMBINER, role="combiner"))
        assert north == bytes(world.COMBINER.verify_key)
        with pytest.raises(WrongContext):
            credentials.combiner_key(world.a_certificate(world.COMBINER, role="reducer"))

    with_files(tmp_path, story)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"certificate": world.a_certificate(operator=world.REDUCER)}, "UnknownOperator"),
        ({"certificate": world.a_certificate(role="combiner")}, "WrongContext"),
        ({"certificate": world.a_certificate(not_after=1)}, "Expired"),
        ({"certificate": world.a_certificate(world.COMBINER)}, "WrongServerKey"),
        ({"operator_key": bytes(world.COMBINER.verify_key)}, "UnknownOperator"),
        ({"deployment": b"E" * 16}, "WrongContext"),
    ],
)
def test_a_credential_that_does_not_hold_is_refused_at_the_start_by_name(
    tmp_path: Path, changed: dict[str, Any], says: str
) -> None:
    async def story(files: OperatorFiles, opened: Open, events: EventLog) -> None:
        write_server(files.credential_file, a_credential(**changed), replace=True)
        with pytest.raises(CredentialRefused, match=says):
            await opened()

    with_files(tmp_path, story)


def test_a_revoked_reducer_does_not_start(tmp_path: Path) -> None:
    async def story(files: OperatorFiles, opened: Open, events: EventLog) -> None:
        files.publish(world.a_policy(version=4, revoked_servers=(bytes(world.REDUCER.verify_key),)))
        with pytest.raises(CredentialRefused, match="Revoked"):
            await opened()

    with_files(tmp_path, story)


def test_a_policy_that_was_seen_is_never_followed_by_an_older_one(tmp_path: Path) -> None:
    async def story(files: OperatorFiles, opened: Open, events: EventLog) -> None:
        files.publish(world.a_policy(version=5))
        await opened()
        files.publish(world.a_policy(version=4))
        with pytest.raises(CredentialRefused, match="PolicyWentBack"):
            await opened()
        files.publish(world.a_policy(version=5, g_min=2))  # another one of this version
        with pytest.raises(CredentialRefused, match="PolicyWentBack"):
            await opened()

    with_files(tmp_path, story)


def test_a_policy_file_is_read_again_when_it_was_written(tmp_path: Path) -> None:
    async def story(files: OperatorFiles, opened: Open, events: EventLog) -> None:
        credentials = await opened()
        assert not await credentials.refresh()
        files.publish(world.a_policy(version=4, g_min=5))
        assert await credentials.refresh()
        assert credentials.policy.g_min == 5
        assert not await credentials.refresh()
        assert [event.kind for event in events._waiting] == ["policy.changed"]

    with_files(tmp_path, story)


def test_a_policy_that_cannot_be_used_is_told_of_once_and_the_one_at_hand_stays(tmp_path: Path) -> None:
    async def story(files: OperatorFiles, opened: Open, events: EventLog) -> None:
        credentials = await opened()
        files.publish(world.a_policy(version=2))
        assert not await credentials.refresh()
        assert not await credentials.refresh()
        forged = sign(world.a_policy(version=9), world.REDUCER)
        write_policy(files.policy_file, forged, replace=True)
        assert not await credentials.refresh()
        files.policy_file.write_text("nothing")
        assert not await credentials.refresh()
        assert credentials.policy == world.POLICY
        told = [event.text for event in events._waiting if event.kind == "policy.refused"]
        assert [text.split(": ")[1] for text in told] == ["PolicyWentBack", "UnknownOperator", "CredentialUnreadable"]

    with_files(tmp_path, story)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    async def story(files: OperatorFiles, opened: Open, events: EventLog) -> None:
        files.policy_file.unlink()
        with pytest.raises(CredentialUnreadable, match="policy"):
            await opened()

    with_files(tmp_path, story)

"""What left the clients, as the sandbox finds it in their folders."""

from collections.abc import Iterator
from pathlib import Path

import masked_world as world
import numpy as np
import pytest
from masked_world import CLIENTS, a_committee, an_upload, the_terms

from fedn_py.client.masked_memory import MaskedMemory, create_memory
from fedn_py.client.memory_rows import KeptUpload
from fedn_py.protocol.masked.differencing import SentRecord
from fedn_py.protocol.masked.words import MaskedUpload
from fedn_py.runtime.desk import WORDS_SHOWN
from fedn_py.sandbox.folder import SandboxFolder
from fedn_py.sandbox.masked_heads import MaskedHeads, NothingMasked

OWNER = b"k" * 32
N_WORDS = WORDS_SHOWN + 500


class Site:
    """A client's folder, as it is while a masked update may have to be sent again."""

    def __init__(self, state: Path) -> None:
        self.masked = state / "masked"
        self.masked.mkdir(parents=True)
        create_memory(state / "memory.sqlite", OWNER)
        self.memory = MaskedMemory(state / "memory.sqlite", OWNER)

    def write(self, number: int) -> None:
        upload_id = bytes([number]) * 16
        (self.masked / f"upload-{upload_id.hex()}").write_bytes(np.full(N_WORDS, number, "<u4").tobytes())

    def remember(self, number: int) -> None:
        terms = the_terms()
        upload = an_upload(terms, a_committee(terms), CLIENTS[0])
        masked = MaskedUpload(CLIENTS[0].chain, upload.header, upload.sealed.boxes)
        ctx, upload_id = bytes([number]) * 32, bytes([number]) * 16
        row = KeptUpload(ctx, ctx, upload_id, world.SESSION, number, masked, 4 * N_WORDS, b"5" * 32)
        self.memory.save_sent(SentRecord(ctx, ctx, ctx, "strict", ()), row)


@pytest.fixture
def folder(tmp_path: Path) -> SandboxFolder:
    return SandboxFolder(tmp_path)


@pytest.fixture
def sites(folder: SandboxFolder) -> Iterator[dict[str, Site]]:
    made = {name: Site(folder.state(name)) for name in ("anna", "bert")}
    yield made
    for site in made.values():
        site.memory.close()


def test_the_beginning_is_kept_once_the_client_remembers_that_it_sends_it(
    folder: SandboxFolder, sites: dict[str, Site]
) -> None:
    heads, anna = MaskedHeads(folder), sites["anna"]
    anna.write(1)
    heads.look(sites)
    with pytest.raises(NothingMasked):
        heads.newest("anna")
    anna.remember(1)
    heads.look(sites)
    head = heads.newest("anna")
    assert (head.client, head.session, head.round, head.n_words) == ("anna", world.SESSION.hex(), 1, N_WORDS)
    assert head.words.tolist() == [1] * WORDS_SHOWN
    for file in anna.masked.iterdir():  # its round has ended
        file.unlink()
    heads.look(sites)
    assert heads.newest("anna") is head


def test_of_several_the_last_is_shown_and_each_is_read_once(folder: SandboxFolder, sites: dict[str, Site]) -> None:
    heads = MaskedHeads(folder)
    for name, number in (("anna", 1), ("anna", 2), ("bert", 3)):
        sites[name].write(number)
        sites[name].remember(number)
        heads.look(sites)
    assert heads.newest("anna").round == 2
    assert heads.newest().client == "bert"
    before = heads.newest("anna")
    heads.look(sites)
    assert heads.newest("anna") is before


def test_a_client_that_has_sent_nothing_or_is_not_there_has_nothing_to_show(folder: SandboxFolder) -> None:
    heads = MaskedHeads(folder)
    heads.look(["nobody"])
    with pytest.raises(NothingMasked, match="any client"):
        heads.newest()

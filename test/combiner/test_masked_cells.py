"""A whole masked cell with real clients' bytes: the stored sum is that of the listed uploads, or nothing is added."""

import asyncio
from pathlib import Path

import masked_world as world
import numpy as np
from masked_rig import ANNA, BERT, CARL, DORA, EMIL, MaskedRig, a_masked_cell, id_of

from fedn_py.masking.pet import add_masked
from fedn_py.protocol.messages import CommitteeFormed

FIVE = (ANNA, BERT, CARL, DORA, EMIL)


def sum_of(uploads: list[world.AnUpload]) -> np.ndarray:
    total = np.zeros_like(uploads[0].vector)
    for upload in uploads:
        add_masked(total, upload.vector)
    return total


def test_the_stored_partial_is_the_sum_of_exactly_the_listed_uploads(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_masked_cell(tmp_path, *FIVE) as cell:
            committee = await cell.form()
            formed = await cell.rig.reducer.next(CommitteeFormed)
            assert formed.committee.ctx0 == cell.round.terms.ctx0
            cell.look()
            uploads = [one.upload() for one in cell.clients.values()]
            receipts = await asyncio.gather(
                *(one.sends(upload) for one, upload in zip(cell.clients.values(), uploads, strict=True))
            )
            assert all(receipt.accepted for receipt in receipts), receipts
            partial = await cell.partial()
            closed = cell.closed(partial)
            assert closed.ctx == committee.ctx
            assert closed.rows == world.the_rows_of(uploads)
            assert (cell.stored_sum(closed) == sum_of(uploads)).all()
            assert partial.included == 5
            assert cell.rig.spool.uploads == 0

    asyncio.run(story())

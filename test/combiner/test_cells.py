"""An update is in a cell's sum whole or not at all, once or not at all, and the reasons have names."""

import asyncio
import contextlib
import os
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from combiner_rig import ANNA, BERT, CARL, AwayObjects, Rig, a_combiner, a_header, a_model, an_update, digest_of, until

from fedn_py.identity import Digest, Generation
from fedn_py.protocol.messages import (
    CellCancelled,
    CellFailed,
    CellOrder,
    Exclusion,
    PartialAggregate,
    RoundCommitted,
    TaskCancelled,
    TaskFailed,
    TrainTask,
    ValidateTask,
    ValidationReport,
    ValidationResult,
)
from fedn_py.store.ports import ObjectCorrupt
from fedn_py.transport import codec
from fedn_py.transport.status import RemoteFault
from fedn_py.transport.transfer import upload_update
from fedn_py.wire.v1 import network_pb2, network_pb2_grpc

MIB = 1 << 20
ONES, TWOS = an_update(1, 1, 1, 1, 1, 1), an_update(2, 2, 2, 2, 2, 2)


def story(folder: Path, told: Callable[[Rig], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), a_combiner(folder, **options) as rig:
            await told(rig)

    asyncio.run(main())


async def cut_upload(rig: Rig, update: bytes, chunks: list[bytes], **changes: Any) -> None:
    """Send an update's beginning in chunks, and end the call without the rest."""
    header = a_header(update, **changes)
    before = 0
    async with rig.channel(ANNA) as channel:
        call = network_pb2_grpc.CombinerStub(channel.grpc).SendUpdate()
        start = network_pb2.UpdateStart(header=codec.write_update_header(header), offset=before)
        await call.write(network_pb2.UpdatePart(start=start))
        await call.initial_metadata()
        for chunk in chunks:
            await call.write(network_pb2.UpdatePart(chunk=chunk))
        await until(lambda: rig.spool.held(f"client {ANNA}", header.upload_id) == sum(map(len, chunks)))
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await call


def test_the_report_has_the_weighted_sum_and_the_samples_and_bytes_of_everybody_in_it(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        await rig.order(ANNA, BERT)
        await rig.collecting()
        assert (await rig.upload(ANNA, ONES, samples=10)).accepted
        assert (await rig.upload(BERT, TWOS, samples=1_000)).accepted
        partial = await rig.partial()
        assert rig.sum_of(partial) == [2_010.0] * 6
        assert partial.weight == 1_010
        assert [(one.client, one.samples, one.update_sha256) for one in partial.included] == [
            (ANNA, 10, digest_of(ONES)),
            (BERT, 1_000, digest_of(TWOS)),
        ]
        assert partial.training_metrics.weighted_sums == {"loss": 505.0}

    story(tmp_path, told, grace_s=30.0)


def any_update() -> bytes:
    values = np.frombuffer(os.urandom(6 * 4), "<f4")
    return np.nan_to_num(values, nan=1.0, posinf=1.0, neginf=1.0).astype("<f4").tobytes()


def chunks_of(update: bytes) -> list[bytes]:
    return [update[start : start + 4] for start in range(0, len(update), 4)]


async def cut_beside_another(rig: Rig, update: bytes, chunks: list[bytes], generation: int) -> PartialAggregate:
    """Return the partial aggregate of a cell with an update whose stream was cut, and another."""
    await rig.order(ANNA, BERT, generation=generation, round_number=generation)
    await rig.collecting(generation)
    await cut_upload(rig, update, chunks, generation=generation, upload_id=f"{generation:08x}")
    assert (await rig.upload(BERT, ONES, generation=generation, samples=3)).accepted
    async with rig.attached(ANNA) as anna:
        anna.link.send(TaskFailed(Generation(generation), "GaveUp: a test", ""))
        return await rig.partial(generation)


def test_an_upload_cut_at_any_chunk_leaves_the_sum_as_if_it_never_came(tmp_path: Path) -> None:
    update = any_update()
    chunks = chunks_of(update)

    async def told(rig: Rig) -> None:
        for cut in range(len(chunks)):
            partial = await cut_beside_another(rig, update, chunks[:cut], cut + 1)
            assert rig.sum_of(partial) == [3.0] * 6, f"cut after {cut} chunks"
            assert [one.client for one in partial.included] == [BERT]
            assert [one.client for one in partial.excluded] == [ANNA]

    story(tmp_path, told, grace_s=30.0)


def test_an_upload_cut_behind_its_last_byte_is_in_whole_or_as_if_it_never_came(tmp_path: Path) -> None:
    update = any_update()
    whole = [10.0 * float(value) + 3.0 for value in np.frombuffer(update, "<f4")]

    async def told(rig: Rig) -> None:
        for generation in range(1, 6):
            partial = await cut_beside_another(rig, update, chunks_of(update), generation)
            # Its end and its cut come one after the other: which the combiner meets first is for nobody to say.
            both = (whole, [ANNA, BERT], [])
            assert (
                rig.sum_of(partial),
                [one.client for one in partial.included],
                [one.client for one in partial.excluded],
            ) in (both, ([3.0] * 6, [BERT], [ANNA]))

    story(tmp_path, told, grace_s=30.0)


def test_an_upload_that_is_cut_and_gone_on_with_is_in_once(tmp_path: Path) -> None:
    update = np.arange(6 * MIB // 4, dtype="<f4").tobytes()

    async def told(rig: Rig) -> None:
        for cut in range(7):
            generation = cut + 1
            await rig.order(ANNA, generation=generation, round_number=generation, model=a_model(len(update) // 4))
            await rig.collecting(generation)
            begun = [update[start : start + MIB] for start in range(0, cut * MIB, MIB)]
            name = f"{generation:08x}"
            await cut_upload(rig, update, begun, generation=generation, upload_id=name)
            assert (await rig.upload(ANNA, update, generation=generation, upload_id=name)).accepted
            partial = await rig.partial(generation)
            assert partial.weight == 10
            found = np.frombuffer(rig.store.contents[partial.sum_object or Digest("")], "<f8")
            assert (found == np.arange(len(found)) * 10.0).all(), f"cut after {cut} chunks"
            assert rig.spool.uploads == 0

    story(tmp_path, told, grace_s=30.0)


def test_what_is_no_update_of_this_round_is_refused_by_name_and_changes_nothing(tmp_path: Path) -> None:
    not_finite = {name: an_update(0, 0, value, 0, 0, 0) for name, value in (("NaN", np.nan), ("inf", np.inf))}

    async def told(rig: Rig) -> None:
        await rig.order(ANNA, generation=1)
        await rig.collecting(1)
        assert (await rig.upload(ANNA, ONES, generation=1)).accepted
        await rig.partial(1)

        await rig.order(ANNA, BERT, CARL, generation=2, round_number=2)
        await rig.collecting(2)
        late = await rig.upload(BERT, ONES, generation=1, upload_id="00000001")
        assert (late.accepted, late.reason.split(":")[0]) == (False, "Late")
        stranger = await rig.upload(type(ANNA)("dd" * 32), ONES, generation=2)
        assert (stranger.accepted, stranger.reason.split(":")[0]) == (False, "NotAssigned")
        for size in (5, 7):
            with pytest.raises(RemoteFault) as refused:
                await rig.upload(BERT, an_update(*[1.0] * size), generation=2)
            assert refused.value.code == "WrongLength"
        with pytest.raises(RemoteFault) as refused:
            await rig.upload(BERT, ONES, generation=2, sha256=digest_of(b"others"), upload_id="00000002")
        assert refused.value.code == "DigestMismatch"
        with pytest.raises(RemoteFault) as refused:
            await rig.upload(BERT, ONES, generation=2, samples=2**41)
        assert refused.value.code == "InvalidSamples"
        with pytest.raises(RemoteFault) as refused:
            await rig.upload(BERT, ONES, generation=2, metrics={"loss": 1e300})
        assert refused.value.code == "InvalidMetrics"

        assert (await rig.upload(ANNA, TWOS, generation=2)).accepted
        again = await rig.upload(ANNA, TWOS, generation=2)
        assert again.accepted  # the very same bytes: they are in, and stay in once
        other = await rig.upload(ANNA, ONES, generation=2, upload_id="00000003")
        assert (other.accepted, other.reason.split(":")[0]) == (False, "AlreadyIn")
        for client, (_, update) in zip((BERT, CARL), not_finite.items(), strict=True):
            refusal = await rig.upload(client, update, generation=2)
            assert not refusal.accepted
            assert refusal.reason.startswith("NotFinite: ")
            assert "'w'" in refusal.reason

        partial = await rig.partial(2)
        assert rig.sum_of(partial) == [20.0] * 6
        assert (partial.weight, [one.client for one in partial.included]) == (10, [ANNA])
        assert {one.client for one in partial.excluded} == {BERT, CARL}
        assert rig.spool.uploads == 0

    story(tmp_path, told, grace_s=30.0)


def test_an_update_that_a_failed_attempt_had_is_taken_again_by_the_next(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        for generation in (1, 2, 3):
            await rig.order(ANNA, BERT, generation=generation)
            await rig.collecting(generation)
            # The same upload id: the client keeps its update and sends it again.
            assert (await rig.upload(ANNA, ONES, generation=generation)).accepted
            rig.calls.reducer_said(CellCancelled(Generation(generation), "too few updates"))

    story(tmp_path, told, grace_s=30.0)


def test_a_sum_that_waits_for_its_store_is_freed_with_its_cell(tmp_path: Path) -> None:
    store = AwayObjects()

    async def told(rig: Rig) -> None:
        await rig.order(ANNA)
        await rig.collecting()
        held = weakref.ref(rig.cells._work[Generation(1)].total)
        store.away = True
        assert (await rig.upload(ANNA, ONES)).accepted
        await store.asked.wait()
        rig.calls.reducer_said(CellCancelled(Generation(1), "the session was stopped"))
        await until(lambda: held() is None)

    story(tmp_path, told, store=store, grace_s=30.0)


def test_an_update_sent_again_while_the_given_up_sum_still_adds_it_is_in_the_next_one(tmp_path: Path) -> None:
    n_parameters = 4 * MIB
    update = np.ones(n_parameters, "<f4").tobytes()

    async def told(rig: Rig) -> None:
        await rig.order(ANNA, generation=1, model=a_model(n_parameters))
        await rig.collecting(1)
        async with rig.channel(ANNA) as channel:
            first = asyncio.create_task(upload_update(channel, a_header(update, generation=1), update))
            await rig.mailbox.until(lambda state: bool(getattr(state.work, "adding", ())))
            await rig.order(ANNA, generation=2, attempt=2, model=a_model(n_parameters))
            await rig.collecting(2)
            second = await upload_update(channel, a_header(update, generation=2), update)
            assert (await first).reason.startswith("Late")
        assert second.accepted
        partial = await rig.partial(2)
        assert (partial.weight, len(partial.included)) == (10, 1)
        assert set(rig.sum_of(partial)) == {10.0}
        assert rig.spool.uploads == 0

    story(tmp_path, told, grace_s=30.0, memory_bytes=0)


def test_the_same_bytes_twice_at_the_same_time_have_an_answer_each_and_are_in_once(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        await rig.order(ANNA, BERT)
        await rig.collecting()
        incoming = await rig.spool.begin(f"client {ANNA}", _start_of(ONES))
        await incoming.append(ONES)
        upload = await incoming.finish()
        once, twice = await asyncio.gather(
            rig.cells.judge(ANNA, a_header(ONES, upload_id="ab" * 8), upload),
            rig.cells.judge(ANNA, a_header(ONES, upload_id="ab" * 8, samples=20), upload),
        )
        assert once.accepted
        assert twice.reason.startswith("AlreadyIn: ")
        assert rig.spool.uploads == 0
        assert (await rig.upload(BERT, ONES)).accepted
        assert rig.sum_of(await rig.partial()) == [20.0] * 6

    story(tmp_path, told, grace_s=30.0)


def test_a_committed_round_leaves_nothing_of_itself_in_the_spool(tmp_path: Path) -> None:
    update = np.arange(2 * MIB // 4, dtype="<f4").tobytes()

    async def told(rig: Rig) -> None:
        plan = await rig.order(ANNA, BERT, model=a_model(len(update) // 4))
        await rig.collecting()
        await cut_upload(rig, update, [update[:MIB]])
        assert (await rig.upload(BERT, update)).accepted
        assert rig.spool.uploads == 1
        assert len(list((rig.folder / "spool").iterdir())) == 1
        rig.calls.reducer_said(RoundCommitted(plan.session, plan.round_number, plan.base_model))
        await until(lambda: not rig.spool.uploads and not list((rig.folder / "spool").iterdir()))

    story(tmp_path, told, grace_s=30.0, memory_bytes=0)


def test_an_order_whose_objects_cannot_be_had_fails_by_name_and_the_next_one_works(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        plan = await rig.plan()
        gone = rig.store.contents.pop(plan.base_model)
        rig.calls.reducer_said(CellOrder(plan, Generation(1), (ANNA,), 1))
        failed = await rig.reducer.next(CellFailed)
        assert failed.generation == 1
        assert failed.reason.startswith("ObjectMissing: ")

        rig.store.contents[plan.base_model] = gone[:-1] + b"?"
        rig.calls.reducer_said(CellOrder(plan, Generation(2), (ANNA,), 1))
        failed = await rig.reducer.next(CellFailed, after=rig.reducer.messages.index(failed) + 1)
        assert failed.reason.startswith("ObjectCorrupt: ")

        await rig.order(ANNA, generation=3)
        await rig.collecting(3)
        assert (await rig.upload(ANNA, ONES, generation=3)).accepted
        assert rig.sum_of(await rig.partial(3)) == [10.0] * 6

    story(tmp_path, told, grace_s=30.0)


def test_a_sum_that_cannot_be_stored_fails_the_cell_by_name_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any, **__: Any) -> None:
        raise ObjectCorrupt("other bytes came")

    async def told(rig: Rig) -> None:
        await rig.order(ANNA, generation=1)
        await rig.collecting(1)
        monkeypatch.setattr(rig.store, "put", refused)
        assert (await rig.upload(ANNA, ONES, generation=1)).accepted
        failed = await rig.reducer.next(CellFailed)
        assert failed.reason == "ObjectCorrupt: other bytes came"
        monkeypatch.undo()
        await rig.order(ANNA, generation=2)
        await rig.collecting(2)
        assert (await rig.upload(ANNA, ONES, generation=2)).accepted
        assert rig.sum_of(await rig.partial(2)) == [10.0] * 6

    story(tmp_path, told, grace_s=30.0)


def test_an_update_that_the_disk_has_lost_is_left_out_by_name_and_the_combiner_goes_on(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        await rig.order(ANNA, BERT)
        await rig.collecting()
        incoming = await rig.spool.begin("client x", _start_of(ONES))
        await incoming.append(ONES)
        upload = await incoming.finish()
        for file in (rig.folder / "spool").iterdir():
            file.unlink()
        receipt = await rig.cells.judge(ANNA, a_header(ONES), upload)
        assert receipt.reason.startswith("DiskFailed: ")
        assert (await rig.upload(BERT, TWOS)).accepted
        partial = await rig.partial()
        assert rig.sum_of(partial) == [20.0] * 6
        assert [one.client for one in partial.excluded] == [ANNA]

    story(tmp_path, told, grace_s=30.0, memory_bytes=0)


def _start_of(update: bytes) -> Any:
    from fedn_py.transport.chunks import UploadStart

    return UploadStart("ab" * 8, 0, len(update), digest_of(update))


def test_a_failed_task_and_its_log_are_in_the_report(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        async with rig.attached(ANNA) as anna, rig.attached(BERT) as bert:
            await rig.order(ANNA, BERT)
            task = await anna.next(TrainTask)
            anna.link.send(TaskFailed(task.generation, "EntryPointFailed: no data", "row 17"))
            await bert.next(TrainTask)
            assert (await rig.upload(BERT, ONES)).accepted
            partial = await rig.partial()
            assert partial.excluded == (Exclusion(ANNA, "EntryPointFailed: no data", "row 17"),)

    story(tmp_path, told, grace_s=30.0)


def test_a_client_whose_order_was_cancelled_is_told_so(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        async with rig.attached(ANNA) as anna:
            await rig.order(ANNA)
            await anna.next(TrainTask)
            rig.calls.reducer_said(CellCancelled(Generation(1), "the session was stopped"))
            assert (await anna.next(TaskCancelled)).reason == "the session was stopped"

    story(tmp_path, told)


def test_clients_metrics_of_a_model_come_back_as_their_sites_release_them(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        async with rig.attached(ANNA) as anna, rig.attached(BERT) as bert, rig.attached(CARL) as carl:
            await rig.order_validation(ANNA, BERT, CARL)
            for client, release in ((anna, "client"), (bert, "mean"), (carl, "none")):
                generation = (await client.next(ValidateTask)).order.generation
                # A client that breaks its own promise is kept to it.
                result = ValidationResult(generation, 10, {"accuracy": 0.5}, release)  # type: ignore[arg-type]
                client.link.send(result)
                client.link.send(replace(result, samples=1_000))  # its first answer counts
            report = await rig.reducer.next(ValidationReport)
        assert (report.validated, report.samples) == (3, 30)
        assert report.metrics.weighted_sums == {"accuracy": 10.0}
        assert report.metrics.weights == {"accuracy": 20}
        assert report.metrics.by_client == {ANNA: {"accuracy": 0.5}}
        assert report.metrics.clients == {"accuracy": 2}

    story(tmp_path, told)


@pytest.mark.parametrize(
    ("samples", "metrics", "fault"),
    [(0, {"accuracy": 1.0}, "InvalidSamples"), (10, {"accuracy": 1e300}, "InvalidMetrics")],
)
def test_metrics_that_cannot_be_averaged_leave_their_client_out_and_the_combiner_goes_on(
    tmp_path: Path, samples: int, metrics: dict[str, float], fault: str
) -> None:
    async def told(rig: Rig) -> None:
        async with rig.attached(ANNA) as anna, rig.attached(BERT) as bert:
            await rig.order_validation(ANNA, BERT)
            await anna.next(ValidateTask)
            anna.link.send(ValidationResult(Generation(1), samples, metrics, "client"))
            await bert.next(ValidateTask)
            bert.link.send(ValidationResult(Generation(1), 10, {"accuracy": 0.5}, "client"))
            report = await rig.reducer.next(ValidationReport)
        assert report.validated == 1
        (excluded,) = report.excluded
        assert excluded.client == ANNA
        assert excluded.reason.startswith(f"{fault}: ")

    story(tmp_path, told)


def test_metric_names_without_end_make_no_report_that_the_reducer_cannot_take(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        clients = [type(ANNA)(f"{number:064x}") for number in range(1, 6)]
        await rig.order(*clients)
        await rig.collecting()
        for number, client in enumerate(clients):
            update = an_update(*[float(number)] * 6)
            metrics = {f"metric-{number}-{name}": 1.0 for name in range(60)} | {"loss": 0.5}
            assert (await rig.upload(client, update, metrics=metrics)).accepted
        partial = await rig.partial()
        # As the reducer will read it.
        wire = codec.write_from_combiner(partial)
        read = codec.read_from_combiner(wire)
        assert read.training_metrics.weighted_sums["loss"] == 25.0  # type: ignore[union-attr]

    story(tmp_path, told, grace_s=30.0)

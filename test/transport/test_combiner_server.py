"""What a combiner says to all of its clients is put into bytes once."""

import asyncio
from pathlib import Path

from grpc_network import RecordingCombiner, a_spool

from fedn_py.protocol.masked.words import Links
from fedn_py.protocol.messages import Heartbeat, SaidToClient, TurnCame
from fedn_py.transport import codec
from fedn_py.transport.combiner_server import CombinerService


def test_what_is_said_to_one_client_after_the_other_is_written_once(tmp_path: Path) -> None:
    async def story() -> None:
        service = CombinerService(RecordingCombiner(), await a_spool(tmp_path), heartbeat_s=5.0)
        word, same, other = Heartbeat(), SaidToClient(Links(bytes(16), ())), SaidToClient(Links(bytes(16), ()))
        written = [service._encoded(message) for message in (word, word, same, SaidToClient(same.word), other)]
        assert written[0] is written[1]
        assert written[2] is written[3]
        assert written[4] is not written[3]
        said = [codec.write_to_client(message).SerializeToString() for message in (word, word, same, same, other)]
        assert written == said
        came = service._encoded(TurnCame())
        assert came == codec.write_to_client(TurnCame()).SerializeToString()
        assert service._encoded(other) is written[4]

    asyncio.run(story())

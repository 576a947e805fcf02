"""What must hold of clients, whatever fails."""

from typing import TYPE_CHECKING

import numpy as np
from simulator.fences import check
from simulator.masked.ghosts import (
    ECHO,
    FORK,
    P1,
    P2,
    P3_CLIENT,
    P3_MEMBER,
    P6,
    P7,
    SAVED,
    Ghosts,
    Promise,
    SentUpload,
)
from simulator.masked.labels import Labels

from fedn_py.client.memory_rows import KeptUpload
from fedn_py.client.secret_bytes import SeatKeys
from fedn_py.masking.keystream import Keystream
from fedn_py.masking.pet import mask_key
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.round_messages import (
    Abort,
    Answer,
    Echo,
)
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import WordFromClient

if TYPE_CHECKING:
    from simulator.masked.client_node import MaskedClientNode
    from simulator.masked.sending import DrawnBytes
    from simulator.masked.world import MaskedWorld


class ClientRules:
    """Watches what clients sign, send and save."""

    def __init__(self, world: "MaskedWorld", known: Ghosts, labels: Labels) -> None:
        self._world, self._known, self._labels = world, known, labels

    def keys_drawn(self, node: "MaskedClientNode", keys: SeatKeys) -> None:
        """A client draws the keys of a seat."""
        self._use(bytes(keys.esk), node)
        self._use(bytes(keys.nonce), node)
        self._labels.keep("key of a seat", repr(node), bytes(keys.esk))

    def _use(self, secret: bytes, node: "MaskedClientNode") -> None:
        check(secret not in self._known.used, P7, node)
        self._known.used.add(secret)

    def sealed(self, node: "MaskedClientNode", ctx: bytes, drawn: "DrawnBytes", plain: bytes, masked: bytes) -> None:
        """A client has masked an update.

        Args:
            plain: its values before they were encoded.
        """
        who, labels = repr(node), self._labels
        for secret in (*drawn.seeds, drawn.rounding, *drawn.ephemeral):
            self._use(secret, node)
        words = np.frombuffer(masked, "<u4").astype(np.uint32)
        for slot, seed in enumerate(drawn.seeds):
            key, mask = mask_key(ctx, node.who.id, slot, seed), np.empty(len(words), np.uint32)
            Keystream(key).chunk(0, mask)
            np.subtract(words, mask, words)
            for what, content in (("seed", seed), ("key of a mask", key), ("mask", mask.astype("<u4").tobytes())):
                labels.keep(what, who, content)
        labels.keep("rounding seed", who, drawn.rounding)
        labels.keep("plain vector", who, plain)
        labels.keep("encoded vector", who, words.astype("<u4").tobytes())
        labels.keep_masked(who, masked)

    def signed_by_client(self, node: "MaskedClientNode", body: Body) -> None:
        """A client signs something."""
        match body:
            case Echo(ctx, included_hash) | Answer(ctx, included_hash):
                self._promises(node, ctx, included_hash)
                if isinstance(body, Echo):
                    self._known.echoed[ctx, included_hash].add(node.who.id)
                else:
                    self._answers(node, ctx, included_hash, body.slot)
            case Abort(ctx):
                check((node.who.id, ctx) not in self._known.signed_sets, P1, (node, "aborts what it promised"))
                self._known.aborted[ctx].add(node.who.id)

    def _promises(self, node: "MaskedClientNode", ctx: bytes, included_hash: bytes) -> None:
        known = self._known.signed_sets.setdefault((node.who.id, ctx), included_hash)
        check(known == included_hash, P1, (node, ctx.hex()))
        record = node.disk.member.promise(ctx)
        kept = record is not None and record.included_hash == included_hash
        check(kept, SAVED, (node, "signs a set that it has not promised on disk"))
        assert record is not None
        terms = self._known.committees[ctx][1]
        check(len(record.clients) >= terms.order.g_min, P2, (node, len(record.clients)))
        promise = Promise(record.work, ctx, frozenset(record.clients), record.reopen)
        if promise in self._known.promised[node.who.id]:
            return  # said again
        for other in self._known.promised[node.who.id]:
            shared = other.work == promise.work and other.ctx != ctx and other.clients & promise.clients
            void = other.reopen == "reducer" and other.ctx in self._known.void
            check(not shared or void, P3_MEMBER, (node, other.ctx.hex(), ctx.hex()))
        self._known.promised[node.who.id].append(promise)

    def _answers(self, node: "MaskedClientNode", ctx: bytes, included_hash: bytes, slot: int) -> None:
        committee, terms = self._known.committees[ctx]
        self._known.answered[ctx, included_hash].add(slot)
        whole = [one for one, slots in self._known.answered.items() if one[0] == ctx and len(slots) == committee.slots]
        check(len(whole) <= 1, FORK, (node, ctx.hex()))
        if committee.needs_echo:
            echoed = len(self._known.echoed[ctx, included_hash])
            check(echoed >= committee.quorum(terms.order.echo_c), ECHO, (node, echoed, committee.replicas))

    def committee_believed(self, committee: Committee, terms: CellTerms) -> None:
        """A client has found a committee right."""
        self._known.committees[committee.ctx] = (committee, terms)

    def said_by_client(self, node: "MaskedClientNode", word: WordFromClient) -> None:
        """A client says a word."""
        if isinstance(word, Signed) and word.said == Answer.kind:
            answer = Answer.decode(word.body)
            check(answer.ctx in node.disk.answers, SAVED, (node, "an answer that is not on disk"))

    def upload_sent(self, node: "MaskedClientNode", row: KeptUpload) -> None:
        """A client begins to send an upload, perhaps again."""
        record = next((one for one in node.disk.sent if one.ctx == row.ctx), None)
        check(record is not None, SAVED, (node, "an upload that is not on disk as sent"))
        assert record is not None
        for before in self._known.sent[node.who.id]:
            again = before.work == record.work and before.ctx != row.ctx
            if again and (node.who.id, before.ctx) not in self._known.forgotten:
                check(self._known.released(before.ctx), P3_CLIENT, (node, before.ctx.hex(), row.ctx.hex()))
                self._world.chaos.noticed("a work sent again, its upload before released")
        sent = SentUpload(row.session, record.work, row.ctx)
        if sent not in self._known.sent[node.who.id]:
            self._known.sent[node.who.id].append(sent)

    def saved(self, node: "MaskedClientNode") -> None:
        """A client has saved something."""
        disk = node.disk
        rounds = {session: (seen.round, seen.attempt) for session, seen in disk.seen.items()}
        now = (disk.policy_version, disk.highest_session or 0, rounds)
        before = self._known.floors.get(node.who.id)
        if before is not None:
            grows = all(rounds.get(session, (0, 0)) >= seen for session, seen in before[2].items())
            check(now[0] >= before[0] and now[1] >= before[1] and grows, P6, (node, before, now))
        self._known.floors[node.who.id] = now

    def set_back(self, node: "MaskedClientNode") -> None:
        """A client's state folder has become an older copy of itself; what it forgot, it does not know."""
        client, disk = node.who.id, node.disk
        self._known.floors.pop(client, None)
        kept = {record.ctx for record in disk.sent}
        self._known.forgotten |= {(client, sent.ctx) for sent in self._known.sent[client] if sent.ctx not in kept}
        promised = {record.ctx for record in disk.member.promised}
        self._known.promised[client] = [one for one in self._known.promised[client] if one.ctx in promised]

"""The trail of models, walked: each round's model names the one it was made from, without gap or fork.

Pure: what is walked is given as links, from documents, from a backup or from the REST API.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from fedn_py.identity import Digest
from fedn_py.reducer.records import PackageRecord, RoundRecord, SeedModelRecord, SessionRecord, from_document
from fedn_py.store.ports import Collection, JSONValue

Content = Mapping[str, JSONValue]


@dataclass(frozen=True, slots=True)
class Link:
    """One committed round: the model that it made, and the one that it was made from."""

    number: int
    base: Digest | None
    model: Digest


def faults_of(session: str, seed: Digest, links: Iterable[Link]) -> Iterator[str]:
    """Give what is wrong with one session's trail, in words; nothing where it is whole.

    Args:
        seed: the model that the session began with.
        links: its committed rounds, in any order.
    """
    head, last = seed, 0
    for link in sorted(links, key=lambda link: link.number):
        if link.number == last:
            yield f"session {session} has two models of round {link.number}"
        elif link.number != last + 1:
            lost = f"round {last + 1}" if link.number == last + 2 else f"rounds {last + 1} to {link.number - 1}"
            yield f"session {session} lacks {lost}: round {link.number} comes behind round {last}"
        elif link.base != head:
            yield (
                f"session {session}, round {link.number} was made from model {link.base}, "
                f"and {'the seed model' if last == 0 else f'the model of round {last}'} is {head}"
            )
        head, last = link.model, link.number


def link_of(record: RoundRecord) -> Link | None:
    """Return a round's link of the trail; None where it made no model."""
    if record.status != "committed" or record.model is None:
        return None
    return Link(record.plan.round_number, record.plan.base_model, record.model)


def named_by(collection: Collection, key: str, content: Content) -> frozenset[Digest]:
    """Return the objects that a document needs for good: models and packages, nothing of an attempt under way.

    Raises:
        RecordDamaged: it has not the form of its kind.
    """
    match collection:
        case "sessions":
            terms = from_document(SessionRecord, collection, key, content).terms
            return frozenset({terms.package, terms.seed_model})
        case "rounds":
            record = from_document(RoundRecord, collection, key, content)
            made = {record.model} if record.status == "committed" and record.model is not None else set()
            return frozenset({record.plan.base_model, record.plan.package, *made})
        case "packages":
            return frozenset({from_document(PackageRecord, collection, key, content).digest})
        case "models":
            return frozenset({from_document(SeedModelRecord, collection, key, content).digest})
        case _:
            return frozenset()

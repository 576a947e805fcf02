"""Judges a trial's history when it is over: python -m chaos.checker FILE.

What is checked, whatever was done to the network:

- one model for each round, in whatever anybody ever saw or wrote;
- a commit that somebody saw is seen by everybody who looks later;
- the fence of a document never decreases, from version to version and from look to look, and each version was written
  once: no write of an older reducer goes through behind a newer one's;
- the committed rounds of a session are a chain: each begins with the model of the one before, and none is missing;
- the history is whole: each commit that was seen was seen to be written.
"""

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from chaos.history import Entry, read

RoundOf = tuple[str, int]


def faults_of(history: Sequence[Entry]) -> list[str]:
    """Return everything that must not have happened, in words."""
    rules = (_models, _unseen, _fences_of_looks, _versions, _chain, _whole)
    return [fault for rule in rules for fault in rule(history)]


# ---- what was seen


def _commits(entry: Entry) -> dict[RoundOf, str]:
    """Return the committed rounds that an operation shows."""
    if entry["op"] == "look":
        return {(entry["session"], number): model for number, model in entry["committed"]}
    if entry["op"] == "documents":
        return {_round(one): one["model"] for one in entry["seen"].values() if one.get("status") == "committed"}
    if entry["op"] == "write" and entry["result"] == "ok" and entry.get("status") == "committed":
        return {_round(entry): entry["model"]}
    return {}


def _round(facts: Entry) -> RoundOf:
    return facts["session"], facts["round"]


def _models(history: Sequence[Entry]) -> Iterator[str]:
    models: dict[RoundOf, set[str]] = defaultdict(set)
    for entry in history:
        for where, model in _commits(entry).items():
            models[where].add(model)
    for (session, number), found in sorted(models.items()):
        if len(found) > 1:
            yield f"round {number} of session {session} has {len(found)} models: {', '.join(sorted(found))}"


def _unseen(history: Sequence[Entry]) -> Iterator[str]:
    """Compare each look with what was seen by any look that had ended before it began."""
    looks = [one for one in history if one["op"] in {"look", "documents"} and one["result"] == "ok"]
    ended = sorted(looks, key=lambda one: one["end"])
    known: dict[RoundOf, tuple[str, str]] = {}
    at = 0
    for look in sorted(looks, key=lambda one: one["start"]):
        while at < len(ended) and ended[at]["end"] < look["start"]:
            for where, model in _commits(ended[at]).items():
                known.setdefault(where, (model, ended[at]["by"]))
            at += 1
        seen = _commits(look)
        for where, (model, by) in known.items():
            if look["op"] == "look" and where[0] != look["session"]:
                continue
            if seen.get(where) != model:
                yield f"round {where[1]} of session {where[0]} was seen by {by} and not by {look['by']} afterwards"


# ---- documents


def _fences_of_looks(history: Sequence[Entry]) -> Iterator[str]:
    last: dict[str, Entry] = {}
    for look in history:
        if look["op"] != "documents":
            continue
        for document, facts in look["seen"].items():
            before = last.get(document, facts)
            for what in ("fence", "version"):
                if facts[what] < before[what]:
                    yield f"the {what} of {document} went from {before[what]} to {facts[what]}"
            last[document] = facts


def _versions(history: Sequence[Entry]) -> Iterator[str]:
    written: dict[str, dict[int, int]] = defaultdict(dict)
    for write in history:
        if write["op"] != "write" or write["result"] != "ok":
            continue
        versions = written[write["document"]]
        if write["version"] in versions:
            yield f"version {write['version']} of {write['document']} was written twice"
        versions[write["version"]] = write["fence"]
    for document, versions in written.items():
        fences = [versions[version] for version in sorted(versions)]
        for before, after in itertools.pairwise(fences):
            if after < before:
                yield f"{document} was written under fence {after} behind fence {before}"


def _chain(history: Sequence[Entry]) -> Iterator[str]:
    last = next((one for one in reversed(history) if one["op"] == "documents" and one["result"] == "ok"), None)
    if last is None:
        yield "nobody saw the documents"
        return
    sessions: dict[str, dict[int, Entry]] = defaultdict(dict)
    for facts in last["seen"].values():
        if facts.get("status") == "committed":
            sessions[facts["session"]][facts["round"]] = facts
    for session, rounds in sessions.items():
        if sorted(rounds) != list(range(1, len(rounds) + 1)):
            yield f"the committed rounds of session {session} are {sorted(rounds)}"
        for number, facts in sorted(rounds.items()):
            if number > 1 and number - 1 in rounds and facts["base"] != rounds[number - 1]["model"]:
                yield f"round {number} of session {session} does not begin with the model of round {number - 1}"


def _whole(history: Sequence[Entry]) -> Iterator[str]:
    """A history that lacks writes proves nothing of them."""
    writes = [one for one in history if one["op"] == "write" and one.get("status") == "committed"]
    written = {_round(write) for write in writes if write["result"] != "refused"}
    for session, number in sorted({where for look in history if look["op"] == "look" for where in _commits(look)}):
        if (session, number) not in written:
            yield f"round {number} of session {session} was seen committed, and nobody saw it written"


def main() -> int:
    history = read(Path(sys.argv[1]))
    faults = faults_of(history)
    sys.stdout.write("\n".join([*faults, f"{len(history)} operations, {len(faults)} faults"]) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

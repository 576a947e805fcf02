"""What a simulated reducer does with objects: puts them before it names them, looks after naming, sweeps the rest."""

from simulator.lease import LeasedNode
from simulator.working import Work

from fedn_py.identity import Digest

SWEEPS_EVERY_S = 20.0


class StoringNode(LeasedNode):
    """A reducer with an object store."""

    def put(self, content: bytes) -> Work:
        """Store an object and return its digest, waiting while the store is away."""
        return (yield from self.patiently(lambda: self._put(content)))

    def get(self, digest: Digest) -> Work:
        """Read an object, waiting while the store is away; raises ObjectMissing, ObjectCorrupt."""
        return (yield from self.patiently(lambda: self._get(digest)))

    def look_after(self, digest: Digest, content: bytes) -> Work:
        """Put an object again that was swept while it was being named."""
        while not self.world.machines.is_kept(self, digest):
            self.world.chaos.noticed("a model was swept while it was being named")
            yield from self.put(content)

    def _put(self, content: bytes) -> Work:
        yield self.world.chaos.store_s()
        return self.world.store.objects.put(content)

    def _get(self, digest: Digest) -> Work:
        yield self.world.chaos.store_s()
        return self.world.store.objects.get(digest)

    def sweeping(self) -> Work:
        """Remove what no document names, again and again: list it first, and look again before each is removed."""
        world = self.world
        while True:
            yield world.chaos.uniform(0.5, 1.5) * SWEEPS_EVERY_S
            if world.store.objects.away or world.shelf_is_away():
                continue
            found = self._unnamed()
            yield world.chaos.uniform(0.1, 3)
            for digest in found:
                if not world.store.objects.away and digest in self._unnamed():
                    world.store.objects.delete(digest)
                    world.chaos.noticed("an object is swept")
                yield world.chaos.store_s()

    def _unnamed(self) -> list[Digest]:
        return self.world.store.objects.unnamed(self.world.store.named(), self.world.sizes.sweep_grace_s)


def is_kept(node: StoringNode, digest: Digest) -> bool:
    """Say whether an object that was just named is there."""
    return digest in node.world.store.objects

"""The circuit breaker of a pool: a teacher whose engines keep dying is given up.

Every start of an actor leaves a mark, so a process that is killed without a word is counted too;
one that ends because its engine died writes the reason into its mark first. Marks lie in the run
folder, where a restarted actor on any node finds them.
"""

import uuid
from dataclasses import dataclass

from persyn_ray.errors import EngineDead
from persyn_ray.storage.folder import Folder


@dataclass
class CircuitBreaker:
    """Counts the starts of one pool's actors.

    A process that starts in the place of another is a death; an actor that moves to another node,
    and one that a growing pool adds, is none.

    Args:
        folder: where the marks lie; empty when the pool begins.
        max_deaths: deaths after which nothing is started any more.
    """

    folder: Folder
    max_deaths: int
    mark: str = ""

    def start(self, where: str) -> None:
        """Leave a mark of this process's own: breakers are made by the driver and copied to actors.

        Args:
            where: the actor and its node.

        Raises:
            EngineDead: too many actors have died before it.
        """
        self.mark = f"{where}.{uuid.uuid4().hex}.txt"
        self.folder.write_text(self.mark, "")
        marks = self.folder.names(".txt")
        deaths = len(marks) - len({mark.partition(".")[0] for mark in marks})
        if deaths > self.max_deaths:
            raise EngineDead(f"given up after {deaths} deaths of its process; {self._last_words()}")

    def died(self, error: EngineDead) -> None:
        """Keep the reason why this actor ends.

        Raises:
            EngineDead: this was one death too many; the actor had better stay and say so.
        """
        self.folder.write_text(self.mark, str(error))
        deaths = sum(1 for name in self.folder.names(".txt") if self.folder.read_text(name))
        if deaths > self.max_deaths:
            raise EngineDead(f"given up after {deaths} deaths of its engine; the last: {error}")

    def _last_words(self) -> str:
        texts = [self.folder.read_text(name) for name in self.folder.names(".txt")]
        said = [text for text in texts if text]
        if said:
            return f"one of them: {said[-1]}"
        return "none left a word (killed from outside: out of memory?)"

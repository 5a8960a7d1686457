"""All replicas of the engine, as the run asks them.

They run for the whole run: child processes on loopback, with a random key. Each round's child is loaded as an adapter
under a new name, as merged weights reloaded in place, or by a restart. Before it is used, its log-probabilities prove
on every replica that it is the trained model (`crescent.engine.proof`). Any OpenAI-compatible endpoints can be used
instead (`serving.urls`).
"""

import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from crescent.config import ModelConfig, ServingConfig, TrainConfig, WhileTraining
from crescent.engine.client import Endpoint, EngineDied
from crescent.engine.deaths import Deaths
from crescent.engine.engine_process import NoRoom, Setup
from crescent.engine.outside import is_here
from crescent.engine.placement import Seat, seats_here
from crescent.engine.replica import Replica
from crescent.errors import CrescentError, TryAgain
from crescent.records import Checkpoint
from launch import Launch

T = TypeVar("T")

WATCH_S = 0.5
"""Seconds between two looks at the processes of several replicas."""


class Server:
    """The run's engine: started when first needed, serves one checkpoint after another, stopped at the end."""

    def __init__(
        self,
        serving: ServingConfig,
        model: ModelConfig,
        train: TrainConfig,
        launch: Launch,
        name: str,
        log: Path,
        say: Callable[[str], None] = lambda line: None,
        seats: Sequence[Seat] | None = None,
    ) -> None:
        """
        Args:
            log: Log of a single engine; of several, the third has `server-3.log` in place of `server.log`.
            say: Shows a line about what the engine does, from any thread: it can take minutes to start.
            seats: A place for each replica; `None`: those of this machine.
        """
        self.serving = serving
        self.log = log
        self.say = say
        self.deaths = Deaths(log.parent / "engine_deaths.jsonl")
        own_key = "crescent-" + secrets.token_urlsafe(24)
        self.key = os.environ.get("CRESCENT_API_KEY", "none") if serving.urls else own_key
        setup = Setup(serving, model, train, launch, name, self.key)
        places: Sequence[Seat | str] = serving.urls or (seats_here(serving) if seats is None else seats)
        self.replicas = [self._replica(setup, number, place, len(places)) for number, place in enumerate(places, 1)]
        self._restarts: list[threading.Thread] = []
        """Restarts in the background since the replicas were last made to serve something."""

    def ask(self, checkpoint: Checkpoint, work: Callable[[Endpoint], T]) -> T:
        """Do `work` on the served checkpoint; a dead engine is restarted, a limited number of times.

        A replica that dies beside others is restarted while those go on. If no replica answers a request of `work`, it
        starts from the beginning: it must find its earlier completions in a journal.
        """
        while True:
            try:
                endpoint = self.serve(checkpoint)
                with self._watched(checkpoint):
                    return work(endpoint)
            except EngineDied as error:
                self._recover(error)

    def serve(self, checkpoint: Checkpoint) -> Endpoint:
        """Make all replicas serve `checkpoint`, and prove that they do; raises as `Replica.serve`.

        Replicas without room join as soon as there is some, if others serve.
        """
        self._finish_restarts()
        self._restarts.clear()
        replicas = self._usable()
        for replica in replicas:
            replica.permit()
        placed = [replica for replica in replicas if not replica.has_no_room] or replicas
        try:
            at_once(placed, lambda replica: replica.serve(checkpoint))
        except NoRoom as error:
            absent = [replica for replica in placed if replica.served != checkpoint]
            if len(absent) == len(placed):
                self.stop()
                raise
            for replica in absent:
                replica.say(f"joins the others when there is room: {error}")
        except EngineDied:
            raise
        except BaseException:
            self.stop()  # the others may still be starting
            raise
        return Endpoint(tuple(replica.url for replica in replicas), replicas[0].model_name(checkpoint), self.key)

    def pause(self) -> None:
        """Free memory for the trainer, if `serving.while_training` says so."""
        if self.serving.while_training is WhileTraining.sleep:
            at_once(self.replicas, Replica.sleep)
            return
        if self.serving.while_training is WhileTraining.keep:
            return
        here = [url for url in self.serving.urls if is_here(url)]
        if here:
            self.say(
                f"{', '.join(here)} runs on this machine and keeps its memory while the trainer works; if that does "
                "not fit, start it with a lower --gpu-memory-utilization"
            )
        self.stop()

    def stop(self) -> None:
        """Stop all engines and all their processes."""
        at_once(self.replicas, Replica.stop)

    def _replica(self, setup: Setup, number: int, place: Seat | str, count: int) -> Replica:
        """A replica; several have logs of their own, and say who they are."""
        log = self.log if count == 1 else self.log.with_stem(f"{self.log.stem}-{number}")
        name = "" if count == 1 else f"replica {number} of {count}: "
        return Replica(setup, number, place, log, self.log.parent / "served.jsonl", lambda line: self.say(name + line))

    def _usable(self) -> list[Replica]:
        """The replicas without those that died too often; all of them, if all did: they were started on purpose."""
        counts = self.deaths.count()
        usable = [replica for replica in self.replicas if counts[replica.number] <= self.serving.max_restarts]
        return usable or self.replicas

    def _recover(self, error: EngineDied) -> None:
        """Stop the replicas that do not answer, so that they are started again.

        Raises:
            TryAgain: all died too often.
        """
        self._finish_restarts()
        silent = [replica for replica in self._usable() if not (replica.answers() or replica.has_no_room)]
        if not silent and not self._restarts:  # they look well, but a request found none that answers
            silent = self._usable()
        most = self.serving.max_restarts
        for replica in silent:
            said = replica.failure()
            replica.stop()
            deaths = self.deaths.add(replica.number, str(error))
            counts = self.deaths.count()
            if all(counts[other.number] > most for other in self.replicas):
                raise TryAgain(
                    f"the engine died {deaths} times in this run (serving.max_restarts={most}): {error}\n{said}\n"
                    f"nothing is lost: look into {replica.log}, delete {self.deaths.path}, and run the same command "
                    "again"
                ) from error
            replica.say(f"the engine died and is restarted ({deaths} of {most}): {error}")

    @contextmanager
    def _watched(self, checkpoint: Checkpoint) -> Iterator[None]:
        """Restart replicas that die meanwhile. A single one is not watched: its clients notice."""
        if len(self.replicas) == 1 or self.serving.urls:
            yield
            return
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(checkpoint, over), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _watch(self, checkpoint: Checkpoint, over: threading.Event) -> None:
        while not over.wait(WATCH_S):
            for replica in self.replicas:
                died = replica.died
                if died or replica.has_no_room:
                    replica.served, replica.has_no_room = None, False
                    start = self._restart if died else self._join
                    restart = threading.Thread(target=start, args=(replica, checkpoint), daemon=True)
                    self._restarts.append(restart)
                    restart.start()

    def _restart(self, replica: Replica, checkpoint: Checkpoint) -> None:
        """Start a dead replica again; it is left out if that does not work, or if it died too often."""
        deaths, most = self.deaths.add(replica.number, "its process ended"), self.serving.max_restarts
        if deaths > most:
            replica.say(f"died {deaths} times (serving.max_restarts={most}) and is left out; its log is {replica.log}")
            return
        replica.say(f"died and is restarted while the others go on ({deaths} of {most}); its log is {replica.log}")
        self._join(replica, checkpoint)

    def _join(self, replica: Replica, checkpoint: Checkpoint) -> None:
        """Start a replica beside those that serve; it is left out if that does not work. Without room, it is tried
        again."""
        try:
            replica.serve(checkpoint)
        except NoRoom:
            return
        except (CrescentError, OSError) as error:
            replica.say(f"is left out until the next stage: {error}")

    def _finish_restarts(self) -> None:
        for replica in self.replicas:
            replica.hurry(True)
        for restart in self._restarts:
            restart.join()
        for replica in self.replicas:
            replica.hurry(False)


def at_once(replicas: Sequence[Replica], work: Callable[[Replica], None]) -> None:
    """Do `work` for all replicas at the same time.

    Raises:
        EngineDied, NoRoom: from `work`, when it is done for the others; EngineDied first.
        Exception: any other one from `work`, at once.
    """
    if len(replicas) == 1:
        work(replicas[0])
        return
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def do(replica: Replica) -> None:
        try:
            work(replica)
        except BaseException as error:
            ended.put(error)
        else:
            ended.put(None)

    for replica in replicas:
        threading.Thread(target=do, args=(replica,), daemon=True).start()
    died: list[EngineDied | NoRoom] = []
    for _ in replicas:
        error = ended.get()
        if isinstance(error, EngineDied | NoRoom):
            died.append(error)
        elif error is not None:
            raise error
    if died:
        raise next((error for error in died if isinstance(error, EngineDied)), died[0])

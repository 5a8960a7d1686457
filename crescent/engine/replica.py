"""One replica: an engine of our own, or an endpoint that somebody else started, and what it serves."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crescent.config import Child
from crescent.engine.client import EngineDied
from crescent.engine.connection import Connection, ServerError
from crescent.engine.engine_process import EngineProcess, NoRoom, Setup
from crescent.engine.key import OPEN
from crescent.engine.placement import Seat
from crescent.engine.proving import Prover
from crescent.errors import BadConfig, CrescentError, Missing, TryAgain
from crescent.records import Checkpoint


class Replica:
    """Serves one checkpoint after another. It is asked by nobody else before each is proven."""

    def __init__(
        self, setup: Setup, number: int, place: Seat | str, log: Path, findings: Path, say: Callable[[str], None]
    ) -> None:
        """
        Args:
            number: Number among the replicas, from 1.
            place: Where to start an engine, or the URL of an endpoint that runs already.
            log: Log of the engine that is started.
            findings: File of the run with all proofs.
        """
        self.setup = setup
        self.number = number
        self.log = log
        self.say = say
        self.engine = EngineProcess(setup, place, log, say) if isinstance(place, Seat) else None
        self.connection = self.engine.connection if self.engine else Connection(str(place), setup.key)
        self.prover = Prover(self.connection, setup.model, setup.train, findings, say)
        self.served: Checkpoint | None = None
        self.has_no_room = False
        """Whether no machine had room for its engine when it was last to serve something."""
        self._held: Checkpoint | None = None
        """Checkpoint whose complete weights the process holds; adapters are loaded beside them."""
        self._asleep = False
        self._busy = threading.RLock()
        """Held while it is made to serve something."""

    @property
    def url(self) -> str:
        return self.connection.url

    def serve(self, checkpoint: Checkpoint) -> None:
        """Make it serve `checkpoint`, prove that it does, and let others ask it.

        Raises:
            EngineDied: it died meanwhile.
            NoRoom: no machine has room for its engine.
            Missing: its engine does not start, or the checkpoint's weights were deleted (`run.keep`).
            TryAgain: its engine does not start in time, or was stopped meanwhile.
            CrescentError: it does not answer with the checkpoint's weights.
        """
        with self._busy:
            if self.served == checkpoint and self._runs():
                return
            adapters = self.setup.serving.child is Child.adapter
            if checkpoint.weights is None and (checkpoint.adapter is None or not adapters):
                raise Missing(
                    f"{checkpoint.name}: its weights were deleted at the end of its round (run.keep=best); "
                    f"run.redo=round-{checkpoint.round}/train makes them and all later stages again"
                )
            self.served, self.has_no_room = None, False
            slept = self._asleep
            try:
                self._load_and_prove(checkpoint)
            except CrescentError as error:
                if not slept or isinstance(error, Missing | TryAgain | EngineDied):
                    raise
                # Of an engine that slept its weights are doubted first, not the child's.
                self.say(f"after its sleep {error}; so the engine is restarted")
                self._held = None
                self._load_and_prove(checkpoint)
            if self.engine is not None:
                self.connection.post(OPEN, {})
            self.served = checkpoint

    def permit(self) -> None:
        """Let it be started again after `stop`."""
        if self.engine is not None:
            self.engine.permit()

    def hurry(self, must_not_wait: bool) -> None:
        """Whether another thread that starts its engine gives up at once if no machine has room."""
        if self.engine is not None:
            self.engine.hurry(must_not_wait)

    def stop(self) -> None:
        """Stop its engine, also one that another thread is starting."""
        if self.engine is not None:
            self.engine.stop()
        with self._busy:
            self.served = self._held = None
            self._asleep = False

    @property
    def died(self) -> bool:
        """Whether it served something until its engine ended by itself."""
        return self.served is not None and self.engine is not None and not self.engine.runs

    def sleep(self) -> None:
        """Give the GPU's memory back until it has to serve something: its weights wait in main memory. If it cannot, it
        is stopped."""
        with self._busy:
            if self.engine is None or not self.engine.runs or self._asleep:
                return
            self.served = None
            try:
                self.connection.post("/sleep?level=1", {}, timeout_s=600)
            except CrescentError as error:
                self.say(f"cannot sleep and is stopped: {error}")
                self.stop()
            else:
                self._asleep = True

    def answers(self) -> bool:
        """Whether its own engine serves something and completes a request; `False` for an endpoint."""
        served = self.served
        return self.engine is not None and served is not None and self.engine.completes(self.model_name(served))

    def failure(self) -> str:
        """What the engine's log says about errors since it was started."""
        return "" if self.engine is None else self.engine.failure()

    def model_name(self, checkpoint: Checkpoint) -> str:
        """Name of the checkpoint in requests."""
        if self.engine is None and checkpoint.adapter is None:
            return self._remote_base()
        if self.setup.serving.child is Child.adapter:
            return checkpoint.name
        return self.setup.name

    def _runs(self) -> bool:
        return self.engine is None or self.engine.runs

    def _load_and_prove(self, checkpoint: Checkpoint) -> None:
        try:
            self._load(checkpoint)
        except NoRoom:
            self.has_no_room = True
            raise
        self.prover.prove(checkpoint, self.model_name(checkpoint))

    def _load(self, checkpoint: Checkpoint) -> None:
        """Make the engine answer with the checkpoint's weights; measure its noise on the base while it holds that."""
        way = self.setup.serving.child
        if self._asleep:
            self._wake()
        # Another architecture needs another process.
        other = self._held is None or self._held.origin != checkpoint.origin
        if self.engine is not None and way is Child.restart and self.prover.needs_base_for(checkpoint):
            # Started with the child, it would never hold the base: once in a run it is started for that.
            if not self._runs() or self._held != checkpoint.origin:
                self._start(checkpoint.origin)
            self.prover.measure_noise(checkpoint, self.model_name(checkpoint.origin))
        if self.engine is not None and (not self._runs() or way is Child.restart or other):
            self._start(checkpoint if way is Child.restart else checkpoint.origin)
        if self.engine is None or self._held == checkpoint.origin:
            base = checkpoint.origin
            self.prover.measure_noise(checkpoint, self.model_name(base))
        if way is Child.adapter:
            self._load_adapter(checkpoint)
        elif self._held != checkpoint:
            self._reload(checkpoint)

    def _start(self, checkpoint: Checkpoint) -> None:
        """Start the engine with the complete weights of a checkpoint."""
        assert self.engine is not None
        assert checkpoint.weights is not None
        self._held, self._asleep = None, False
        self.engine.start(checkpoint.weights, self.model_name(checkpoint))
        self._held = checkpoint

    def _wake(self) -> None:
        """Wake the engine, or else forget what it held, so that it is started again."""
        self._asleep = False
        with suppress(CrescentError):
            self.connection.post("/wake_up", {}, timeout_s=600)  # what it answers is not the same in all versions
            if not self.connection.sleeps() and self._drop_cache():
                return
        self.say("the engine does not wake up, and is restarted")
        self._held = None

    def _load_adapter(self, checkpoint: Checkpoint) -> None:
        if checkpoint.adapter is not None:
            body = {"lora_name": checkpoint.name, "lora_path": checkpoint.adapter}
            # A name that it already knows is fine: an interrupted run loaded it.
            try:
                self.connection.post("/v1/load_lora_adapter", body, timeout_s=600, accept=("already been loaded",))
            except ServerError as error:
                if self.engine is not None:
                    raise
                raise refused_adapter(self.url, checkpoint.name, error) from error

    def _reload(self, checkpoint: Checkpoint) -> None:
        assert checkpoint.weights is not None
        body = {"method": "reload_weights", "kwargs": {"weights_path": checkpoint.weights}}
        self._held = None
        self.connection.post("/collective_rpc", body, timeout_s=600)
        self._held = checkpoint
        if not self._drop_cache():
            self.say("the engine keeps what it cached under the earlier weights, and is restarted")
            self._start(checkpoint)

    def _drop_cache(self) -> bool:
        """Whether the engine dropped the keys and values that it cached. The proof cannot notice those of earlier
        weights: requests for log-probabilities of a prompt do not read the cache."""
        for query in ("", "?reset_running_requests=true"):
            with suppress(CrescentError):  # it cannot: restarting helps
                reply = self.connection.post(f"/reset_prefix_cache{query}", {})
                if isinstance(reply, dict) and reply.get("success") is True:
                    return True
        return False

    def _remote_base(self) -> str:
        """Name of the base at an external endpoint: `model.path` if it lists that, else its first model that is not an
        adapter."""
        listed, path = self.connection.models(), self.setup.model.path
        if any(served.id == path for served in listed):
            return path
        bases = [served.id for served in listed if not served.parent]
        if not bases:
            adapters = ", ".join(served.id for served in listed)
            raise BadConfig(f"serving.urls={self.url}: it lists no base model, only adapters: {adapters or 'none'}")
        return bases[0]


def refused_adapter(url: str, name: str, error: ServerError) -> CrescentError:
    """What it means that an endpoint which somebody else started fails to load an adapter: it is not dead, and it is
    not ours to restart. A gateway's error may be gone the next time, the server's own will not."""
    kind = Missing if error.status == 500 else TryAgain
    fix = "see its log; nothing is lost: when that is mended, run the same command again"
    return kind(f"serving.urls={url}: cannot load the adapter {name}: {error}; {fix}")

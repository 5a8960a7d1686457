"""Start, watch and stop the engine.

One server runs for the whole run (a child process on loopback, with a random key). Each round's child is loaded as an
adapter under a new name, as merged weights reloaded in place, or by a restart. Before it is used, its log-probabilities
prove that it is the trained model (`crescent.engine.proof`). Any OpenAI-compatible endpoint can be used instead
(`serving.urls`).
"""

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from crescent.config import Child, EngineKind, ModelConfig, ServingConfig, Start, TrainConfig, WhileTraining
from crescent.engine.client import Endpoint, EngineDied
from crescent.engine.failure import explain_failure
from crescent.engine.outside import is_here
from crescent.engine.proof import ASSUMED_NOISE, LEAST_NOISE, NOISE_LIMIT, Finding, Outcome, distance, find, noise
from crescent.engine.vllm_command import runs_on_cpu, vllm_command, vllm_environment
from crescent.errors import BadConfig, CrescentError, Missing, TryAgain
from crescent.machine.proxies import is_loopback, proxy_explained
from crescent.records import Checkpoint, Proof, to_line
from launch import ChildProcess, Launch

T = TypeVar("T")


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
    ) -> None:
        self.serving = serving
        self.model = model
        self.train = train
        self.launch = launch
        self.name = name
        self.log = log
        self.say = say
        """Shows a line about what the engine does: it can take minutes to start."""
        self.served: Checkpoint | None = None
        self._process: ChildProcess | None = None
        self._held: Checkpoint | None = None
        """Checkpoint whose complete weights the process holds; adapters are loaded beside them."""
        own_key = "crescent-" + secrets.token_urlsafe(24)
        self._key = os.environ.get("CRESCENT_API_KEY", "none") if serving.urls else own_key
        self._urls: tuple[str, ...] = tuple(serving.urls)
        self._log_begin = 0
        """Size of the log, in bytes, before the process was started."""
        self._base_proofs: dict[str, Proof] = {}
        """Proof of the last child that was trained from a base, by digest of the base. It holds the base's
        log-probabilities, too, so the base can be recognised by it."""
        self._noises: dict[str, float] = {}
        """Noise that this process measured on the base, by URL, in nats."""

    def ask(self, checkpoint: Checkpoint, work: Callable[[Endpoint], T]) -> T:
        """Do `work` on the served checkpoint; a dead engine is restarted, a limited number of times.

        After a restart, `work` starts from the beginning: it must find its earlier completions in a journal.
        """
        while True:
            try:
                return work(self.serve(checkpoint))
            except EngineDied as error:
                self.stop()
                deaths = self._count_death(str(error))
                if deaths > self.serving.max_restarts:
                    raise TryAgain(
                        f"the engine died {deaths} times in this run "
                        f"(serving.max_restarts={self.serving.max_restarts}): {error}\n{self._failure()}\n"
                        f"nothing is lost: look into {self.log}, delete {self._deaths}, and run the same command again"
                    ) from error
                self.say(f"the engine died and is restarted ({deaths} of {self.serving.max_restarts}): {error}")

    @property
    def _deaths(self) -> Path:
        return self.log.parent / "engine_deaths.jsonl"

    def _count_death(self, cause: str) -> int:
        """Number of deaths over all attempts of the run, so that a scheduler cannot restart a hopeless run for ever."""
        with self._deaths.open("ab+") as deaths:
            deaths.write(to_line({"cause": cause, "time": time.time()}))
            deaths.seek(0)
            return len(deaths.readlines())

    def serve(self, checkpoint: Checkpoint) -> Endpoint:
        """Make the engine serve `checkpoint`, and prove that it does.

        Raises:
            Missing: its weights were deleted (`run.keep`).
        """
        if self.served != checkpoint or not self._alive():
            if checkpoint.weights is None and (checkpoint.adapter is None or self.serving.child is not Child.adapter):
                raise Missing(
                    f"{checkpoint.name}: its weights were deleted at the end of its round (run.keep=best); "
                    f"run.redo=round-{checkpoint.round}/train makes them and all later stages again"
                )
            self.served = None
            self._load(checkpoint)
            self._prove(checkpoint)
            self.served = checkpoint
        return Endpoint(self._urls, self._model_name(checkpoint), self._key)

    def _load(self, checkpoint: Checkpoint) -> None:
        """Make the engine answer with the checkpoint's weights; measure its noise on the base while it holds that."""
        way = self.serving.child
        if not self.serving.urls and (not self._alive() or way is Child.restart or self._origin() != checkpoint.origin):
            self._start(checkpoint if way is Child.restart else checkpoint.origin)
        if self.serving.urls or self._held == checkpoint.origin:
            self._measure_noise(checkpoint)
        if way is Child.adapter:
            self._load_adapter(checkpoint)
        elif self._held != checkpoint:
            self._reload(checkpoint)

    def pause(self) -> None:
        """Free memory for the trainer, if `serving.while_training` says so."""
        if self.serving.while_training is not WhileTraining.stop:
            return
        here = [url for url in self.serving.urls if is_here(url)]
        if here:
            self.say(
                f"{', '.join(here)} runs on this machine and keeps its memory while the trainer works; if that does "
                "not fit, start it with a lower --gpu-memory-utilization"
            )
        self.stop()

    def stop(self) -> None:
        """Stop the server and all its processes."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        self.served = self._held = None

    def _failure(self) -> str:
        """What the log says about errors since the process was started, and its last lines."""
        return explain_failure(self.log, self._log_begin)

    def _alive(self) -> bool:
        return bool(self.serving.urls) or (self._process is not None and self._process.poll() is None)

    def _origin(self) -> Checkpoint | None:
        """Untrained model whose architecture the process runs; another architecture needs another process."""
        return self._held.origin if self._held is not None else None

    def _model_name(self, checkpoint: Checkpoint) -> str:
        if self.serving.urls and checkpoint.adapter is None:
            return self._remote_base()
        if self.serving.child is Child.adapter:
            return checkpoint.name
        return self.name

    def _remote_base(self) -> str:
        """Name of the base at an external endpoint: `model.path` if it lists that, else its first model that is not an
        adapter."""
        listed = self._request("GET", "/v1/models", None, timeout_s=60)["data"]
        if any(entry["id"] == self.model.path for entry in listed):
            return self.model.path
        bases = [entry["id"] for entry in listed if not entry.get("parent")]
        if not bases:
            adapters = ", ".join(entry["id"] for entry in listed)
            raise BadConfig(
                f"serving.urls={self._urls[0]}: it lists no base model, only adapters: {adapters or 'none'}"
            )
        return str(bases[0])

    def _start(self, checkpoint: Checkpoint) -> None:
        """Start the engine with the complete weights of a checkpoint."""
        self.stop()
        began = time.monotonic()
        self.say(f"the engine starts; its log is {self.log}")
        port = _free_port()
        self._urls = (f"http://127.0.0.1:{port}/v1",)
        weights, name = checkpoint.weights, self._model_name(checkpoint)
        assert weights is not None
        if self.serving.engine is EngineKind.vllm:
            lora, on_cpu = self.train.lora, runs_on_cpu()
            command = vllm_command(self.serving, self.model, lora, weights, name, port, on_cpu)
        else:
            command = [sys.executable, "-P", "-m", "crescent.engine.fakes", "serve", weights, str(port), name]
        self._log_begin = self.log.stat().st_size if self.log.exists() else 0
        self._process = self.launch.start(command, self.log, vllm_environment(self.serving, self._key))
        self._wait_until_it_answers(name)
        self._held = checkpoint
        self.say(f"the engine answers after {time.monotonic() - began:.0f} s")

    def _wait_until_it_answers(self, model: str) -> None:
        """Wait for a real completion: a server can list its models with a dead engine behind it."""
        deadline = time.monotonic() + self.serving.start_timeout_s
        body = {"model": model, "prompt": "1", "max_tokens": 1, "temperature": 0}
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                code = self._process.poll()
                self.stop()
                raise Missing(f"the engine failed to start (exit code {code}): {self._failure()}")
            try:
                self._post("/v1/completions", body, timeout_s=60)
                return
            except CrescentError:
                time.sleep(0.2)
        self.stop()
        limit = f"serving.start_timeout_s={self.serving.start_timeout_s:g}"
        late = f"the engine gave no completion within {limit}; raise that if it was still loading"
        raise TryAgain(f"{late}\n{self._failure()}")

    def _load_adapter(self, checkpoint: Checkpoint) -> None:
        if checkpoint.adapter is not None:
            # Each replica loads it. A name that it already knows is fine: an interrupted run loaded it.
            for url in self._urls:
                body = {"lora_name": checkpoint.name, "lora_path": checkpoint.adapter}
                self._post("/v1/load_lora_adapter", body, timeout_s=600, url=url, accept=("already been loaded",))

    def _reload(self, checkpoint: Checkpoint) -> None:
        assert checkpoint.weights is not None
        body = {"method": "reload_weights", "kwargs": {"weights_path": checkpoint.weights}}
        self._held = None
        self._post("/collective_rpc", body, timeout_s=600)
        self._held = checkpoint
        if not self._drop_cache():
            self.say("the engine keeps what it cached under the earlier weights, and is restarted")
            self._start(checkpoint)

    def _drop_cache(self) -> bool:
        """Whether the engine dropped the keys and values that it cached. The proof cannot notice those of earlier
        weights: requests for log-probabilities of a prompt do not read the cache."""
        for query in ("", "?reset_running_requests=true"):
            with suppress(CrescentError):  # it cannot: restarting helps
                reply = self._post(f"/reset_prefix_cache{query}", {}, timeout_s=60)
                if isinstance(reply, dict) and reply.get("success") is True:
                    return True
        return False

    def _measure_noise(self, checkpoint: Checkpoint) -> None:
        """Measure how far engine and trainer are apart on the base, which is served now, on the child's texts.

        Raises:
            CrescentError: they do not hold the same base.
        """
        if checkpoint.proof is None or not self._trained_from_base(checkpoint):
            return
        base = checkpoint.origin
        for url in self._urls:
            found = noise(self._answers(checkpoint.proof, base, url), checkpoint.proof.parent)
            if found > (limit := NOISE_LIMIT[self.model.dtype]):
                raise CrescentError(
                    f"{url} does not serve the base of {checkpoint.name}: its log-probabilities differ by {found:.3f} "
                    f"nats (root mean square; at most {limit} is rounding) from those by the trainer; it must serve "
                    f"{base.weights} in {self.model.dtype.value}, not quantised"
                )
            self._noises[url] = found

    def _trained_from_base(self, checkpoint: Checkpoint) -> bool:
        return self.train.start is Start.base or checkpoint.round == 1

    def _noise(self, url: str) -> float:
        """The engine's noise as measured on the base: now, or earlier in this run; or else as assumed."""
        measured = self._noises.get(url, last_noise(self._proofs))
        least = LEAST_NOISE[self.model.dtype]
        return ASSUMED_NOISE[self.model.dtype] if measured is None else max(measured, least)

    @property
    def _proofs(self) -> Path:
        return self.log.parent / "served.jsonl"

    def _prove(self, checkpoint: Checkpoint) -> None:
        """Compare the served model's log-probabilities with those that the trainer recorded.

        Raises:
            CrescentError: the server does not answer with the checkpoint's weights.
        """
        proof = checkpoint.proof or self._base_proofs.get(checkpoint.digest)
        if proof is None:
            return  # a base of which no child was trained yet
        expected, other = (proof.child, proof.parent) if checkpoint.proof else (proof.parent, proof.child)
        for url in self._urls:
            served = self._answers(proof, checkpoint, url)
            found = find(served, expected, other, self._noise(url))
            if found.outcome is Outcome.proven and checkpoint.proof is None:
                self._noises[url] = noise(served, expected)
            line = {"checkpoint": checkpoint.name, "url": url, **asdict(found), "measured_noise": self._noises.get(url)}
            line |= {"from_own": distance(served, expected), "from_other": distance(served, other)}
            with self._proofs.open("ab") as proofs:
                proofs.write(to_line(line))
            if found.outcome is Outcome.wrong:
                raise CrescentError(refusal(url, checkpoint.name, found))
            if found.outcome is Outcome.unknown:
                self.say(
                    f"{checkpoint.name} cannot be told from its parent or child: training changed log-probabilities by "
                    f"{found.shift:.2g} nats, and engine and trainer differ by {found.noise:.2g} on the same weights"
                )
        if checkpoint.proof and self._trained_from_base(checkpoint):
            self._base_proofs[checkpoint.origin.digest] = checkpoint.proof

    def _answers(self, proof: Proof, checkpoint: Checkpoint, url: str) -> list[list[float | None]]:
        """Log-probabilities of the proof's texts under a checkpoint that is served now."""
        # One text at a time: vLLM 0.32 on CPU fails on prompt_logprobs of several LoRA requests in one batch.
        return [self._log_probabilities(ids, self._model_name(checkpoint), url) for ids in proof.token_ids]

    def _log_probabilities(self, token_ids: Sequence[int], model: str, url: str) -> list[float | None]:
        body = {"model": model, "prompt": list(token_ids), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        reply = self._post("/v1/completions", body, timeout_s=600, url=url)
        found: list[float | None] = []
        for token, options in zip(token_ids, reply["choices"][0]["prompt_logprobs"], strict=True):
            found.append(options[str(token)]["logprob"] if options else None)
        return found

    def _post(
        self, path: str, body: dict[str, Any], timeout_s: float, url: str | None = None, accept: Sequence[str] = ()
    ) -> Any:
        return self._request("POST", path, body, timeout_s, url, accept)

    def _request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        timeout_s: float,
        url: str | None = None,
        accept: Sequence[str] = (),
    ) -> Any:
        """Send a request to the server; `accept` are words in a refusal that mean nothing had to be done."""
        import httpx

        target = (url or self._urls[0]).rstrip("/").removesuffix("/v1") + path
        headers = {"Authorization": f"Bearer {self._key}"}
        try:
            with proxy_explained(target):
                reply = httpx.request(
                    method, target, json=body, headers=headers, timeout=timeout_s, trust_env=not is_loopback(target)
                )
        except httpx.HTTPError as error:
            raise EngineDied(f"{target}: {error or type(error).__name__}") from error
        if reply.is_success or any(words in reply.text for words in accept):
            return reply.json() if reply.headers.get("content-type", "").startswith("application/json") else None
        cause = f"{target} answered {reply.status_code}: {reply.text[:500]}"
        if reply.status_code in (401, 403):
            raise BadConfig(f"{cause}; set CRESCENT_API_KEY to the key of this endpoint")
        if reply.status_code >= 500:
            raise EngineDied(cause)
        raise CrescentError(cause)


def refusal(url: str, name: str, found: Finding) -> str:
    """Why a server is not trusted to serve a checkpoint, and what to do."""
    lines = [f"{url} does not serve {name}"]
    if found.slope is not None:
        lines.append(
            f"regression slope {found.slope:.2f} ± {found.standard_error:.2f}, where 1 stands for its weights and 0 "
            "for those of its parent or child"
        )
    lines.append(
        f"log-probabilities differ by {found.left:.4f} nats from the recorded ones, and by {found.noise:.4f} between "
        "engine and trainer on the same weights"
    )
    return f"{'; '.join(lines)}; serve children by serving.child=restart, which is slower and safer"


def last_noise(proofs: Path) -> float | None:
    """The noise that was measured last in a run; `None` if none was."""
    found = None
    for line in proofs.read_bytes().splitlines() if proofs.exists() else []:
        with suppress(ValueError):  # a torn line
            found = json.loads(line).get("measured_noise") or found
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

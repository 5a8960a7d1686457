"""Start, watch and stop the engine. The only file that knows vLLM.

One server runs for the whole run (a child process on loopback, with a random key). Each round's child is loaded as an
adapter under a new name, as merged weights reloaded in place, or by a restart. Before it is used, its log-probabilities
prove that it is the trained model. Any OpenAI-compatible endpoint can be used instead (`serving.urls`).
"""

import importlib.metadata
import importlib.util
import math
import os
import secrets
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from crescent.config import Child, Dtype, EngineKind, ModelConfig, ServingConfig, Start, TrainConfig, WhileTraining
from crescent.engine.client import Endpoint, EngineDied
from crescent.errors import BadConfig, CrescentError, Missing, TryAgain
from crescent.machine.processes import last_lines
from crescent.records import Checkpoint, Proof, to_line
from launch import ChildProcess, Launch

T = TypeVar("T")

TOLERANCE = {Dtype.float32: 0.005, Dtype.bfloat16: 0.1, Dtype.auto: 0.1}
"""Largest mean absolute difference of token log-probabilities, in nats, between two engines with the same weights.

In float32, vLLM and transformers differ by 0.00001 to 0.00005 on the quickstart's model. For bfloat16 it is a guess."""
NOISE = {Dtype.float32: 0.0005, Dtype.bfloat16: 0.02, Dtype.auto: 0.02}
"""Distance, in nats, below which a child cannot be distinguished from its parent."""


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
        self._origin: Checkpoint | None = None
        """Untrained model whose architecture the process runs; another architecture needs another process."""
        own_key = "crescent-" + secrets.token_urlsafe(24)
        self._key = os.environ.get("CRESCENT_API_KEY", "none") if serving.urls else own_key
        self._urls: tuple[str, ...] = tuple(serving.urls)
        self._base_proofs: dict[str, Proof] = {}
        """Proof of the last child that was trained from a base, by digest of the base. It holds the base's
        log-probabilities, too, so the base can be recognised by it."""

    def ask(self, checkpoint: Checkpoint, work: Callable[[Endpoint], T]) -> T:
        """Do `work` on the served checkpoint; a dead engine is restarted, a limited number of times.

        After a restart, `work` starts from the beginning: it must find its earlier completions in a journal.
        """
        while True:
            try:
                return work(self.serve(checkpoint))
            except EngineDied as error:
                tail = self.stop()
                deaths = self._count_death(str(error))
                if deaths > self.serving.max_restarts:
                    raise TryAgain(
                        f"the engine died {deaths} times in this run "
                        f"(serving.max_restarts={self.serving.max_restarts}): {error}\n{tail}\n"
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
            other = self._origin is not None and self._origin != checkpoint.origin
            if self.serving.urls:
                self._load_adapter(checkpoint)
            elif not self._alive() or self.serving.child is Child.restart or other:
                self._start(checkpoint)
            elif self.serving.child is Child.reload:
                self._reload(checkpoint)
            else:
                self._load_adapter(checkpoint)
            self._prove(checkpoint)
            self.served = checkpoint
        return Endpoint(self._urls, self._model_name(checkpoint), self._key)

    def pause(self) -> None:
        """Free memory for the trainer, if `serving.while_training` says so."""
        if self.serving.while_training is WhileTraining.stop:
            self.stop()

    def stop(self) -> str:
        """Stop the server and all its processes; returns the last lines of its log."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        self.served = None
        return last_lines(self.log)

    def _alive(self) -> bool:
        return bool(self.serving.urls) or (self._process is not None and self._process.poll() is None)

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
        self.stop()
        began = time.monotonic()
        self.say(f"the engine starts; its log is {self.log}")
        port = _free_port()
        self._urls = (f"http://127.0.0.1:{port}/v1",)
        start = checkpoint.origin if self.serving.child is Child.adapter else checkpoint
        assert start.weights is not None
        self._origin = checkpoint.origin
        if self.serving.engine is EngineKind.vllm:
            command = self._vllm_command(start.weights, self._model_name(start), port)
        else:
            what = [start.weights, str(port), self._model_name(start)]
            command = [sys.executable, "-P", "-m", "crescent.engine.fakes", "serve", *what]
        self._process = self.launch.start(command, self.log, self._environment())
        self._wait_until_it_answers(self._model_name(start))
        self.say(f"the engine answers after {time.monotonic() - began:.0f} s")
        if start != checkpoint:
            self._load_adapter(checkpoint)

    def _vllm_command(self, weights: str, name: str, port: int) -> list[str]:
        options: dict[str, object] = {
            "model": weights,
            "served-model-name": name,
            "host": "127.0.0.1",
            "port": port,
            "dtype": self.model.dtype.value,
            "max-model-len": self.model.context,
            # Only the config sets how text is sampled, not the model's own generation_config.json.
            "generation-config": "vllm",
            "gpu-memory-utilization": self.serving.memory_share,
            "tensor-parallel-size": self.serving.tensor_parallel,
            "max-num-seqs": self.serving.concurrency,
            "middleware": "crescent.engine.server.require_key",
        }
        if self.model.revision:
            options["revision"] = self.model.revision
        if self.serving.child is Child.adapter:
            options["max-lora-rank"] = max(8, 1 << (self.train.lora.rank - 1).bit_length())
        if runs_on_cpu():
            # A prompt prefilled in chunks crashes the CPU build (0.32) when its request has a seed: "CPU Generator does
            # not use offset". Without chunks a batch must hold the longest prompt; a larger one only costs memory.
            options["max-num-batched-tokens"] = max(2048, self.model.context)
        command = [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server"]
        for option, value in options.items():
            command += [f"--{option}", str(value)]
        command += ["--enable-lora"] if self.serving.child is Child.adapter else []
        command += ["--enforce-eager"] if self.serving.eager else []
        command += ["--no-enable-chunked-prefill"] if runs_on_cpu() else []
        return [*command, "--disable-uvicorn-access-log", *self.serving.arguments]

    def _environment(self) -> dict[str, str]:
        environment = {
            "VLLM_API_KEY": self._key,
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        if self.serving.child is Child.adapter:
            environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
        if self.serving.child is Child.reload:
            environment["VLLM_SERVER_DEV_MODE"] = "1"
        if runs_on_cpu():
            environment["VLLM_CPU_KVCACHE_SPACE"] = str(self.serving.cpu_cache_gib)
            # The automatic binding leaves one core of a small machine unused.
            cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
            environment["VLLM_CPU_OMP_THREADS_BIND"] = os.environ.get("VLLM_CPU_OMP_THREADS_BIND", cores)
        return environment

    def _wait_until_it_answers(self, model: str) -> None:
        """Wait for a real completion: a server can list its models with a dead engine behind it."""
        deadline = time.monotonic() + self.serving.start_timeout_s
        body = {"model": model, "prompt": "1", "max_tokens": 1, "temperature": 0}
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                code = self._process.poll()
                self._process = None
                tail = last_lines(self.log)
                raise Missing(f"the engine failed to start (exit code {code}). {_likely_fix(tail)}\n{tail}")
            try:
                self._post("/v1/completions", body, timeout_s=60)
                return
            except CrescentError:
                time.sleep(0.2)
        tail = self.stop()
        limit = f"serving.start_timeout_s={self.serving.start_timeout_s:g}"
        raise TryAgain(f"the engine gave no completion within {limit}; raise that if it was still loading\n{tail}")

    def _load_adapter(self, checkpoint: Checkpoint) -> None:
        if checkpoint.adapter is not None:
            # Each replica loads it. A name that it already knows is fine: an interrupted run loaded it.
            for url in self._urls:
                body = {"lora_name": checkpoint.name, "lora_path": checkpoint.adapter}
                self._post("/v1/load_lora_adapter", body, timeout_s=600, url=url, accept=("already been loaded",))

    def _reload(self, checkpoint: Checkpoint) -> None:
        assert checkpoint.weights is not None
        body = {"method": "reload_weights", "kwargs": {"weights_path": checkpoint.weights}}
        self._post("/collective_rpc", body, timeout_s=600)
        self._post("/reset_prefix_cache", {}, timeout_s=60)

    def _prove(self, checkpoint: Checkpoint) -> None:
        """Compare the served model's log-probabilities with those that the trainer recorded.

        Raises:
            CrescentError: the server does not answer with the checkpoint's weights.
        """
        proof = checkpoint.proof or self._base_proofs.get(checkpoint.digest)
        if proof is None:
            return  # a base of which no child was trained yet
        expected, other = (proof.child, proof.parent) if checkpoint.proof else (proof.parent, proof.child)
        tolerance, noise = TOLERANCE[self.model.dtype], NOISE[self.model.dtype]
        distinguishable = distance(expected, other) > noise
        for url in self._urls:
            # One text at a time: vLLM 0.32 on CPU fails on prompt_logprobs of several LoRA requests in one batch.
            served = [self._log_probabilities(ids, self._model_name(checkpoint), url) for ids in proof.token_ids]
            own, others = distance(served, expected), distance(served, other)
            found = {"checkpoint": checkpoint.name, "url": url, "from_own": own, "from_other": others}
            with (self.log.parent / "served.jsonl").open("ab") as proofs:
                proofs.write(to_line({**found, "told_apart": distinguishable}))
            if own > tolerance or (distinguishable and own > others / 2):
                raise CrescentError(
                    f"{url} does not serve {checkpoint.name}: its log-probabilities differ by {own:.4f} nats from the "
                    f"recorded ones (allowed: {tolerance}), and by {others:.4f} from those of its parent or child; "
                    "serve children by serving.child=restart, which is slower and safer"
                )
        if not distinguishable:
            self.say(f"{checkpoint.name} cannot be distinguished from its parent: training changed next to nothing")
        if checkpoint.proof and self.train.start is Start.base:
            self._base_proofs[checkpoint.origin.digest] = checkpoint.proof

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
            reply = httpx.request(method, target, json=body, headers=headers, timeout=timeout_s)
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


def distance(some: Sequence[Sequence[float | None]], others: Sequence[Sequence[float | None]]) -> float:
    """Mean absolute difference of two sets of token log-probabilities, in nats."""
    pairs = [
        (a, b)
        for some_text, other_text in zip(some, others, strict=True)
        for a, b in zip(some_text, other_text, strict=True)
        if a is not None and b is not None
    ]
    return math.fsum(abs(a - b) for a, b in pairs) / max(1, len(pairs))


def runs_on_cpu() -> bool:
    """Whether the installed vLLM is its CPU build."""
    try:
        importlib.metadata.distribution("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def check_engine_installed(kind: EngineKind) -> None:
    """Raise `Missing` with the command that installs it, unless the engine can be started."""
    if kind is EngineKind.vllm and importlib.util.find_spec("vllm") is None:
        raise Missing(
            "serving.engine=vllm: vLLM is not installed; run `make install` on a CPU, `pip install -e '.[gpu]'` on a "
            "GPU node, or use a running endpoint: serving.urls=[http://host:8000/v1]"
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


FIXES = {
    "No module named": "A package is missing: `make install` (CPU) or `pip install -e '.[gpu]'`.",
    "out of memory": "The GPU is too full: lower serving.memory_share or model.context, or free the GPU.",
    "less than desired GPU memory": "The GPU is too full: lower serving.memory_share, or free the GPU.",
    "KV cache": "The key-value cache does not fit: lower model.context, or raise serving.cpu_cache_gib on a CPU.",
    "max_model_len": "The model's own context is shorter: lower model.context.",
    "Killed": "The machine ran out of memory: lower serving.cpu_cache_gib or use a smaller model.",
    "is not a valid model identifier": "Check model.path, and HF_TOKEN if the model is gated.",
    "unrecognized arguments": "Check serving.arguments against `python -m vllm.entrypoints.openai.api_server --help`.",
}


def _likely_fix(tail: str) -> str:
    """The fix of the first known problem in the last lines of the log."""
    return next((fix for sign, fix in FIXES.items() if sign in tail), "Its last lines:")


async def require_key(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
    """ASGI middleware for the server: vLLM itself checks the key only under /v1, not where weights are changed."""
    from starlette.responses import Response

    given = request.headers.get("authorization", "")
    wanted = f"Bearer {os.environ['VLLM_API_KEY']}"
    if not secrets.compare_digest(given.encode(), wanted.encode()):
        return Response(status_code=401)
    return await call_next(request)

"""Settings of the engine."""

import math
import re
from dataclasses import dataclass, field

from crescent.config.checks import Choice, require


class EngineKind(Choice):
    vllm = "vllm"
    """vLLM's OpenAI server, started as a child process."""
    fake = "fake"
    """A server with the same protocol and no model, to develop the loop."""


class Child(Choice):
    """How the server loads a round's new weights."""

    adapter = "adapter"
    """The LoRA adapter is loaded beside the base under a new name: best on a GPU."""
    reload = "reload"
    """Merged weights are reloaded in place: best on a CPU, where adapters are 3.5 times slower."""
    restart = "restart"
    """A new server is started with the merged weights: slow, but always possible."""


class WhileTraining(Choice):
    """What the server does while the trainer works."""

    auto = "auto"
    """It keeps its memory if that and the trainer's fit; else it sleeps if main memory can hold its weights; else it is
    stopped."""
    sleep = "sleep"
    """Its weights move from the GPU to main memory and its cache is dropped (vLLM's sleep level 1)."""
    stop = "stop"
    """It is stopped, which frees its memory, and started again afterwards."""
    keep = "keep"
    """It stays idle: needs enough memory for engine and trainer."""


@dataclass
class ServingConfig:
    """The engine that generates all text."""

    engine: EngineKind = EngineKind.vllm
    urls: list[str] = field(default_factory=list)
    """URLs of OpenAI-compatible endpoints that already run (`http://host:8000/v1`); empty: Crescent starts a server.

    The API key comes from the environment variable CRESCENT_API_KEY."""
    child: Child = Child.adapter
    while_training: WhileTraining = WhileTraining.auto
    concurrency: int = 256
    """Largest number of requests that one replica works on at once. Clients send half as many again, so that none waits
    for them; to `urls` they send no more than this for each."""
    memory_share: float = 0.9
    """Share of the GPU's memory for vLLM, in (0, 1]."""
    cpu_cache_gib: int = 2
    """Size of the key-value cache on a CPU, in GiB."""
    tensor_parallel: int = 1
    """Number of GPUs that share one copy of the model."""
    replicas: int | str = "auto"
    """Number of engines that share the requests, each on `tensor_parallel` GPUs of its own. `auto`: as many as the
    machine's GPUs allow; one on a CPU."""
    eager: bool = False
    """Whether to skip graph capture and compilation: starts minutes earlier, runs somewhat slower."""
    arguments: list[str] = field(default_factory=list)
    """Further command-line arguments of vLLM's server."""
    start_timeout_s: float = 1800.0
    """Longest time until the first completion, in seconds."""
    request_timeout_s: float = 600.0
    """Longest time for one request before it is sent again, in seconds; shorter where the replies so far show that no
    further one will come."""
    max_refused: float = 0.02
    """Largest share of a stage's requests that the engine may refuse, e.g. because a prompt is too long, in [0, 1]. A
    refused request has no answer, which counts as a wrong one; above this share the stage ends. Fewer than three never
    end it."""
    max_restarts: int = 8
    """Largest number of restarts of a replica in a run. A request that kills the engine costs two: after the first,
    suspects are sent alone; after the second, the run continues without that request."""

    def in_flight(self, replicas: int) -> int:
        """Largest number of requests that a client has sent and that are not answered yet."""
        each = self.concurrency if self.urls else math.ceil(1.5 * self.concurrency)
        return each * max(1, replicas)

    def __post_init__(self) -> None:
        require(self.concurrency >= 1, "serving.concurrency", self.concurrency, "must be at least 1")
        require(0 < self.memory_share <= 1, "serving.memory_share", self.memory_share, "must lie in (0, 1]")
        require(self.cpu_cache_gib >= 1, "serving.cpu_cache_gib", self.cpu_cache_gib, "must be at least 1 GiB")
        require(self.start_timeout_s > 0, "serving.start_timeout_s", self.start_timeout_s, "must be positive")
        require(self.request_timeout_s > 0, "serving.request_timeout_s", self.request_timeout_s, "must be positive")
        require(0 <= self.max_refused <= 1, "serving.max_refused", self.max_refused, "must lie in [0, 1]")
        require(self.max_restarts >= 0, "serving.max_restarts", self.max_restarts, "must not be negative")
        require(self.tensor_parallel >= 1, "serving.tensor_parallel", self.tensor_parallel, "must be at least 1")
        counted = isinstance(self.replicas, int) and self.replicas >= 1
        require(counted or self.replicas == "auto", "serving.replicas", self.replicas, "must be auto or at least 1")
        rule = "counts the engines that are started, and serving.urls names engines that run"
        require(not self.urls or self.replicas == "auto", "serving.replicas", self.replicas, rule, "leave it at auto")
        for url in self.urls:
            fix = "put the key into the environment variable CRESCENT_API_KEY, which is never saved"
            # Whatever is not the plain address of an endpoint may hold a secret, so it is not repeated.
            secret = re.search("[@?#]|%40", url) is not None
            require(not secret, "serving.urls", "…", "must not contain a password or a query (@, ?, #)", fix)
            web = re.fullmatch(r"https?://[^/\s\\][^\s\\]*", url, re.IGNORECASE) is not None
            shown = url if re.fullmatch(r"[\w.:/-]*", url) else "…"
            require(web, "serving.urls", shown, "must start with http:// or https://", "e.g. http://host:8000/v1")
        local = not self.urls or self.child is Child.adapter
        rule, fix = "an external server can only load adapters", "use serving.child=adapter"
        require(local, "serving.child", self.child.value, rule, fix)

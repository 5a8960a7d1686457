"""The engine."""

import re
from dataclasses import dataclass, field

from crescent.config.checks import Choice, require


class EngineKind(Choice):
    vllm = "vllm"
    """vLLM's OpenAI server, started as a child process."""
    fake = "fake"
    """A server with the same protocol and no model, for people who change the loop."""


class Child(Choice):
    """How the server gets a round's new weights."""

    adapter = "adapter"
    """The LoRA adapter, loaded beside the base under a new name: the best way on a GPU."""
    reload = "reload"
    """Merged weights, reloaded in place: the best way on a CPU, where adapters are 3.5 times slower."""
    restart = "restart"
    """A new server on the merged weights: slow, and always possible."""


class WhileTraining(Choice):
    """What the server does while the trainer works."""

    stop = "stop"
    """It gives its memory to the trainer and is started again after."""
    keep = "keep"
    """It waits: fits when memory allows."""


@dataclass
class ServingConfig:
    """The engine all text comes from."""

    engine: EngineKind = EngineKind.vllm
    urls: list[str] = field(default_factory=list)
    """OpenAI-compatible endpoints that already run (`http://host:8000/v1`), used instead of a server of our own.

    The key comes from the environment variable CRESCENT_API_KEY."""
    child: Child = Child.adapter
    while_training: WhileTraining = WhileTraining.stop
    concurrency: int = 256
    """Requests under way at once."""
    memory_share: float = 0.9
    """Share of the GPU's memory vLLM may take, in (0, 1]."""
    cpu_cache_gib: int = 2
    """Key-value cache on a CPU, in GiB."""
    tensor_parallel: int = 1
    """GPUs that share one copy of the model."""
    eager: bool = False
    """Skip graph capture and compilation: starts minutes earlier, runs somewhat slower."""
    arguments: list[str] = field(default_factory=list)
    """Further command-line arguments of vLLM's server."""
    start_timeout_s: float = 1800.0
    """Seconds until the first completion must have come."""
    request_timeout_s: float = 600.0
    """Seconds one request may take before it is asked again."""
    max_restarts: int = 8
    """Restarts of a dead engine in one run before giving up. A request it dies of costs two: the second one, with this
    request alone, tells which it was, and the run goes on without it."""

    def __post_init__(self) -> None:
        require(self.concurrency >= 1, "serving.concurrency", self.concurrency, "must be at least 1")
        require(0 < self.memory_share <= 1, "serving.memory_share", self.memory_share, "must lie in (0, 1]")
        require(self.cpu_cache_gib >= 1, "serving.cpu_cache_gib", self.cpu_cache_gib, "must be at least 1 GiB")
        require(self.start_timeout_s > 0, "serving.start_timeout_s", self.start_timeout_s, "must be positive")
        require(self.request_timeout_s > 0, "serving.request_timeout_s", self.request_timeout_s, "must be positive")
        require(self.max_restarts >= 0, "serving.max_restarts", self.max_restarts, "must not be negative")
        for url in self.urls:
            way_out = "the key comes from the environment variable CRESCENT_API_KEY, which is never saved"
            require(re.match(r"https?://[^/]*@", url) is None, "serving.urls", "…@…", "holds a password", way_out)
            web = re.match(r"https?://", url) is not None
            require(web, "serving.urls", url, "an endpoint starts with http:// or https://", "http://host:8000/v1")
        local = not self.urls or self.child is Child.adapter
        way_out = "use serving.child=adapter"
        require(local, "serving.child", self.child.value, "a server we did not start can only load adapters", way_out)

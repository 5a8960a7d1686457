"""An engine and a trainer without a model, for people who change the loop: `+experiment=smoke`.

The fake engine speaks vLLM's protocol over HTTP, so everything around it (child processes, client, journal, adapters,
proof) is real. Its "model" is one number, the skill: the probability that it adds two numbers correctly
(`crescent.engine.fake_replies`). The fake trainer raises the skill for pairs with a right answer and lowers it for
pairs with a wrong one.

    python -P -m crescent.engine.fakes serve WEIGHTS PORT NAME [HOST]
    python -P -m crescent.engine.fakes train JOB.YAML
"""

import json
import math
import os
import random
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from crescent.config import TrainJob, Tuning, read_job
from crescent.engine.fake_replies import DIFFERENCE, SUM, is_right, reply, result
from crescent.engine.key import OPEN, SHUT, SUPERVISOR, Door
from crescent.machine.failpoint import failpoint
from crescent.machine.program import run_to_exit_code
from crescent.records import Pair, Proof, digest, read_lines

DEADLY = "self-destruct"
"""Text in a prompt that kills the fake engine."""
PROOF_IDS = ((1, 2, 3, 4), (5, 6, 7))
"""Token ids of the texts of a proof."""


def read_skill(weights: str) -> float:
    """Skill of a model: `fake:0.4` is a base of skill 0.4; a folder is a trained model."""
    if weights.startswith("fake:"):
        return float(weights.removeprefix("fake:"))
    if (Path(weights) / "adapter_config.json").exists():
        return 0.0  # the adapter without tensors with which `crescent.engine.outside` tries endpoints
    skill: float = json.loads((Path(weights) / "skill.json").read_text())["skill"]
    return skill


def log_probabilities(token_ids: tuple[int, ...], skill: float) -> tuple[float | None, ...]:
    """Made-up values that differ between models of different skill."""
    return (None, *(-math.log(1 + token) * (2 - skill) for token in token_ids[1:]))


def likelihoods(prompt: str, unfinished: str, skill: float) -> dict[str, Any]:
    """Completion with log-probabilities of all words: the right answer is as likely as the skill, which a little
    noise per problem and answer blurs."""
    found = SUM.search(prompt) or DIFFERENCE.search(prompt)
    words = [*prompt.split(), *unfinished.split()]
    truth = "" if found is None else str(result(found))
    noise = random.Random(f"{prompt}/{words[-1]}").gauss(0, 1)
    last = noise + (4 * skill - 1 if words[-1].rstrip(".") == truth else 0)
    numbers = [int(digest(word), 16) % 50_000 for word in words]
    values = [None, *([-1.0] * (len(words) - 2)), last]
    logprobs = [
        None if value is None else {str(number): {"logprob": value}}
        for number, value in zip(numbers, values, strict=True)
    ]
    choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "length"}
    about = {"id": "fake", "object": "chat.completion", "created": 0, "model": "fake"}
    return {**about, "choices": [choice], "prompt_logprobs": logprobs}


class FakeEngine(ThreadingHTTPServer):
    """Serves one base and any number of adapters by name."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, weights: str, port: int, name: str, host: str = "127.0.0.1") -> None:
        super().__init__((host, port), _Handler)
        self.name = name
        self.base = read_skill(weights)
        self.adapters: dict[str, float] = {}
        self.door = Door()
        self.asleep = False

    def skill(self, model: str) -> float:
        return self.base if model == self.name else self.adapters[model]

    def models(self) -> dict[str, Any]:
        adapters = [{"id": name, "parent": self.name} for name in self.adapters]
        return {"object": "list", "data": [*adapters, {"id": self.name, "parent": None}]}

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        match path:
            case "/sleep?level=1" | "/wake_up":
                self.asleep = path != "/wake_up"
                return {}  # vLLM 0.31 answers nothing; later versions say what they do
            case "/is_sleeping":
                return {"is_sleeping": self.asleep}
            case _ if self.asleep:
                raise KeyError(f"{path} of an engine that sleeps")
            case "/v1/chat/completions":
                prompt = body["messages"][0]["content"]
                if DEADLY in prompt:
                    os._exit(9)
                if "prompt_logprobs" in body:
                    return likelihoods(prompt, body["messages"][-1]["content"], self.skill(body["model"]))
                seed, temperature = body.get("seed", 0), body.get("temperature", 1.0)
                text = reply(prompt, seed, temperature, self.skill(body["model"]), body["max_tokens"])
                words = text.split()
                cut = len(words) > body["max_tokens"]
                text = " ".join(words[: body["max_tokens"]]) if cut else text
                message = {"role": "assistant", "content": text}
                choice = {"index": 0, "message": message, "finish_reason": "length" if cut else "stop"}
                count, asked = min(len(words), body["max_tokens"]), len(prompt.split())
                usage = {"completion_tokens": count, "prompt_tokens": asked, "total_tokens": count + asked}
                kind = "chat.completion"
                return {
                    "id": "fake",
                    "object": kind,
                    "created": 0,
                    "model": "fake",
                    "choices": [choice],
                    "usage": usage,
                }
            case "/v1/completions":
                choices: dict[str, Any] = {"index": 0, "text": "", "finish_reason": "length"}
                if "prompt_logprobs" in body:
                    ids = tuple(body["prompt"])
                    found = log_probabilities(ids, self.skill(body["model"]))
                    choices["prompt_logprobs"] = [
                        None if value is None else {str(token): {"logprob": value}}
                        for token, value in zip(ids, found, strict=True)
                    ]
                return {"choices": [choices]}
            case "/v1/load_lora_adapter":
                self.adapters[body["lora_name"]] = read_skill(body["lora_path"])
            case "/v1/unload_lora_adapter":
                del self.adapters[body["lora_name"]]
            case path if path == OPEN:
                pass
            case "/collective_rpc":
                self.base = read_skill(body["kwargs"]["weights_path"])
            case "/reset_prefix_cache":
                return {"success": True}
            case _:
                raise KeyError(path)
        return {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeEngine

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if self.headers["Authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            self._send(401, {"error": {"message": "wrong key"}})
            return
        if not self.server.door.lets_in(self.path, SUPERVISOR in self.headers):
            self._send(503, json.loads(SHUT))
            return
        try:
            self._send(200, self.server.models() if self.path == "/v1/models" else self.server.answer(self.path, body))
        except KeyError as missing:
            self._send(404, {"error": {"message": f"not found: {missing}"}})

    def _send(self, status: int, content: dict[str, Any]) -> None:
        payload = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        """Requests are not logged; the log is for errors."""


def train(job: TrainJob) -> None:
    """Write the files that the real trainer writes, with a skill in place of weights."""
    output = Path(job.output)
    pairs = read_lines(Path(job.pairs), Pair)
    right = sum(is_right(pair) for pair in pairs)
    start = read_skill(job.parent or job.model.path)
    skill = min(1.0, max(0.0, start + 0.5 * (2 * right / len(pairs) - 1) * min(1.0, len(pairs) / 40)))
    full = job.train.tuning is Tuning.full
    for name in ("weights",) if full else ("adapter", "weights") if job.merge else ("adapter",):
        (output / name).mkdir(exist_ok=True)
        (output / name / "skill.json").write_text(json.dumps({"skill": skill}))
    child = tuple(log_probabilities(ids, skill) for ids in PROOF_IDS)
    parent = tuple(log_probabilities(ids, start) for ids in PROOF_IDS)
    proof = Proof(PROOF_IDS, child, parent)
    (output / "proof.json").write_text(
        json.dumps({"token_ids": proof.token_ids, "child": proof.child, "parent": proof.parent})
    )
    failpoint("trainer.end")
    (output / "metrics.json").write_text(json.dumps({"rows": len(pairs), "skill": skill}))


def main(arguments: list[str]) -> None:
    match arguments:
        case ["serve", weights, port, name, *host]:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            FakeEngine(weights, int(port), name, *host).serve_forever()
        case ["train", job]:
            train(read_job(Path(job), TrainJob))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    sys.exit(run_to_exit_code(lambda: main(sys.argv[1:])))

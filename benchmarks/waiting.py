"""How an engine's threads should wait for each other on a CPU: `python -m benchmarks waiting`.

OpenMP's threads spin before they sleep. On an idle machine that is fastest; beside other busy processes a spinning
thread takes the time of the one it waits for. Engines with each way of waiting, and with each block size of the prefix
cache, stand ready in processes of their own and take turns: alone, then beside busy processes. They answer the same
prompts, each `SAMPLES` times, as a vote does.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import save
from benchmarks.tables import Row, show
from crescent.models.packaged_model import packaged_model

WAITS = {
    "as it is": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "no spinning": {"GOMP_SPINCOUNT": "0"},
}
"""Environment variables of each way to wait. GOMP_SPINCOUNT is libgomp's own, OMP_WAIT_POLICY is OpenMP's."""
BLOCKS = (128, 32)
"""Block sizes of the prefix cache: vLLM's on a CPU, and one that a short prompt fills."""
SAMPLES = 4
TOKENS = 24
"""Tokens of each answer."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks waiting", description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=24, help="different prompts of a turn")
    parser.add_argument("--turns", type=int, default=3, help="turns of each engine, alone and beside others")
    parser.add_argument("--busy", type=int, default=2, help="busy processes beside the engine")
    parser.add_argument("--engine", help=argparse.SUPPRESS)  # this process is an engine: its settings as JSON
    given = parser.parse_args(arguments)
    if given.engine:
        answer_turns(**json.loads(given.engine))
        return
    rows = measure(given.prompts, given.turns, given.busy)
    show(f"tokens a second, {given.turns} turns, and the same beside {given.busy} busy processes", rows)
    print(f"saved: {save('waiting', {'rows': rows})}")


def measure(prompts: int, turns: int, busy: int) -> list[Row]:
    """A row for each way to wait and block size."""
    rates: dict[tuple[str, int], tuple[list[float], list[float]]] = {}
    for block in BLOCKS:  # not all at once: each engine holds its own weights
        with ExitStack() as stack:
            engines = {wait: stack.enter_context(engine(block, prompts, WAITS[wait])) for wait in WAITS}
            for load in (0, busy):
                with busy_processes(load):
                    for _ in range(turns):
                        for wait, asked in engines.items():
                            rates.setdefault((wait, block), ([], []))[load > 0].append(take_turn(asked))
    rows: list[Row] = []
    for (wait, block), (alone, beside) in rates.items():
        row: Row = {"threads wait": wait, "block": str(block)}
        for name, found in (("alone", alone), ("beside others", beside)):
            row[name] = round(statistics.median(found), 1)
            row[f"{name}, spread"] = f"{min(found):.1f} to {max(found):.1f}"
        rows.append(row)
    return rows


@contextmanager
def engine(block: int, prompts: int, environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A process that waits for turns; its engine is loaded."""
    settings = json.dumps({"model": str(packaged_model()), "block": block, "prompts": prompts})
    world = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR", **environment}
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    world.setdefault("VLLM_CPU_OMP_THREADS_BIND", cores)
    command = [sys.executable, "-P", "-m", "benchmarks", "waiting", "--engine", settings]
    with subprocess.Popen(
        command, env=world, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as process:
        try:
            wait_for(process, "ready")
            take_turn(process)  # the first one compiles and warms up
            yield process
        finally:
            process.terminate()


def take_turn(process: "subprocess.Popen[str]") -> float:
    """Let an engine answer all prompts; returns its tokens a second."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(wait_for(process, "rate").split()[1])


def wait_for(process: "subprocess.Popen[str]", word: str) -> str:
    """The next line that begins with a word; others are the engine's."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line
    raise RuntimeError(f"the engine ended with {process.wait()} before it said {word!r}")


def answer_turns(model: str, block: int, prompts: int) -> None:
    """Serve turns in this process until it is ended."""
    from vllm import LLM, SamplingParams

    llm = LLM(model, dtype="float32", max_model_len=512, enforce_eager=True, block_size=block, seed=0)
    print("ready", flush=True)
    for turn, _ in enumerate(sys.stdin):
        # Other numbers in each turn: the cache of the turn before must not answer.
        questions = [f"What is {turn * prompts + number} plus {number + 3}, and why?" for number in range(prompts)]
        turns = [[{"role": "user", "content": question}] for question in questions for _ in range(SAMPLES)]
        sampling = SamplingParams(temperature=1.0, max_tokens=TOKENS, ignore_eos=True)
        began = time.perf_counter()
        llm.chat(turns, sampling, use_tqdm=False)  # type: ignore[arg-type]
        print(f"rate {len(turns) * TOKENS / (time.perf_counter() - began)}", flush=True)


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """So many processes that only compute."""
    started = [multiprocessing.Process(target=compute, daemon=True) for _ in range(number)]
    for process in started:
        process.start()
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.join()


def compute() -> None:
    number = 0
    while True:
        number = (number * 31 + 7) % 1_000_003

"""`python -P -m eval.harness job.yaml`: any task of EleutherAI's lm-evaluation-harness, against a served checkpoint.

lm-eval runs in a separate process, and in a separate environment if `eval.harness.python` names one. Its samples and
results are in `<output>/harness/`, its scores in `<output>/harness.json`. It caches responses there: an interrupted
evaluation asks only for the rest.
"""

import argparse
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from rich.console import Console
from rich.table import Table

from crescent.config import EvalJob, HarnessConfig, read_job
from crescent.engine.client import EngineDied
from crescent.engine.spread import one_address
from crescent.engine.vllm_command import runs_on_cpu
from crescent.errors import BadConfig, CrescentError, Missing
from crescent.machine.processes import die_with_parent, last_lines
from crescent.machine.program import run_to_exit_code
from crescent.machine.proxies import is_loopback, keep_loopback_direct, proxy_explained
from eval import harness_tasks
from eval.results import write_result

INSTALL = "pip install 'lm-eval[api]==0.4.13'"
UNSAFE = "--confirm_run_unsafe_code"
GRACE_S = 10.0
"""Grace period for an interrupted lm-eval, in seconds."""
SEARCHED = 200_000
"""Bytes at the end of a log that are searched for a cause."""
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)

# Messages of lm-eval, aiohttp, requests and datasets 2 to 5.
NO_DATA = re.compile(
    r"Couldn't reach '([^'\n]{1,200})' on the Hub \(\w{1,99}\)"
    r"|Couldn't reach the Hugging Face Hub for dataset '([^'\n]{1,200})'"
    r"|Dataset '([^'\n]{1,200})' (?:doesn't exist on the Hub or cannot be accessed|is a gated dataset on the Hub)"
    r"|Couldn't find cache for ([^\s,]{1,200})"
)
NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]{1,99})'")
NO_OPTION = re.compile(r"error: unrecognized arguments: ([^\n]{1,200})")
REFUSED = re.compile(r"(?:Status code: |HTTPError: )(4(?!08|29)\d\d[^\n]{1,500})")
UNANSWERED = re.compile(
    r"(?:ClientConnectorError|ServerDisconnectedError|ClientOSError|ClientPayloadError|ConnectTimeout|ReadTimeout"
    r"|ConnectionRefusedError|ConnectionResetError|(?:\n|asyncio\.exceptions\.)TimeoutError"
    r"|(?:Status code|HTTPError): 5\d\d)"
)

Model = Literal["local-chat-completions", "local-completions"]
"""lm-eval's names for two ways to ask. Chat completions return no log-probabilities of the prompt."""


@dataclass(frozen=True)
class HarnessScore:
    """One metric of one task, or of a group of tasks."""

    task: str
    metric: str
    """Name with the filter that read the answers, as lm-eval writes it: `exact_match,strict-match`."""
    value: float
    stderr: float | None
    """Standard error by lm-eval; `None` if it has none."""
    n: int
    """Number of items; for a group, over all its tasks."""


@dataclass(frozen=True)
class Leaf:
    """A single task. A name, a group or a tag stands for one or several."""

    name: str
    output_type: str | None
    """`generate_until`, `multiple_choice`, `loglikelihood` or `loglikelihood_rolling`; `None` if not stated."""
    data: str | None
    """Name of the data set on the hub, or a format such as `json`."""
    unsafe: bool
    """Whether the task runs programs that the model writes."""


@dataclass(frozen=True)
class Served:
    """The checkpoint, as its endpoint describes it."""

    context: int | None = None
    """Longest prompt and response together, in tokens."""
    adapter: bool = False
    base: str | None = None
    """Folder or hub id from which the base weights were loaded, as the server states it."""


def run_tasks(job: EvalJob, tokenizer: str | None = None) -> list[HarnessScore]:
    """Evaluate `job.eval.harness.tasks` into `job.output`. A folder with `harness.json` is finished.

    Args:
        tokenizer: Folder or hub id of the model's tokenizer, for tasks that are not asked as a chat; by default that of
            the base weights that the server names.

    Raises:
        BadConfig: there is no such task, or the endpoint does not accept our key or serve our model.
        Missing: lm-eval, a package that it needs, or a data set is missing.
        EngineDied: the endpoint does not answer (any more).
    """
    output = Path(job.output)
    finished, folder = output / "harness.json", output / "harness"
    if not finished.exists():
        folder.mkdir(parents=True, exist_ok=True)
        served = ask_server(job)
        tasks = find_tasks(job.eval.harness, folder)
        scores = []
        with one_address(job.urls, _key()) as url:
            for model, names in divide(tasks, job.eval.harness.apply_chat_template).items():
                asked = command(job, model, names, served, tokenizer, folder, url)
                leaves = [leaf for name in names for leaf in tasks[name]]
                scores += _measure(asked, job, leaves, folder, model)
        write_result(finished, scores)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    return msgspec.json.decode(finished.read_bytes(), type=list[HarnessScore])


def command(
    job: EvalJob, model: Model, tasks: Sequence[str], served: Served, tokenizer: str | None, folder: Path, url: str
) -> list[str]:
    """The command line of lm-eval for tasks that are asked the same way. It does not contain the key.

    Args:
        url: The address that stands for all replicas.

    Raises:
        Missing: a tokenizer is needed and cannot be found.
        BadConfig: the model's context leaves no room for a prompt beside `eval.max_tokens`.
    """
    config = job.eval.harness
    chat = model == "local-chat-completions"
    arguments: dict[str, Any] = {
        "model": job.model,
        "base_url": url + ("/chat/completions" if chat else "/completions"),
        # vLLM 0.32 on CPU fails on log-probabilities of several prompts in one batch if they go to an adapter.
        "num_concurrent": len(job.urls) if not chat and served.adapter and runs_on_cpu() else job.concurrency,
        "timeout": math.ceil(job.request_timeout_s),
        # For tasks without a limit of their own.
        "max_gen_toks": job.eval.max_tokens,
    }
    if served.context is not None:
        if served.context <= job.eval.max_tokens:
            rule = f"leaves no room for a prompt: {job.model} is served with a context of {served.context} tokens"
            raise BadConfig(f"eval.max_tokens={job.eval.max_tokens}: {rule}; lower it or raise model.context")
        arguments["max_length"] = served.context
    if not chat:
        # By default lm-eval asks the server for its tokenizer first, without our key.
        arguments |= {"tokenizer_backend": "huggingface", "tokenizer": _tokenizer(tokenizer or served.base)}
    line = [config.python or sys.executable, "-P", "-m", "lm_eval", "run", "--model", model]
    line += ["--model_args", json.dumps(arguments), "--tasks", ",".join(tasks)]
    line += ["--output_path", str(folder / model), "--log_samples", "--use_cache", str(folder / "cache" / model)]
    if config.apply_chat_template:
        line.append("--apply_chat_template")
    for option in ("limit", "num_fewshot", "include_path"):
        value = getattr(config, option)
        if value is not None:
            line += [f"--{option}", str(value)]
    return [*line, *config.arguments]


def _tokenizer(named: str | None) -> str:
    fix = "give the model's folder: `python -P -m eval.harness job.yaml --tokenizer FOLDER`"
    if named is None:
        raise Missing(f"log-probabilities are of tokens, and the endpoint does not state what it serves; {fix}")
    if named.startswith(("/", "~", ".")) and not Path(named).expanduser().is_dir():
        raise Missing(f"{named}: the endpoint's weights are not on this machine, and the tokenizer is needed; {fix}")
    return str(Path(named).expanduser()) if named.startswith("~") else named


def divide(tasks: Mapping[str, Sequence[Leaf]], chat: bool) -> dict[Model, list[str]]:
    """Names of tasks by the way they are asked. A group is never divided: lm-eval computes its mean.

    Tasks that only generate are asked as a chat where `chat` allows it. All others need completions, where lm-eval
    applies the chat template itself.
    """
    ways: dict[Model, list[str]] = {}
    for name, leaves in tasks.items():
        generated = all(leaf.output_type == "generate_until" for leaf in leaves)
        ways.setdefault("local-chat-completions" if chat and generated else "local-completions", []).append(name)
    return ways


def find_tasks(config: HarnessConfig, folder: Path) -> dict[str, list[Leaf]]:
    """The single tasks behind each name in `config.tasks`, by the installed lm-eval. Loads no data.

    Raises:
        BadConfig: there is no such task, or it runs the model's programs and the settings do not allow it.
        Missing: lm-eval is not installed in `config.python`, or there is no such interpreter or folder.
    """
    if not config.tasks:
        raise BadConfig(
            "eval.harness.tasks=[]: no task to evaluate; e.g. eval.harness.tasks=[mmlu,arc_challenge,ifeval]"
        )
    if config.include_path is not None and not Path(config.include_path).is_dir():
        raise Missing(f"eval.harness.include_path={config.include_path}: no such folder")
    python, result, log = config.python or sys.executable, folder / "tasks.json", folder / "tasks.log"
    result.unlink(missing_ok=True)
    program = [python, "-P", harness_tasks.__file__, str(result), config.include_path or "", *config.tasks]
    code = _run(program, log, {})
    if code == harness_tasks.LACKING:
        raise Missing(
            f"{python}: lm-eval is {last_lines(log, 1)}; run `{python} -m {INSTALL}`, or give the interpreter of an "
            "environment that has it as eval.harness.python"
        )
    if code != 0:
        raise explain(log, code, [], python)
    said = json.loads(result.read_text())
    for name, near in said["unknown"].items():
        fix = f"did you mean {', '.join(near)}?" if near else f"`{python} -m lm_eval ls tasks` lists them"
        raise BadConfig(f"eval.harness.tasks: lm-eval has no task {name!r}; {fix}")
    tasks = msgspec.convert(said["tasks"], dict[str, list[Leaf]])
    check_safe(tasks, config.arguments)
    return tasks


def check_safe(tasks: Mapping[str, Sequence[Leaf]], arguments: Sequence[str]) -> None:
    """Raise `BadConfig` if a task runs the model's programs and the settings do not allow it."""
    for name, leaves in tasks.items():
        if any(leaf.unsafe for leaf in leaves) and UNSAFE not in arguments:
            raise BadConfig(
                f"eval.harness.tasks: {name} runs the model's programs on this machine, without a sandbox; use "
                f"eval=mbpp, or, on a machine you can lose, HF_ALLOW_CODE_EVAL=1 and eval.harness.arguments=[{UNSAFE}]"
            )


def ask_server(job: EvalJob) -> Served:
    """The checkpoint that the endpoints serve under `job.model`, as the first says that answers.

    Raises:
        EngineDied: none answers.
        BadConfig: one does not accept our key, or does not serve the model.
    """
    died = None
    for url in job.urls:
        try:
            return _ask_replica(job, url.rstrip("/"))
        except EngineDied as error:
            died = error
    assert died is not None
    raise died


def _ask_replica(job: EvalJob, url: str) -> Served:
    import httpx

    try:
        headers = {"Authorization": f"Bearer {_key()}"}
        with proxy_explained(url):
            reply = httpx.get(f"{url}/models", headers=headers, timeout=60, trust_env=not is_loopback(url))
    except httpx.HTTPError as error:
        raise EngineDied(f"{url}: {error or type(error).__name__}") from error
    if reply.status_code in (401, 403):
        raise BadConfig(f"{url} answered {reply.status_code}; set CRESCENT_API_KEY to its key")
    if not reply.is_success:
        raise EngineDied(f"{url}/models answered {reply.status_code}: {reply.text[:500]}")
    models = {entry["id"]: entry for entry in reply.json()["data"]}
    if job.model not in models:
        raise BadConfig(f"{url}: it serves {', '.join(models)}, and not {job.model}")
    model = models[job.model]
    base = models.get(model.get("parent"), model)
    return Served(model.get("max_model_len") or base.get("max_model_len"), base is not model, base.get("root"))


def read_results(results: Mapping[str, Any]) -> list[HarnessScore]:
    """The scores in one results file of lm-eval, in its order: groups first, then tasks."""
    scores = []
    for task, measured in results["results"].items():
        for metric, value in measured.items():
            name, comma, read_by = metric.partition(",")
            number = isinstance(value, int | float) and math.isfinite(value)
            if not comma or not number or name.endswith("_stderr"):
                continue
            stderr = measured.get(f"{name}_stderr,{read_by}")
            known = isinstance(stderr, int | float) and math.isfinite(stderr)
            asked = results["n-samples"].get(task, {}).get("effective", measured.get("sample_len", 0))
            scores.append(HarnessScore(task, metric, float(value), float(stderr) if known else None, asked))
    return scores


def _measure(
    line: Sequence[str], job: EvalJob, leaves: Sequence[Leaf], folder: Path, model: Model
) -> list[HarnessScore]:
    log = folder / f"{model}.log"
    code = _run(line, log, {"OPENAI_API_KEY": _key()})
    # The newest counts: an interrupted earlier attempt may have written results too.
    written = sorted((folder / model).rglob("results_*.json"), key=lambda path: path.name)
    if code != 0 or not written:
        ask_server(job)
        raise explain(log, code, leaves, line[0])
    return read_results(json.loads(written[-1].read_text("utf-8")))


def _key() -> str:
    return os.environ.get("CRESCENT_API_KEY", "none")


def _run(line: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
    """Run a program to its end with its output in `log`, and return its exit code. An interruption ends it too."""
    ours = {name: value for name, value in os.environ.items() if name != "CRESCENT_API_KEY"}
    ours |= {"PYTHONSAFEPATH": "1", "TOKENIZERS_PARALLELISM": "false", **environment}
    keep_loopback_direct(ours)
    with log.open("wb") as file:
        try:
            child = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=ours, preexec_fn=die_with_parent
            )
        except (FileNotFoundError, PermissionError) as error:
            raise Missing(f"eval.harness.python={line[0]}: {error.strerror}; give an interpreter, or null") from error
    try:
        return child.wait()
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def explain(log: Path, code: int, leaves: Sequence[Leaf], python: str) -> CrescentError:
    """Why lm-eval ended without results, and how to fix it, from the end of its log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - SEARCHED))
        text = file.read().decode("utf-8", "replace")
    end = f"\nwhole log: {log}"
    if found := NO_DATA.search(text):
        name = next(group for group in found.groups() if group is not None)
        users = ", ".join(sorted({leaf.name for leaf in leaves if leaf.data == name})) or "a task"
        return Missing(
            f"eval.harness.tasks: {users} needs the data set {name}, which is not available ({found[0]}); run "
            f"`hf download --repo-type dataset {name}` where there is a network, and copy its cache here: the folder "
            f"that HF_HOME names (~/.cache/huggingface if unset){end}"
        )
    if found := NO_MODULE.search(text):
        return Missing(
            f"{python}: a task needs the package {found[1]}; install it there, or lm-eval's extra for the task (such "
            f"as `pip install 'lm-eval[ifeval]'`) in an environment of its own that eval.harness.python names{end}"
        )
    if found := NO_OPTION.search(text):
        return BadConfig(
            f"eval.harness.arguments: lm-eval does not know {found[1]}; see `{python} -m lm_eval run --help`"
        )
    if found := REFUSED.search(text):
        fix = "if a prompt is too long, raise model.context or lower eval.max_tokens"
        return BadConfig(f"the endpoint refused a request of lm-eval ({found[1]}); {fix}{end}")
    if "KeyError: 'logprobs'" in text:
        rule = "the endpoint returns no log-probabilities of a prompt (`echo` and `logprobs` of /v1/completions)"
        return BadConfig(f"eval.harness.tasks: {rule}; vLLM does, others can only do tasks that generate{end}")
    if found := UNANSWERED.search(text):
        return EngineDied(
            f"the endpoint left requests of lm-eval unanswered ({found[0]}); its answers so far are kept{end}"
        )
    if code in KILLED:
        return Missing(f"lm-eval was killed, most often because memory ran out{end}")
    return CrescentError(f"lm-eval ended with exit code {code}\n{last_lines(log)}{end}")


def show(scores: Sequence[HarnessScore], console: Console) -> None:
    """A table of the scores."""
    table = Table("task", "metric")
    for column in ("value", "standard error", "items"):
        table.add_column(column, justify="right")
    for score in scores:
        stderr = "" if score.stderr is None else f"{score.stderr:.4f}"
        table.add_row(score.task, score.metric, f"{score.value:.4f}", stderr, str(score.n))
    console.print(table)


def check(job: EvalJob) -> None:
    """Raise as `find_tasks` for the tasks of a job; writes nothing but logs."""
    folder = Path(job.output)
    folder.mkdir(parents=True, exist_ok=True)
    find_tasks(job.eval.harness, folder)


def main(arguments: Sequence[str]) -> int:
    """Run or check the tasks of a job. Returns the exit code; the reason for any but 0 is on stderr."""
    parser = argparse.ArgumentParser(prog="python -P -m eval.harness", description="Run tasks of lm-eval.")
    parser.add_argument("job", type=Path, help="YAML file of crescent.config.EvalJob, with eval.harness.tasks")
    parser.add_argument("--tokenizer", help="folder or hub id; by default that of the weights that the server names")
    parser.add_argument("--check", action="store_true", help="only check whether lm-eval has the tasks")
    given = parser.parse_args(arguments)
    if given.check:
        return run_to_exit_code(lambda: check(read_job(given.job, EvalJob)))
    return run_to_exit_code(lambda: show(run_tasks(read_job(given.job, EvalJob), given.tokenizer), Console()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A whole run on a machine as odd as they come, with secrets in its environment.

One run, because each takes its time: behind a proxy that refuses everything, on a file system without locks and
without synced folders, with ranks of a cluster's job, a broken driver, an ASCII locale, nobody who reads its output,
and modules in the working folder that are called like ours.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from refusing_proxy import Proxy

SECRETS = {
    "CRESCENT_API_KEY": "planted-endpoint-key-77f1c0de",
    "WANDB_API_KEY": "planted0wandb0key0000000000000000deadbeef",
    "HF_TOKEN": "hf_plantedHubTokenPlantedHubToken",
    "OPENAI_API_KEY": "sk-planted-openai-key-planted-openai",
    "MY_DATABASE_PASSWORD": "planted-database-password",
}


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.shutdown()
    proxy.server_close()


def test_a_run_finishes_on_the_oddest_machine_and_its_secrets_stay_where_they_are(
    proxy: Proxy, faulty_libc: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    for path in ("launch.py", "train.py", "eval.py", "conf/__init__.py", "conf/config.yaml"):
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).write_text("open('executed', 'w')\nraise SystemExit(7)\n")
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho 'Unable to determine the device handle: GPU is lost'\necho 'GB10, [N/A]'\n")
    driver.chmod(0o755)
    environment = {
        **os.environ,
        **SECRETS,
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"), proxy.url),
        "RANK": "3",
        "WORLD_SIZE": "",
        "LOCAL_RANK": "",
        "MASTER_ADDR": "node-0",
        "MASTER_PORT": "x",
        "LC_ALL": "POSIX",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONUTF8": "0",
        "LD_PRELOAD": str(faulty_libc),
        "FAIL_FLOCK": "37",
        "FAIL_FOLDER_SYNC": "22",
        "PATH": f"{driver.parent}{os.pathsep}{os.environ['PATH']}",
    }
    for name in ("HOME", "NO_PROXY", "no_proxy"):
        environment.pop(name, None)
    root = tmp_path / "runs"
    few = ["bait.questions=16", "eval.benchmarks.sums_dev.items=10", "eval.benchmarks.sums_test.items=10"]
    loop = [sys.executable, "-m", "crescent.loop", "+experiment=smoke", f"run.root={root}", "run.rounds=1", *few]
    said, command_lines = tmp_path / "stderr", set[str]()
    with said.open("wb") as errors, Path("/dev/full").open("wb") as full:
        run = subprocess.Popen(loop, env=environment, cwd=here, stdout=full, stderr=errors)
        while run.poll() is None:
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                try:
                    command_lines.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue
            time.sleep(0.5)
    assert run.returncode == 0, said.read_text()
    assert not list(tmp_path.rglob("executed"))
    assert proxy.asked == []
    assert "no locks" in said.read_text()
    environments = (root / "smoke" / "environment.jsonl").read_text()
    assert json.loads(environments)["gpus"] == [{"name": "GB10", "memory_gib": None}]
    assert any("crescent.engine.fakes" in line for line in command_lines)
    written = {path: path.read_bytes() for path in [*root.rglob("*"), said] if path.is_file()}
    assert len(written) > 40
    for name, secret in SECRETS.items():
        assert not [path for path, content in written.items() if secret.encode() in content], name
        assert not [line for line in command_lines if secret in line], name

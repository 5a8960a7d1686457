import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from job_results import losses, read_proof, trained, weights_in

import train
from crescent.config import (
    BaitConfig,
    BenchmarkConfig,
    Config,
    EvalConfig,
    LaunchConfig,
    LoraConfig,
    Start,
    TrainConfig,
    TrainJob,
    Tuning,
    write_job,
)
from crescent.errors import BadConfig
from crescent.workplace import trainer_command
from launch.node import node_command
from train.checkpoints import Layout, is_complete, newest_complete, refuse_other_layout, write_layout
from train.job import attempt

CONFIGS = sorted((Path(train.__path__[0]) / "accelerate").glob("*.yaml"))
NAMES = [path.stem for path in CONFIGS]


def launched(config: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Arguments of `accelerate launch` for this file. Its environment for the processes it starts is set, too."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import launch

    arguments = launch_command_parser().parse_args(["--config_file", str(config), "-m", "train", "job.yaml"])
    arguments, defaults, _ = _validate_launch_command(arguments)
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        _, environment = launch.prepare_deepspeed_cmd_env(arguments)
    elif arguments.multi_gpu or arguments.use_fsdp:
        environment = launch.prepare_multi_gpu_env(arguments)
    else:
        _, environment = launch.prepare_simple_launcher_cmd_env(arguments)
    for name, value in environment.items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
    return arguments


@pytest.mark.real
@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_accelerate_understands_each_of_our_configurations(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin
    from torch.distributed.fsdp.fully_sharded_data_parallel import StateDictType

    lines = config.read_text().splitlines()
    assert lines[0].startswith("# ")
    arguments = launched(config, monkeypatch)
    expected = {"cpu": 1, "one_gpu": 1, "two_cpus": 2, "two_nodes": 16}
    assert arguments.num_processes == expected.get(config.stem, 8)
    assert arguments.use_deepspeed == config.stem.startswith("zero")
    assert arguments.use_fsdp == config.stem.startswith("fsdp")
    if arguments.use_deepspeed:
        plugin = DeepSpeedPlugin()
        zero = plugin.deepspeed_config["zero_optimization"]
        assert zero["stage"] == int(config.stem[4])
        offloaded = "cpu" if "offload" in config.stem else "none"
        assert zero["offload_optimizer"]["device"] == offloaded
        assert zero["offload_param"]["device"] == (offloaded if zero["stage"] == 3 else "none")
        assert zero["stage3_gather_16bit_weights_on_model_save"] == (zero["stage"] == 3)
        # The trainer fills in these values, so that the global batch is train.batch and the precision is model.dtype.
        for name in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
            assert plugin.deepspeed_config[name] == "auto"
        plugin.set_mixed_precision("bf16")
        assert plugin.deepspeed_config["bf16"]["enabled"] is True
    if arguments.use_fsdp:
        sharded = FullyShardedDataParallelPlugin()
        assert sharded.fsdp_version == 2
        assert sharded.state_dict_type == StateDictType.FULL_STATE_DICT


@pytest.fixture
def archive() -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("data", b"12345678")

    return write


LAYOUTS = {
    "whole": ["optimizer.pt", "scheduler.pt"],
    "fsdp": ["optimizer.bin", "scheduler.pt", "pytorch_model_fsdp.bin"],
    "zero2": [
        "scheduler.pt",
        "global_step4/mp_rank_00_model_states.pt",
        "global_step4/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "global_step4/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt",
    ],
    "zero3": [
        "scheduler.pt",
        "global_step4/zero_pp_rank_0_mp_rank_00_model_states.pt",
        "global_step4/zero_pp_rank_1_mp_rank_00_model_states.pt",
        "global_step4/zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "global_step4/zero_pp_rank_1_mp_rank_00_optim_states.pt",
    ],
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_checkpoint_is_complete_when_every_process_has_written_its_part(
    tmp_path: Path, archive: Callable[[Path], None], kind: str
) -> None:
    folder = tmp_path / "checkpoint-4"
    names = [*LAYOUTS[kind], "rng_state_0.pth", "rng_state_1.pth"]
    for name in names:
        archive(folder / name)
    header = b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 4}))
    if kind.startswith("zero"):
        (folder / "latest").write_text("global_step4")
    assert not is_complete(folder)  # it is not marked as complete yet
    write_layout(folder, Layout(2, kind))
    assert is_complete(folder)
    for name in [*names, "model.safetensors"]:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        assert not is_complete(folder), name
        (folder / name).unlink()
        assert not is_complete(folder), name
        (folder / name).write_bytes(whole)
    assert newest_complete(tmp_path) == folder
    if kind.startswith("zero"):
        (folder / "latest").unlink()
        assert not is_complete(folder)


@pytest.mark.parametrize(
    ("saved", "now", "fits"),
    [
        (Layout(2, "whole"), Layout(1, "whole"), True),
        (Layout(8, "fsdp"), Layout(4, "fsdp"), True),
        (Layout(2, "zero2"), Layout(2, "zero2"), True),
        (Layout(2, "zero3"), Layout(4, "zero3"), False),
        (Layout(2, "zero2"), Layout(2, "zero3"), False),
        (Layout(1, "whole"), Layout(8, "zero3"), False),
        (Layout(8, "fsdp"), Layout(8, "whole"), False),
    ],
)
def test_a_checkpoint_split_among_other_processes_is_refused(
    tmp_path: Path, saved: Layout, now: Layout, fits: bool
) -> None:
    folder = tmp_path / "checkpoint-4"
    folder.mkdir()
    write_layout(folder, saved)
    if fits:
        refuse_other_layout(folder, now, "zero3")
        return
    with pytest.raises(
        BadConfig, match=rf"trains as {now.kind} in {now.processes} .* as {saved.kind} in {saved.processes}"
    ):
        refuse_other_layout(folder, now, "zero3")
    assert folder.exists()


ON_CPU = """
import runpy, torch
from accelerate import state
from accelerate.utils import DistributedType
state.PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
state.PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
runpy.run_module("train", run_name="__main__")
"""
"""Program that starts the trainer with an accelerate that takes CPUs for GPUs, because it runs FSDP on GPUs only."""


def run_launched(
    job: TrainJob, config: str, *options: str, started: Sequence[str] = ("-m", "train"), **environment: str
) -> str:
    """Run the job with one of our configurations and return its output. It must succeed, unless `environment` makes it
    stop."""
    path = Path(job.output).with_suffix(".yaml")
    write_job(path, job)
    file = str(next(candidate for candidate in CONFIGS if candidate.stem == config))
    command = [sys.executable, "-P", "-m", "accelerate.commands.launch", "--config_file", file, *options, *started]
    extra = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"} | environment
    ran = subprocess.run([*command, str(path)], env=os.environ | extra, capture_output=True, text=True, timeout=240)
    assert ran.returncode == (1 if environment else 0), ran.stderr[-3000:]
    return ran.stdout


def assert_proven(output: Path) -> None:
    """The proof is of the weights in the files."""
    import torch
    from transformers import AutoModelForCausalLM

    from train.child import log_probabilities

    proof = read_proof(output)
    model = AutoModelForCausalLM.from_pretrained(output / "weights", dtype=torch.float32)
    child = log_probabilities(model, proof.token_ids)
    for row, expected in zip(child, proof.child, strict=True):
        assert row[1:] == pytest.approx(expected[1:], abs=1e-4)
    assert proof.child != proof.parent


def assert_learnt_the_same(output: Path, expected: Path) -> None:
    """Losses and weights of two jobs agree, up to the order in which processes add up their gradients."""
    import torch

    assert losses(output) == pytest.approx(losses(expected), rel=1e-4)
    weights = weights_in(expected / "weights")
    for name, weight in weights_in(output / "weights").items():
        torch.testing.assert_close(weight, weights[name], atol=2e-4, rtol=1e-3)


@pytest.fixture(scope="module")
def steady(make_job: Callable[..., TrainJob]) -> Callable[..., TrainJob]:
    """Makes jobs whose result does not depend on which process draws which random number."""

    def make(**train: Any) -> TrainJob:
        usual = {"tuning": Tuning.full, "learning_rate": 1e-3, "max_steps": 4, "micro_batch": 1}
        return make_job(**{**usual, "lora": LoraConfig(rank=4, alpha=8), **train})

    return make


@pytest.fixture(scope="module")
def alone(steady: Callable[..., TrainJob]) -> Path:
    """Output of a job in one process."""
    return trained(steady())


@pytest.mark.real
def test_two_processes_learn_what_one_does_and_one_process_can_resume_their_job(
    steady: Callable[..., TrainJob], alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = steady()
    run_launched(job, "two_cpus", CRESCENT_FAILPOINT="train.step:3=term")
    attempt(job)
    assert "checkpoint-3" in capsys.readouterr().out
    assert_learnt_the_same(Path(job.output), alone)
    assert_proven(Path(job.output))


@pytest.mark.real
def test_zero_3_starts_between_base_and_parent_and_its_checkpoints_are_refused_elsewhere(
    steady: Callable[..., TrainJob], alone: Path
) -> None:
    whole, split = (steady(start=Start.merge, alpha=0.25) for _ in range(2))
    whole.parent = split.parent = str(alone / "weights")
    checkpoints = Path(split.output) / "checkpoints"
    run_launched(split, "zero3", "--num_processes", "2", CRESCENT_FAILPOINT="train.step:3=term")
    before = sorted(checkpoints.rglob("*"))
    with pytest.raises(BadConfig, match=r"trains as whole in 1 processes, and .*checkpoint-3 was saved as zero3 in 2"):
        attempt(split)
    assert sorted(checkpoints.rglob("*")) == before
    assert "checkpoint-3" in run_launched(split, "zero3", "--num_processes", "2")
    attempt(whole)
    assert_learnt_the_same(Path(split.output), Path(whole.output))
    assert_proven(Path(split.output))


@pytest.fixture(scope="module")
def adapted(steady: Callable[..., TrainJob]) -> Path:
    """Output of a job that trained an adapter in one process."""
    return trained(steady(tuning=Tuning.lora, max_steps=2))


@pytest.mark.real
@pytest.mark.parametrize("config", ["zero2", "zero3"])
def test_zero_splits_its_work_and_leaves_a_whole_adapter(
    steady: Callable[..., TrainJob], adapted: Path, config: str
) -> None:
    job = steady(tuning=Tuning.lora, max_steps=2)
    run_launched(job, config, "--num_processes", "2")
    assert_learnt_the_same(Path(job.output), adapted)
    assert_proven(Path(job.output))


@pytest.mark.real
def test_fsdp_splits_the_base_and_leaves_a_whole_adapter(
    steady: Callable[..., TrainJob], adapted: Path, tmp_path: Path
) -> None:
    job = steady(tuning=Tuning.lora, max_steps=2)
    (tmp_path / "on_cpu.py").write_text(ON_CPU)
    run_launched(job, "fsdp2", "--num_processes", "2", started=[str(tmp_path / "on_cpu.py")])
    assert_learnt_the_same(Path(job.output), adapted)
    assert_proven(Path(job.output))


SRUN = """#!/bin/sh
# Starts the same command twice, as `srun --nodes=2 --ntasks-per-node=1` does on two nodes; both nodes are this machine.
shift 2
SLURM_NODEID=0 "$@" & first=$!
SLURM_NODEID=1 "$@" & second=$!
wait $first && wait $second
"""


@pytest.mark.real
def test_two_nodes_learn_what_one_process_does(steady: Callable[..., TrainJob], alone: Path, tmp_path: Path) -> None:
    job, srun, config = steady(), tmp_path / "srun", tmp_path / "two_nodes.yaml"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    nodes = "num_machines: 2\nmain_process_ip: 127.0.0.1\nmain_process_port: 29713"
    config.write_text((CONFIGS[0].parent / "two_cpus.yaml").read_text().replace("num_machines: 1", nodes))
    launch = LaunchConfig(nodes=[str(srun), "--nodes=2", "--ntasks-per-node=1"])
    command = trainer_command(
        Config(
            bait=BaitConfig(prompts={"b": "Ask."}),
            eval=EvalConfig(benchmarks={"dev": BenchmarkConfig()}),
            train=TrainConfig(accelerate=str(config)),
            launch=launch,
        )
    )
    path = Path(job.output).with_suffix(".yaml")
    write_job(path, job)
    ended = subprocess.run([*command, str(path)], capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert_learnt_the_same(Path(job.output), alone)
    assert_proven(Path(job.output))


def test_a_node_takes_the_first_node_s_address_from_slurm_unless_the_file_states_another(tmp_path: Path) -> None:
    given = {"SLURM_NODEID": "1", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7"}
    silent, stating = str(CONFIGS[0].parent / "two_nodes.yaml"), tmp_path / "mine.yaml"
    stating.write_text("num_machines: 2\nmain_process_ip: ib-node-1\n")
    assert node_command(["--config_file", silent], given)[-4:] == [
        *("--main_process_ip", "10.0.0.7"),
        *("--config_file", silent),
    ]
    assert "--main_process_ip" not in node_command(["--config_file", str(stating)], given)
    assert "--main_process_ip" not in node_command(["--config_file", silent], {"SLURM_NODEID": "1"})


@pytest.mark.parametrize(("given", "rank"), [({}, "0"), ({"SLURM_NODEID": "3"}, "3"), ({"NODE_RANK": "1"}, "1")])
def test_a_node_takes_its_rank_from_the_scheduler(given: dict[str, str], rank: str) -> None:
    command = node_command(["--config_file", "x.yaml"], given)
    assert command[-4:] == ["--machine_rank", rank, "--config_file", "x.yaml"]


def test_several_nodes_without_a_file_with_their_number_are_refused() -> None:
    with pytest.raises(BadConfig, match=r"several nodes \(launch.nodes\) need an accelerate file"):
        Config(
            bait=BaitConfig(prompts={"b": "Ask."}),
            eval=EvalConfig(benchmarks={"dev": BenchmarkConfig()}),
            launch=LaunchConfig(nodes=["srun"]),
        )

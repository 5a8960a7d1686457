import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import train
from crescent.errors import BadConfig
from train.checkpoints import Layout, is_complete, newest_complete, refuse_other_layout, write_layout

CONFIGS = sorted((Path(train.__path__[0]) / "accelerate").glob("*.yaml"))
NAMES = [path.stem for path in CONFIGS]


def launched(config: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The arguments of `accelerate launch` for this file, after it set the environment of the processes it starts."""
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
    expected = {"cpu": 1, "one_gpu": 1, "two_cpus": 2}
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
        # The trainer fills these in, so that the global batch is train.batch and the precision is model.dtype.
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
    assert not is_complete(folder)  # nobody declared it
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

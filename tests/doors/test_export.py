"""Exports of a recorded run on the fakes: folders that work, and say what they are, without the run."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from model_folders import safetensors_bytes, write_model
from smoke_runs import reseal, reseal_alone, set_setting

from crescent.commands import export_command
from crescent.doors.export import export_model, find_base, push
from crescent.doors.export_card import Origin, answers_from, warm_start
from crescent.doors.export_pairs import export_pairs
from crescent.errors import BadConfig, Missing
from crescent.records import Item, Pair, read_lines, write_lines

RECORDED = Path(__file__).parent.parent / "recorded" / "run_before_wings.tar.gz"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished first round and half a second one; the first child was accepted."""
    with tarfile.open(RECORDED) as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path / "runs/smoke"


@pytest.fixture
def real(run: Path, tmp_path: Path) -> Path:
    """The same run as if it had trained the adapter of a model in a folder of this machine."""
    base = write_model(tmp_path / "Base-1B")
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (base / "LICENSE").write_text("Apache License")
    set_setting(run, "path", str(base))
    adapter = run / "round-1/train/adapter"
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base), "r": 8}))
    (adapter / "adapter_model.safetensors").write_bytes(safetensors_bytes(a=[1]))
    (adapter / "README.md").write_text("| | |\n|---|---|\n| base model | Base-1B |\n| method | sft, lora |\n")
    seal_again(run)
    return run


def seal_again(run: Path) -> None:
    """Seal the run as it is now; the verdict is about the child of that name."""
    reseal(run)
    trained = json.loads((run / "round-1/train/manifest.json").read_text())["digest"]
    verdict = run / "round-1/verdict/verdict.json"
    verdict.write_text(re.sub(r"smoke-r01-[0-9a-f]{8}", f"smoke-r01-{trained[:8]}", verdict.read_text()))
    reseal_alone(run / "round-1/verdict")


def test_the_best_child_is_exported_with_tokenizer_licence_and_a_base_that_means_something(
    real: Path, tmp_path: Path
) -> None:
    chosen = export_model(real, "best", tmp_path / "out", merge=False, base="org/Base-1B", gguf=False)
    out = tmp_path / "out"
    assert chosen.round_.round == 1
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/Base-1B"
    for name in ("adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json", "LICENSE", "README.md"):
        assert (out / name).is_file(), name
    assert not (out / "config.json").exists(), "that of the base would make the folder a model of its own"
    assert str(tmp_path) not in "".join(file.read_text() for file in out.glob("*.[jm]*") if file.suffix != ".jsonl")
    original = json.loads((real / "round-1/train/adapter/adapter_config.json").read_text())
    assert original["base_model_name_or_path"] == str(tmp_path / "Base-1B"), "the run is not changed"


def test_the_card_says_how_it_scored_and_what_it_learned_from(real: Path, tmp_path: Path) -> None:
    export_model(real, "1", tmp_path / "out", merge=False, base="org/Base-1B", gguf=False)
    card = (tmp_path / "out/README.md").read_text()
    pairs = read_lines(real / "round-1/pairs/pairs.jsonl", Pair)
    voted = sum(pair.source == "vote" for pair in pairs)
    for part in (
        "base_model: org/Base-1B",
        "license: apache-2.0",
        "library_name: peft",
        "Verdict: **accepted**.",
        "## Scores",
        f"| {voted} |",
        "Bait prompts:",
        "| method | sft, lora |",
        "AutoPeftModelForCausalLM",
    ):
        assert part in card, part
    config = (real / "config.yaml").read_text()
    for benchmark in (line.strip().rstrip(":") for line in config.splitlines() if line.startswith("    sums")):
        assert f"| {benchmark} |" in card


def test_an_adapter_of_a_folder_needs_a_name_for_its_base(real: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"Base-1B: an adapter needs its base.*--base.*--merge"):
        export_model(real, "1", tmp_path / "out", merge=False, base=None, gguf=False)
    assert not (tmp_path / "out").exists()


def test_complete_weights_are_copied_where_the_run_has_them(real: Path, tmp_path: Path) -> None:
    weights = real / "round-1/train/weights"
    shutil.copytree(tmp_path / "Base-1B", weights)
    seal_again(real)
    export_model(real, "1", tmp_path / "out", merge=True, base=None, gguf=False)
    card = (tmp_path / "out/README.md").read_text()
    assert (tmp_path / "out/model-1.safetensors").read_bytes() == (weights / "model-1.safetensors").read_bytes()
    assert (tmp_path / "out/model-1.safetensors").stat().st_ino != (weights / "model-1.safetensors").stat().st_ino
    assert "library_name: transformers" in card
    assert "base_model" not in card.partition("\n---\n")[0], "a folder of this machine is no name on the hub"


def test_what_cannot_be_exported_is_refused_with_the_way_out(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadConfig, match=r"--round 7: .* has no such child; its rounds: 1 \(or `best`\)"):
        export_model(run, "7", out, merge=False, base=None, gguf=False)
    with pytest.raises(Missing, match=r"no convert_hf_to_gguf\.py.*git clone.*LLAMA_CPP"):
        export_model(run, "1", out, merge=False, base=None, gguf=True)
    out.mkdir()
    with pytest.raises(BadConfig, match="exists already"):
        export_model(run, "1", out, merge=False, base=None, gguf=False)
    verdict = run / "round-1/verdict/verdict.json"
    verdict.write_text(verdict.read_text().replace('"action":"accept"', '"action":"retry"'))
    reseal_alone(run / "round-1/verdict")
    with pytest.raises(BadConfig, match=r"no child was accepted.*--round 1 exports a child all the same"):
        export_model(run, "best", tmp_path / "new", merge=False, base=None, gguf=False)


def test_the_base_is_known_by_what_it_is_called_elsewhere() -> None:
    assert find_base({"model": {"path": "packaged:smollm2"}}, None).hub_id == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert find_base({"model": {"path": "org/name"}}, None).hub_id == "org/name"
    assert find_base({"model": {"path": "/data/x"}}, None).hub_id is None
    assert find_base({"model": {"path": "org/a"}, "train": {"student": "org/b"}}, None).hub_id == "org/b"


def test_pairs_are_a_data_set_of_sft_and_preference_rows(run: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = export_pairs(run, "best", tmp_path / "pairs")
    pairs = {pair.id: pair for pair in read_lines(run / "round-1/pairs/pairs.jsonl", Pair)}
    table = datasets.load_dataset(str(tmp_path / "pairs"), "sft", split="train", cache_dir=str(tmp_path / "cache"))
    assert table.num_rows == rows["sft"] == len(pairs)
    for row in table:
        pair = pairs[row["id"]]
        assert row["prompt"] == [{"role": "user", "content": pair.prompt}]
        assert row["completion"] == [{"role": "assistant", "content": pair.completion}]
        assert (row["agreement"], row["round"], row["source"]) == (pair.agreement, pair.round, pair.source)
        assert (row["bait"] is None) == (pair.source == "replay")
    assert rows.get("preference", 0) == sum(pair.rejected is not None for pair in pairs.values())


def test_an_upload_that_fails_leaves_the_folder_and_says_how_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "out").mkdir()
    with pytest.raises(
        Missing, match=r"--push me/mine: not uploaded .*out is complete: `hf auth login`, then `hf upload"
    ):
        push(tmp_path / "out", "me/mine", "model", public=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--pairs", "--merge"), "--pairs exports training data"),
        (("--public",), "give --push ORGANISATION/NAME"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(run: Path, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        export_command([str(run), "--to", str(run.parent / "out"), *arguments])


def test_the_command_says_what_it_wrote(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_command([str(run), "--to", str(tmp_path / "out")])
    assert "round 1, smoke-r01-" in capsys.readouterr().out
    assert (tmp_path / "out/skill.json").is_file()


@pytest.mark.parametrize(
    ("labels", "noise", "teacher", "told"),
    [
        ("majority", 0.0, False, "most of its own samples agreed on, without labels and without another model's"),
        ("fixed", 0.25, False, "25% of the answers were made wrong on purpose"),
        ("first", 0.0, False, "its own first answers, on which nothing was voted (a control arm), without labels"),
        ("minority", 0.0, False, "most of its own samples contradicted"),
        ("shuffled", 0.0, False, "answers to other questions"),
        ("gold", 0.0, False, "right by computation, which are labels"),
        ("majority", 0.0, True, "most of its teacher's samples agreed on, without labels"),
    ],
)
def test_a_card_claims_of_the_answers_only_what_is_true(
    labels: str, noise: float, teacher: bool, told: str, tmp_path: Path
) -> None:
    class Reader:
        root = tmp_path

        def selection(self, _: int) -> dict[str, object]:
            return {"made_from": {"settings": {"pairs": {"labels": labels, "noise": noise}}}}

    if teacher:
        (tmp_path / "teacher").mkdir()
    found = answers_from(Reader(), 1)  # type: ignore[arg-type]
    assert told in found
    assert ("without another model" in found) == (not teacher and labels != "gold")


def test_a_card_says_that_a_warm_start_had_labels(tmp_path: Path) -> None:
    weights = tmp_path / "sums-start" / "weights"
    weights.mkdir(parents=True)
    origin = Origin(str(weights), None, None, weights, None)
    assert warm_start(origin) == ""
    write_lines(weights.parent / "labelled.jsonl", [Item("a", "labelled", "1 + 1", "2")])
    assert "1 labelled problems taught sums-start" in warm_start(origin)

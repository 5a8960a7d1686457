"""An adapter merged into its base outside a run gives the weights that a run would have served."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from crescent.config import Dtype
from crescent.models.model_folder import check_model_folder
from train.merge import merge

pytestmark = pytest.mark.real


def test_merged_weights_answer_like_base_and_adapter_and_pass_the_door(tiny: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), config).save_pretrained(tmp_path / "adapter")
    (tmp_path / "out").mkdir()
    merge(tiny, tmp_path / "adapter", Dtype.float32, tmp_path / "out")
    check_model_folder(tmp_path / "out")
    text = torch.tensor([[5, 6, 7, 8]])
    base = AutoModelForCausalLM.from_pretrained(tiny)
    with torch.no_grad():
        plain = base(text).logits
        adapted = PeftModel.from_pretrained(base, tmp_path / "adapter")(text).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(text).logits
    assert not torch.allclose(plain, adapted, atol=1e-3)
    assert torch.allclose(merged, adapted, atol=1e-4)

"""Model folders for tests, written by hand: small, whole, and loadable by nothing."""

import json
from pathlib import Path

from crescent.models.model_folder import INDEX


def safetensors_bytes(dtype: str = "F32", **shapes: list[int]) -> bytes:
    """A safetensors file of zeros, written by hand from the format's description."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    width = {"F32": 4, "I32": 4, "F8_E4M3": 1}[dtype]
    for name, shape in shapes.items():
        size = width
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


def write_model(folder: Path) -> Path:
    """A folder that passes every check: 6 + 4 parameters in two shards."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    (folder / "model-1.safetensors").write_bytes(safetensors_bytes(a=[2, 3]))
    (folder / "model-2.safetensors").write_bytes(safetensors_bytes(b=[4]))
    (folder / INDEX).write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')
    return folder

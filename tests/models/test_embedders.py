"""Embedders: equal texts have equal vectors on every machine, and similar texts are near."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crescent.config import DiversifyConfig, Embedder
from crescent.errors import Missing
from crescent.models.embedders import DIMENSIONS, lexical_vectors, open_embedder, open_self, projection
from crescent.models.packaged_model import packaged_model

ROOT = Path(__file__).parents[2]


@given(st.lists(st.text(max_size=80), min_size=1, max_size=8))
def test_lexical_vectors_have_length_one_and_do_not_depend_on_other_texts(texts: list[str]) -> None:
    vectors = lexical_vectors(texts)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.array_equal(vector, lexical_vectors([text])[0])


def test_lexical_vectors_are_the_same_in_every_process() -> None:
    text = "Wie viele Äpfel hat 花子 bei 3/4?"
    code = f"from crescent.models.embedders import *; print(lexical_vectors([{text!r}]).tobytes().hex())"
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True
        )
        assert run.stdout.decode().strip() == lexical_vectors([text]).tobytes().hex()


def shingles(text: str) -> Counter[str]:
    """Character trigrams of the lower-cased text; besides, each number twice, and each number with the next one twice.

    `lexical_vectors` estimates their Jaccard similarity; this is the definition, written out.
    """
    padded = f"  {' '.join(text.lower().split())} "
    trigrams = [padded[start : start + 3] for start in range(len(padded) - 2)]
    numbers = re.findall(r"\d+(?:[.,/:]\d+)*", padded)
    tokens = [f"number {number}" for number in numbers] + [
        f"numbers {number} {next_number}" for number, next_number in pairwise(numbers)
    ]
    return Counter([*trigrams, *tokens, *tokens])


def jaccard(text: str, other: str) -> float:
    a, b = shingles(text), shingles(other)
    return (a & b).total() / (a | b).total()


STORY = (
    "Ann has 3 red apples and 14 pears. She buys {n} more apples at the market, and gives {m} pears to {name}. {end}"
)


def test_the_cosine_estimates_the_jaccard_similarity_without_bias() -> None:
    ends = ["How many apples has she now?", "How many pears are left?", "What is 3/4 of that?", "Find x if x + 2 = 7."]
    texts = [
        STORY.format(n=n, m=m, name=name, end=end)
        for n, m, name, end in product((2, 35), (1, 9), ("Bob", "Christopher"), ends)
    ]
    texts += [" ".join(text.split()[:keep]) for text, keep in product(texts[:6], range(2, 24, 3))]
    vectors = lexical_vectors(texts)
    similarities = [jaccard(*pair) for pair in combinations(texts, 2)]
    errors = [float(a @ b) - jac for (a, b), jac in zip(combinations(vectors, 2), similarities, strict=True)]
    assert (min(similarities) < 0.1, max(similarities) > 0.9) == (True, True)
    assert abs(np.mean(errors)) < 0.02
    expected = np.mean([(1 - jac**2) / DIMENSIONS for jac in similarities])
    assert np.var(errors) < 1.5 * expected


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("12 + 3", "1 + 23"),
        ("12 + 3", "3 + 12"),
        ("What is 2 + 2?", "What is 2 + 2 + 2?"),
        ("What is 11111 + 1?", "What is 1111 + 1?"),
        ("What is 93 * 96?", "What is 96 * 93?"),
        ("What is 3/4 of 12?", "What is 3.4 of 12?"),
        (
            "You have 97 apples and add 29 apples. How many is that?",
            "You have 29 apples and add 97 apples. How many is that?",
        ),
    ],
)
def test_other_numbers_make_another_sum(text: str, other: str) -> None:
    a, b = lexical_vectors([text, other])
    assert a @ b < 0.95


def test_all_sums_of_two_numbers_stay_apart_at_the_quickstarts_threshold() -> None:
    vectors = lexical_vectors([f"What is {a} + {b}?" for a, b in product(range(40), range(40))])
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, 0)
    assert similar.max() < 0.97


@given(st.text(max_size=60), st.sampled_from(["upper", "lower"]), st.integers(1, 3))
def test_case_and_spacing_do_not_count(text: str, case: str, spaces: int) -> None:
    text = text.lower()
    other = text.replace(" ", " " * spaces)
    if case == "upper" and text.upper().lower() == text:
        other = other.upper()
    assert np.array_equal(*lexical_vectors([text, other]))


def test_the_same_problem_with_other_numbers_is_near_and_another_problem_is_far() -> None:
    base, near, far = lexical_vectors(
        [
            "Ann has 3 apples and buys 14 more at the market. How many apples does Ann have now?",
            "ann has 5 apples  and buys 21 more at the market. how many apples does ann have now?",
            "Find the sum of the roots of x^2 - 5x + 6 and say which of them is the larger one.",
        ]
    )
    assert base @ near > 0.6
    assert base @ far < 0.3


def test_lexical_vectors_never_change() -> None:
    """New vectors are compared with those that earlier versions wrote into run folders."""
    (vector,) = lexical_vectors(["What is 3 + 4?"])
    assert np.packbits(vector > 0).tobytes().hex()[:32] == "668d944a97f164242f6aef1466cbb26d"


def test_the_lexical_embedder_is_opened_by_name() -> None:
    with open_embedder(DiversifyConfig(embedder=Embedder.lexical)) as embed:
        assert np.array_equal(embed(["1 + 1"]), lexical_vectors(["1 + 1"]))


MINILM = """
import json, sys
from crescent.config import DiversifyConfig
from crescent.models.embedders import open_embedder
with open_embedder(DiversifyConfig()) as embed:
    vectors = embed(json.load(sys.stdin))
loaded = [name for name in ("torch", "transformers") if name in sys.modules]
print(json.dumps({"vectors": vectors.tolist(), "loaded": loaded}))
"""


@pytest.mark.real
def test_minilm_sees_meaning_from_another_process() -> None:
    texts = [
        "Tom has 3 apples and buys 4 more. How many apples does he have now?",
        "Tom owns three apples. He buys four additional apples. How many apples has he got?",
        "What is the area of a circle whose radius is 5 centimetres?",
    ]
    run = subprocess.run(
        [sys.executable, "-c", MINILM], cwd=ROOT, input=json.dumps(texts).encode(), capture_output=True
    )
    assert run.returncode == 0, run.stderr.decode()
    found = json.loads(run.stdout)
    assert found["loaded"] == []
    vectors = np.array(found["vectors"])
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.85
    assert vectors[0] @ vectors[2] < 0.4


@pytest.mark.real
def test_a_missing_embedding_model_is_named_with_the_fix(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    with (
        open_embedder(DiversifyConfig(path=nowhere)) as embed,
        pytest.raises(Missing, match=r"nowhere.*diversify\.path.*lexical"),
    ):
        embed(["1 + 1"])


def test_the_models_own_states_need_its_weights() -> None:
    with pytest.raises(Missing, match=r"base model.*diversify\.path.*lexical"):
        open_embedder(DiversifyConfig(embedder=Embedder.self))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(packaged_model())


def random_model(architecture: str, folder: Path, tokenizer: Any, last_layer_times: float = 1.0) -> str:
    """Four random layers, the last one multiplied."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
    heads = {"num_key_value_heads": 2, "head_dim": 16}
    special = {"pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), **sizes, **heads, **special)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".3." in name:
                parameter.mul_(last_layer_times)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


TEXTS = (
    "What is 3 + 4?",
    "",
    "Ann has 3 apples and buys 4 more at the market. How many apples does Ann have now?",
    "x",
)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2", "gemma3_text"])
def test_only_the_first_layers_are_run_whatever_the_architecture(
    architecture: str, tmp_path: Path, tokenizer: Any
) -> None:
    found = [
        open_self(random_model(architecture, tmp_path / f"times-{times}", tokenizer, times), "cpu")(TEXTS)
        for times in (1.0, 5.0)
    ]
    assert np.array_equal(*found)
    assert found[0].shape == (4, 32)
    assert np.linalg.norm(found[0], axis=1) == pytest.approx(1, abs=1e-6)


def test_the_states_of_a_text_do_not_depend_on_the_other_texts(tmp_path: Path, tokenizer: Any) -> None:
    """Neither padding nor the order of the texts counts."""
    embed = open_self(random_model("llama", tmp_path, tokenizer), "cpu")
    together = embed([*TEXTS, "many words " * 100])
    for text, vector in zip(TEXTS, together, strict=False):
        assert embed([text])[0] == pytest.approx(vector, abs=1e-5)
    assert embed([]).shape == (0, 32)


def test_states_wider_than_384_are_projected_and_keep_their_cosines() -> None:
    wide = np.random.default_rng(0).normal(size=(40, 2048)).astype(np.float32)
    wide += 2 * wide[0]  # all cosines around 0.8
    narrow = wide @ projection(2048)
    assert narrow.shape == (40, 384)
    before, after = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (wide, narrow))
    assert np.abs(before @ before.T - after @ after.T).max() < 0.1


OWN = """
import json, sys
from crescent.config import DiversifyConfig, Embedder
from crescent.models.embedders import open_embedder
with open_embedder(DiversifyConfig(embedder=Embedder.self), sys.argv[1]) as embed:
    vectors = embed(json.load(sys.stdin))
loaded = [name for name in ("torch", "transformers") if name in sys.modules]
print(json.dumps({"vectors": vectors.tolist(), "loaded": loaded}))
"""


@pytest.mark.real
def test_the_models_own_states_see_meaning_from_another_process() -> None:
    texts = [
        "Tom has 3 apples and buys 4 more. How many apples does he have now?",
        "Tom owns 3 apples and buys 5 more of them. How many apples does he own now?",
        "What is the area of a circle whose radius is 5 centimetres?",
    ]
    run = subprocess.run(
        [sys.executable, "-c", OWN, str(packaged_model())],
        cwd=ROOT,
        input=json.dumps(texts).encode(),
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr.decode()
    found = json.loads(run.stdout)
    assert found["loaded"] == []
    vectors = np.array(found["vectors"])
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.85
    assert vectors[0] @ vectors[2] < 0.5


@pytest.mark.real
def test_a_missing_base_model_is_named_with_the_fix(tmp_path: Path) -> None:
    cfg = DiversifyConfig(embedder=Embedder.self)
    with (
        open_embedder(cfg, str(tmp_path / "nowhere")) as embed,
        pytest.raises(Missing, match=r"nowhere.*diversify\.path.*lexical"),
    ):
        embed(["1 + 1"])


@pytest.mark.real
@pytest.mark.parametrize("embedder", [Embedder.minilm, Embedder.self])
def test_a_missing_gpu_is_named_with_the_fix(embedder: Embedder, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with (
        open_embedder(DiversifyConfig(embedder=embedder, device="cuda"), str(tmp_path)) as embed,
        pytest.raises(Missing, match=r"diversify\.device=cuda.*diversify\.device=cpu"),
    ):
        embed(["1 + 1"])

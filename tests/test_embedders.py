"""Embedders: equal texts are equal everywhere, and what is alike lies near."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crescent.config import DiversifyConfig, Embedder
from crescent.embedders import lexical_vectors, open_embedder
from crescent.errors import Missing

ROOT = Path(__file__).parents[1]


@given(st.lists(st.text(max_size=80), min_size=1, max_size=8))
def test_lexical_vectors_have_length_one_and_stand_alone(texts: list[str]) -> None:
    vectors = lexical_vectors(texts)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.array_equal(vector, lexical_vectors([text])[0])


def test_lexical_vectors_are_the_same_in_every_process() -> None:
    text = "Wie viele Äpfel hat 花子 bei 3/4?"
    code = f"from crescent.embedders import *; print(lexical_vectors([{text!r}]).tobytes().hex())"
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True
        )
        assert run.stdout.decode().strip() == lexical_vectors([text]).tobytes().hex()


def test_lexical_vectors_see_wording() -> None:
    base, near, far = lexical_vectors(
        ["Ann has 3 apples and buys 4 more.", "ann has 3 apples  and buys 5 more.", "Find the roots of x^2 - 5x + 6."]
    )
    assert base @ near > 0.9
    assert base @ far < 0.3


def test_the_lexical_embedder_is_opened_by_name() -> None:
    with open_embedder(DiversifyConfig(embedder=Embedder.lexical)) as embed:
        assert np.array_equal(embed(["1 + 1"]), lexical_vectors(["1 + 1"]))


MINILM = """
import json, sys
from crescent.config import DiversifyConfig
from crescent.embedders import open_embedder
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
def test_a_missing_embedding_model_is_named_with_the_way_out(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    with (
        open_embedder(DiversifyConfig(path=nowhere)) as embed,
        pytest.raises(Missing, match=r"nowhere.*diversify\.path.*lexical"),
    ):
        embed(["1 + 1"])

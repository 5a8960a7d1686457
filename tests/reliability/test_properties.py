"""Whatever happens to a file of a run, it is noticed or it changes nothing; no file makes a reader fail otherwise.

Properties of extraction and of comparing answers are tested where they lie: tests/synthesis, tests/tasks.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crescent.config import EvalJob, read_job
from crescent.engine.journal import Journal
from crescent.errors import BadConfig
from crescent.records import Completion, Request
from crescent.run_folder.manifest import MANIFEST, inspect, seal

Edit = Callable[[bytes], bytes]


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    """Ways to change a file: bytes are replaced, lost, put in or doubled, or the rest is cut off."""
    where, length = draw(st.floats(0, 1)), draw(st.integers(0, 40))
    new = draw(st.one_of(st.binary(max_size=20), st.sampled_from([b"\n", b"{}\n", b'"', bytes(40), b"\r\n"])))
    kind = draw(st.sampled_from(["replace", "insert", "double", "cut", "swap"]))

    def edit(content: bytes) -> bytes:
        at = int(where * len(content))
        end = at + length
        match kind:
            case "replace":
                return content[:at] + new + content[end:]
            case "insert":
                return content[:at] + new + content[at:]
            case "double":
                return content[:end] + content[at:]
            case "swap":
                return content[end:] + content[:end]
        return content[:at]

    return edit


def request(index: int) -> Request:
    return Request(f"answer/{index}", "What is 1 + 1?", 1.0, 16, index)


@given(texts=st.lists(st.text(max_size=30), max_size=6), changes=st.lists(edits(), max_size=3))
@settings(max_examples=60)
def test_a_journal_answers_with_what_was_written_or_not_at_all(texts: list[str], changes: list[Edit]) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        with Journal(path) as journal:
            for index, text in enumerate(texts):
                journal.append(request(index), Completion(text, "stop", 1))
        for change in changes:
            path.write_bytes(change(path.read_bytes()))
        with Journal(path) as journal:
            for index, text in enumerate(texts):
                found = journal.find(request(index))
                assert found in (None, Completion(text, "stop", 1))
                if found is None:
                    journal.append(request(index), Completion(text, "stop", 1))
        with Journal(path) as journal:
            assert journal.damaged == 0
            assert all(journal.find(request(index)) is not None for index in range(len(texts)))


@given(change=edits(), name=st.sampled_from([MANIFEST, "votes.jsonl", "weights/tensors"]))
@settings(max_examples=60)
def test_a_changed_file_of_a_stage_is_damage_or_the_change_means_nothing(change: Edit, name: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "stage"
        (folder / "weights").mkdir(parents=True)
        (folder / "votes.jsonl").write_text('{"id": "é"}\n' * 3)
        (folder / "weights/tensors").write_bytes(bytes(range(256)))
        about = {"made_from": {"version": "1", "settings": {"k": 8}, "inputs": {}}, "metrics": {"m": 0.5}}
        sealed = json.loads(json.dumps(seal(folder, {**about, "seconds": 1.0})))
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(change(before))
        found = inspect(folder)
        assert found.damage or found.manifest == sealed
        if name != MANIFEST and (folder / name).read_bytes() != before:
            assert found.damage.startswith(name)


@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode), st.just(b"")))
@settings(max_examples=60)
def test_a_job_file_is_read_or_refused_in_a_sentence(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        path.write_bytes(content)
        with pytest.raises(BadConfig):
            read_job(path, EvalJob)

"""Seed questions (`bait.seeds`): questions from a file, which bait prompts with `{seed}` ask to rewrite or evolve.

Not the paper's way, which begins without any data. A seed question is only shown: a completion that repeats one word
for word is no question, unless a bait prompt that shows none led to it, so that the model has invented it anew.
(Compare MetaMath's rephrasing, arXiv 2309.12284, and the evolving of WizardLM, arXiv 2304.12244.)
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crescent.config import BaitConfig
from crescent.errors import BadConfig, DataSaysNo, Missing
from crescent.machine.text_files import read_text
from crescent.records import SeedQuestion
from crescent.synthesis.chatter import CHAT_TOKEN

LONGEST = 4000
"""Characters of the longest seed question; anything longer is a page, and would fill the model's context."""
MOST_BAITS = 100_000
"""Largest number of bait prompts that seed questions may make."""
COPY = "repeats a seed question"
"""Why a completion is unusable; part of a metric's name, so never reworded."""
SHOWN = 80
"""Characters of a value that an error shows."""


@dataclass(frozen=True)
class Seeds:
    """What a file of seed questions holds."""

    questions: tuple[SeedQuestion, ...]
    left_out: tuple[str, ...]
    """Why lines were left out, each with its file and line."""

    @property
    def notice(self) -> str:
        """A line about the lines that were left out; empty if there are none."""
        if not self.left_out:
            return ""
        count = len(self.left_out)
        lines, were = ("line", "was") if count == 1 else ("lines", "were")
        used = f"{len(self.questions)} are used"
        return f"{count} {lines} of bait.seeds {were} left out, {used}; the first: {self.left_out[0]}"


def read_seeds(cfg: BaitConfig) -> Seeds:
    """The seed questions of `bait.seeds`, each text once.

    Raises:
        Missing: there is no such file.
        BadConfig: it is in an encoding that nobody named, or it makes too many bait prompts.
        DataSaysNo: it is empty, a line is no JSON object, or no line has a question.
    """
    if cfg.seeds is None:
        return Seeds((), ())
    path = Path(cfg.seeds).expanduser()
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else f"no such file in {Path.cwd()}"
        raise Missing(f"bait.seeds={cfg.seeds}: {problem}; give the file with one JSON object a line")
    known: dict[str, SeedQuestion] = {}
    left_out = []
    for line, raw in _objects(path):
        try:
            text = _question(raw, cfg.seed_field)
            first = known.setdefault(as_compared(text), SeedQuestion(path.name, line, text))
            if first.line != line:
                raise ValueError(f"is the same question as line {first.line}")
        except ValueError as error:
            left_out.append(f"{path}: line {line}: {error}")
    if not known:
        reason = left_out[0] if left_out else f"{path}: is empty"
        raise DataSaysNo(
            f"{reason}; no seed question is left: write one JSON object a line, e.g. "
            '{"question": "What is 3 + 4?"}, or set bait.seed_field to the field with the question'
        )
    _refuse_too_many(cfg, path, len(known))
    return Seeds(tuple(known.values()), tuple(left_out))


def _objects(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    # Not splitlines(): JSON strings may hold other line separators as they are.
    for line, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            rule = f"not JSON ({error}); write one object a line, e.g. with `jq -c`"
            raise DataSaysNo(f"{path}: line {line}: {rule}") from error
        if not isinstance(raw, dict):
            fix = "write one object a line, e.g. with `jq -c '.[]'`" if isinstance(raw, list) else "each line needs one"
            raise DataSaysNo(f"{path}: line {line}: is no JSON object; {fix}")
        yield line, raw


def _question(raw: Mapping[str, object], name: str) -> str:
    """The question in an object.

    Raises:
        ValueError: there is none that can be used.
    """
    value: object = raw.get(name)
    if name not in raw:
        value = raw
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise ValueError(f"has no field {name!r} (its fields: {', '.join(map(str, list(raw)[:8])) or 'none'})")
            value = value[part]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"field {name} is {repr(value)[:SHOWN]}, which is no question")
    # Half of a surrogate pair is JSON, but no text that an engine could be sent.
    text = value.strip().encode("utf-8", "replace").decode()
    if token := CHAT_TOKEN.search(text):
        raise ValueError(f"contains {token[0]!r}, which would start another turn of the chat")
    if len(text) > LONGEST:
        raise ValueError(f"is {len(text):,} characters long, and {LONGEST:,} are the most")
    return text


def _refuse_too_many(cfg: BaitConfig, path: Path, count: int) -> None:
    topics = len(cfg.topic_list) or cfg.topics
    levels = len(cfg.difficulty_list) or cfg.difficulties
    each = sum(
        (topics if "{topic}" in prompt else 1) * (levels if "{difficulty}" in prompt else 1)
        for prompt in cfg.prompts.values()
        if "{seed}" in prompt
    )
    if count * each > MOST_BAITS:
        raise BadConfig(
            f"bait.seeds={cfg.seeds}: {count:,} questions make {count * each:,} bait prompts, and {MOST_BAITS:,} are "
            f"the most; keep fewer lines, e.g. shuf -n {MOST_BAITS // each} {path.name}"
        )


def as_compared(text: str) -> str:
    """A text without what does not make it another question: case, spaces, quotes around it, and its last stop."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split()).strip("\"'“”*`.?!:")


class Copies:
    """Recognises seed questions among what the model wrote."""

    def __init__(self, cfg: BaitConfig, seeds: Sequence[SeedQuestion]) -> None:
        self.texts = frozenset(as_compared(seed.text) for seed in seeds)
        self.showing = [name for name, prompt in cfg.prompts.items() if "{seed}" in prompt]
        """Names of the bait prompts that show a seed question."""

    def is_copy(self, bait: str, text: str) -> bool:
        """Whether a question repeats a seed question, and came from a bait that shows one."""
        shown = any(bait == name or bait.startswith(f"{name}/") for name in self.showing)
        return shown and as_compared(text) in self.texts

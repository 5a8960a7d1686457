"""Many baits instead of one: prompts × topics × levels of difficulty, or × seed questions.

The model itself lists the topics and levels, so no outside data enters; or the config lists them. A bait is used the
more often, the more of its questions earlier rounds kept. Paper step I (Crescent, arXiv 2502.13441) has one bait
prompt; the pool is ours.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product

import numpy as np

from crescent.config import BaitConfig
from crescent.config.synthesis import BAIT_FIELDS
from crescent.engine.client import Engine
from crescent.errors import DataSaysNo
from crescent.records import Bait, BaitCount, Completion, Request, SeedQuestion, digest, request_seed
from crescent.synthesis.chatter import CHAT_TOKEN
from crescent.tasks.thoughts import without_thoughts

REQUESTS = 8
"""Largest number of requests for one list; a model that repeats itself is asked again with another seed."""
LONGEST_ENTRY = 60
"""Characters of the longest entry; anything longer is a sentence."""
LONGEST_LIST = 20_000
"""Number of characters of a reply that are read."""
LONGEST_SLUG = 40
"""Characters of a topic or level in a bait's name."""
PRIOR = 10.0
"""Number of questions at the overall rate that every bait is credited with; after ten real ones they count half."""

FIELD = re.compile(rf"\{{({'|'.join(BAIT_FIELDS)})\}}")
MARKER = re.compile(r"[ \t]*+(?:[-*•–+](?=\s)|\(?\d{1,4}[.):](?=\s)|\(?[A-Za-z][.)](?=\s)|\*\*\d{1,4}[.)])\s*+")
INLINE_NUMBER = re.compile(r"(?<=\S)[ \t]++(?=\(?\d{1,4}[.)][ \t])")
DESCRIPTION = re.compile(r"(?::\s|:$|\s[-–—]\s).*", re.S)
MARKDOWN = re.compile(r"[*_`#]+")
CHATTER = re.compile(
    r"(?:sure|certainly|of course|absolutely|okay)[!,.:]"
    r"|(?:here (?:is|are)|here['’]s|i hope|let me know|feel free|these (?:are|topics)|the following|note that)\b"
    r"|i['’](?:m|ll|d|ve)\b",
    re.I,
)

Entry = tuple[str, str]
"""What replaces a field: its part in the name of the bait, and its text in the prompt."""


async def open_pool(
    engine: Engine, cfg: BaitConfig, round_number: int, run_seed: int, seeds: Sequence[SeedQuestion] = ()
) -> list[Bait]:
    """All baits, sorted by name. The model is asked only for the lists that some prompt has a field for and that the
    config does not hold.

    A bait whose list the model cannot give is left out, as long as others remain.

    Raises:
        DataSaysNo: no bait remains.
    """
    wanted = {field for prompt in cfg.prompts.values() for field in FIELD.findall(prompt)}
    lists: dict[str, Sequence[Entry]] = {"seed": [(seed.slug, seed.text) for seed in seeds]}
    unreadable: dict[str, str] = {}
    for field, kind in (("topic", "topics"), ("difficulty", "difficulties")):
        own = {"topic": cfg.topic_list, "difficulty": cfg.difficulty_list}[field]
        if field in wanted and own:
            lists[field] = _entries_of(own)
        elif field in wanted:
            found, unreadable[kind] = await _ask_for(kind, engine, cfg, round_number, run_seed)
            lists[field] = _entries_of(found)
    baits = [bait for name, prompt in cfg.prompts.items() for bait in _fill(name, prompt, lists)]
    if not baits:
        missing = next(kind for kind, reply in unreadable.items() if reply)
        raise DataSaysNo(
            f"bait.{missing}={getattr(cfg, missing)}: none of the model's {REQUESTS} replies is a readable list, e.g. "
            f"{unreadable[missing][:80]!r}; reword bait.{missing}_prompt, or set bait.{missing}=0 and use prompts that "
            "need no list (bait=llama3)"
        )
    # Two topics may have the same slug; counts are kept by name, so each bait needs its own.
    names = Counter(bait.name for bait in baits)
    unique = [
        replace(bait, name=f"{bait.name}-{digest(bait.prompt)[:8]}") if names[bait.name] > 1 else bait for bait in baits
    ]
    return sorted(unique, key=lambda bait: bait.name)


async def _ask_for(
    kind: str, engine: Engine, cfg: BaitConfig, round_number: int, run_seed: int
) -> tuple[list[str], str]:
    """Topics or difficulties, as many as configured or as the model knows; if none, also the model's first reply."""
    count, prompt = (cfg.topics, cfg.topics_prompt) if kind == "topics" else (cfg.difficulties, cfg.difficulties_prompt)
    found: dict[str, str] = {}
    replies: list[str] = []
    for index in range(REQUESTS):
        request = Request(
            key=f"{kind}/{index}",
            prompt=prompt.format(count=count),
            temperature=cfg.temperature,
            max_tokens=cfg.max_tokens,  # No stop strings: one that ends a question may end a list after its first line.
            seed=request_seed(run_seed, round_number, kind, index),
        )
        completion = await engine.complete(request)
        replies.append(completion.text)
        for entry in _entries(completion):
            found.setdefault(entry.casefold(), entry)
        if len(found) >= count:
            break
    return [*found.values()][:count], "" if found else (replies[0].strip() or "nothing")


def _entries(completion: Completion) -> list[str]:
    if completion.finish_reason not in ("stop", "length"):
        return []
    entries = read_list(completion.text)
    return entries[:-1] if completion.finish_reason == "length" else entries  # The last one may be half an entry.


def read_list(text: str) -> list[str]:
    """The entries of a list that a model wrote: numbered, bulleted, separated by commas, or one on each line.

    If any line has a number or a bullet, only those lines count. `**Algebra**: the study of…` is read as `Algebra`.
    Thoughts, greetings, sentences, chat-template tokens and repetitions are left out.
    """
    lines = [
        part
        for line in without_thoughts(text)[:LONGEST_LIST].splitlines()
        for part in INLINE_NUMBER.split(line)
        if part.strip()
    ]
    markers = [marker for line in lines if (marker := MARKER.match(line))]
    if markers:
        entries = [marker.string[marker.end() :] for marker in markers]
    else:
        entries = [kept for line in lines if (kept := _without_chatter(line))]
        # One or two lines with commas are a list in a sentence; from three lines on, each line is an entry.
        if len(entries) < 3 and re.search("[,;]", " ".join(entries)):
            entries = re.split(r"[,;]", " ".join(entries))
        entries = [re.sub(r"\A\s*+(?:and|or)\s", "", entry) for entry in entries]
    distinct: dict[str, str] = {}
    for entry in map(_clean, entries):
        if entry:
            distinct.setdefault(entry.casefold(), entry)
    return [*distinct.values()]


def _without_chatter(line: str) -> str:
    """The entries in a line without number or bullet: in `Here are three: a, b, c`, what follows the colon."""
    line = MARKDOWN.sub("", line).strip()
    if CHATTER.match(line):
        return line.partition(": ")[2]
    sentence = line.endswith(".") and "," not in line and line.count(" ") > 5
    return "" if sentence or line.endswith((":", "!", "?")) else line


def _clean(entry: str) -> str:
    """One entry without markdown and description; empty if nothing usable is left."""
    control = any(unicodedata.category(character)[0] == "C" and character != "\t" for character in entry)
    if control or CHAT_TOKEN.search(entry):
        return ""
    name = DESCRIPTION.sub("", MARKDOWN.sub("", entry).strip())
    name = " ".join(name.split()).strip(" \"'“”.,;:")
    return name if len(name) <= LONGEST_ENTRY and any(map(str.isalpha, name)) and not CHATTER.match(name) else ""


def _entries_of(values: Sequence[str]) -> list[Entry]:
    return [(_slug(value), value) for value in values]


def _fill(name: str, prompt: str, lists: Mapping[str, Sequence[Entry]]) -> list[Bait]:
    """One bait for each combination of values of the prompt's fields."""
    fields = [field for field in BAIT_FIELDS if "{" + field + "}" in prompt]
    baits = []
    for entries in product(*(lists[field] for field in fields)):
        chosen = {field: value for field, (_, value) in zip(fields, entries, strict=True)}
        # In one pass: a `{difficulty}` that the model wrote into a topic must stay text.
        filled = FIELD.sub(lambda field, chosen=chosen: chosen[field[1]], prompt)  # type: ignore[misc]
        baits.append(Bait("/".join([name, *(slug for slug, _ in entries)]), filled))
    return baits


def baits_of_round(pool: Sequence[Bait], cfg: BaitConfig, round_number: int) -> list[Bait]:
    """The baits that a round uses: all, unless each round has a difficulty of its own."""
    if not cfg.one_difficulty_a_round:
        return list(pool)
    number = min(round_number, len(cfg.difficulty_list))
    ending = re.compile(rf"/{re.escape(_slug(cfg.difficulty_list[number - 1]))}(-[0-9a-f]{{8}})?\Z")
    with_difficulty = tuple(f"{name}/" for name, prompt in cfg.prompts.items() if "{difficulty}" in prompt)
    return [bait for bait in pool if not bait.name.startswith(with_difficulty) or ending.search(bait.name)]


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:LONGEST_SLUG].strip("-") or digest(text)[:8]


def weights(baits: Sequence[Bait], counts: Sequence[BaitCount], cfg: BaitConfig) -> list[float]:
    """Share of a round's questions for each bait, summing to 1; `counts` are those of all earlier rounds.

    The share `explore` is spread evenly. The rest is proportional to the rate at which a bait's questions became votes
    that make the agreement cut, shrunk towards the rate of all baits together.
    """
    asked, agreed = Counter[str](), Counter[str]()
    for count in counts:
        asked[count.bait.name] += count.asked
        agreed[count.bait.name] += count.agreed
    names = [bait.name for bait in baits]
    overall = sum(agreed[name] for name in names) / max(1, sum(asked[name] for name in names))
    rates = [(agreed[name] + PRIOR * overall) / (asked[name] + PRIOR) for name in names]
    even, total = 1 / len(baits), sum(rates)
    return [cfg.explore * even + (1 - cfg.explore) * (rate / total if total else even) for rate in rates]


def choose(index: int, baits: Sequence[Bait], weights: Sequence[float], round_number: int, run_seed: int) -> Bait:
    """The bait of question `index`. Among the first n questions, each bait occurs n times its weight, within one."""
    return baits[open_schedule(baits, weights, round_number, run_seed)[index]]


def open_schedule(baits: Sequence[Bait], weights: Sequence[float], round_number: int, run_seed: int) -> "_Schedule":
    """The index of the bait of each question, as `choose` says; to be kept where many are asked for."""
    return _schedule(tuple(bait.name for bait in baits), tuple(weights), round_number, run_seed)


class _Schedule:
    """The order of the baits: among those that are due, the one with the earliest deadline.

    Source: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980): with n baits, no count is
    ever more than 1 - 1/(2n - 2) away from its share. Random choice would be off by several among forty questions.
    """

    def __init__(self, shares: Sequence[float], order: Sequence[int]) -> None:
        self.order = np.asarray(order)
        """Indices of the baits, in the order in which equal deadlines are met."""
        self.shares = np.asarray(shares, dtype=np.float64)[self.order]
        self.given = np.zeros(len(order))
        self.chosen: list[int] = []

    def __getitem__(self, index: int) -> int:
        slack = 1 - 1 / max(1, 2 * len(self.shares) - 2)
        while len(self.chosen) <= index:
            owed = (len(self.chosen) + 1) * self.shares - self.given
            due = owed >= 1 - slack - 1e-9
            with np.errstate(divide="ignore", invalid="ignore"):
                deadlines = np.where(due & (self.shares > 0), np.round((slack - owed) / self.shares, 6), np.inf)
            next_ = int(np.argmin(deadlines) if due.any() else np.argmax(owed))
            self.given[next_] += 1
            self.chosen.append(int(self.order[next_]))
        return self.chosen[index]


@lru_cache(maxsize=8)
def _schedule(names: tuple[str, ...], shares: tuple[float, ...], round_number: int, run_seed: int) -> _Schedule:
    """Each round begins with different baits, since a round may have fewer questions than there are baits."""
    order = sorted(range(len(names)), key=lambda index: digest(run_seed, round_number, "bait", names[index]))
    return _Schedule(shares, order)

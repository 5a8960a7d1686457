"""The card of an exported checkpoint: what it was made from, how it scored, and how to use it
(https://huggingface.co/docs/hub/model-cards)."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from crescent import __version__
from crescent.config import Labels
from crescent.judging.wording import OUTCOMES, p_value, percent_with_interval, points_with_interval
from crescent.reading.finished import RunReader, setting
from crescent.reading.rounds import RoundSummary, RunSummary
from crescent.records import BaitCount, Item, Pair, read_lines
from crescent.run_folder.metric_names import QUESTIONS
from crescent.run_folder.places import LABELLED

METHOD = re.compile(r"^\| (?!\|)(?P<key>[^|]+) \| (?P<value>.*) \|$", re.MULTILINE)
"""A row of the table in the trainer's own card."""
NOT_REPEATED = ("base model", "revision", "licence", "---", "round")
"""Rows of that table which this card has elsewhere."""
LONGEST_PROMPT = 300
"""Characters of a bait prompt that the card shows."""
WEIGHTS = "weights"
"""Name of the folder of complete weights in what this project writes; the folder above says more."""


@dataclass(frozen=True)
class Origin:
    """The model that a run started from."""

    path: str
    """As the run's settings name it."""
    hub_id: str | None
    """Name that means something elsewhere; `None` if nothing says it."""
    revision: str | None
    folder: Path | None
    """Where it is on this machine; `None` if it is not."""
    licence: str | None

    @property
    def name(self) -> str:
        """What to call it in public: of a folder only the last part, because the rest may be private."""
        path = Path(self.path)
        return self.hub_id or (path.parent.name if path.name == WEIGHTS and path.parent.name else path.name)

    @property
    def labelled(self) -> int:
        """Number of labelled problems that a warm start taught it before; 0 if none is known of."""
        file = None if self.folder is None else self.folder.parent / LABELLED
        return len(read_lines(file, Item)) if file is not None and file.is_file() else 0


def model_card(run: RunSummary, round_: RoundSummary, training: Path, origin: Origin, whole: bool) -> str:
    """Text of README.md.

    Args:
        training: Folder of the stage that trained the checkpoint.
        whole: Whether the folder holds complete weights rather than an adapter.
    """
    from huggingface_hub import ModelCard, ModelCardData

    hub_id = origin.hub_id if origin.hub_id and "/" in origin.hub_id else None
    licence = origin.licence if origin.licence and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", origin.licence) else None
    data = ModelCardData(
        base_model=hub_id,
        license=licence.lower() if licence else None,
        library_name="transformers" if whole else "peft",
        pipeline_tag="text-generation",
        tags=["crescent", "self-improvement", *([] if whole else ["lora"])],
    )
    reader = RunReader(run.folder)
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {round_.checkpoint}",
        f"{'Complete weights' if whole else 'A LoRA adapter'}: round {round_.round} of the run `{run.name}`, in which "
        f"{cell(origin.name)} was trained with Crescent {__version__}. It learned from questions that "
        f"{'its teacher' if has_teacher(reader) else 'the model itself'} {questions_from(reader, round_.round)} and "
        f"{answers_from(reader, round_.round)}.",
        warm_start(origin),
        "## Scores",
        scores_table(run, round_),
        verdict_line(round_),
        "## What it learned from",
        *data_lineage(reader, round_.round),
        "## Training",
        training_table(training, origin),
        "## Use",
        usage(origin, whole),
    ]
    return str(ModelCard("\n\n".join(filter(None, parts)) + "\n"))


def warm_start(origin: Origin) -> str:
    """The labels that the run's base had seen, if any are known of."""
    if not origin.labelled:
        return ""
    taught = f"{origin.labelled:,} labelled problems taught {cell(origin.name)} how to ask and how to answer"
    return f"Before the run, {taught} (a warm start)."


def scores_table(run: RunSummary, round_: RoundSummary) -> str:
    """Accuracy of the base and of the checkpoint on each benchmark, with 95% intervals."""
    base = {result.score.benchmark: result.score for found in run.rounds[:1] for result in found.results}
    rows = ["| benchmark | role | items | base | this checkpoint | gain | p |", "|---|---|---|---|---|---|---|"]
    for result in round_.results:
        score, before, gain = result.score, base.get(result.score.benchmark), result.against_base
        cells = (
            score.benchmark,
            "decides" if score.decides else "test",
            str(result.items),
            percent_with_interval(before.accuracy, before.low, before.high) if before else "–",
            percent_with_interval(score.accuracy, score.low, score.high),
            points_with_interval(gain.difference, gain.low, gain.high) if gain else "–",
            p_value(gain.p_value) if gain else "–",
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) if len(rows) > 2 else "This checkpoint was not evaluated."


def verdict_line(round_: RoundSummary) -> str:
    """What the run decided about the checkpoint, and why."""
    if round_.verdict is None:
        return "The run has not judged it."
    intervals = "Intervals are 95% confidence intervals; gains are paired, item by item."
    return f"Verdict: **{OUTCOMES[round_.verdict.action]}**. {cell(round_.verdict.reason)} {intervals}"


def data_lineage(reader: RunReader, number: int) -> list[str]:
    """The rounds whose pairs the checkpoint learned from, and the bait prompts behind them."""
    pairs = list(reader.records(f"round-{number}/pairs/pairs.jsonl", Pair))
    by_origin = Counter((pair.source, pair.round) for pair in pairs)
    rows = ["| round | asked by | questions | pairs | digest of the pairs |", "|---|---|---|---|---|"]
    prompts: dict[str, str] = {}
    for earlier in sorted({round_ for source, round_ in by_origin if source == "vote"}):
        synthesis, selection = reader.synthesis(earlier), reader.selection(earlier)
        asked = asker(reader, earlier)
        questions = QUESTIONS.of(synthesis["metrics"]) if synthesis else None
        digest = str(selection["digest"])[:16] if selection else "–"
        count = f"{questions:.0f}" if questions is not None else "–"
        rows.append(f"| {earlier} | {asked} | {count} | {by_origin['vote', earlier]} | {digest} |")
        counts = reader.records(f"round-{earlier}/synthesis/baits.jsonl", BaitCount)
        named = setting(synthesis, "bait.prompts") or {found.bait.name: found.bait.prompt for found in counts}
        prompts |= {str(name): str(prompt) for name, prompt in named.items()}
    replayed = sum(count for (source, _), count in by_origin.items() if source == "replay")
    general = f"Besides, {replayed} general instructions that the base wrote and answered were replayed."
    listed = [f"- `{cell(name)}`: {cell(prompt)[:LONGEST_PROMPT]}" for name, prompt in sorted(prompts.items())]
    decontaminated = (
        "Questions too similar to an item of any benchmark above were left out."
        if reader.decontaminated(number)
        else ""
    )
    return ["\n".join(rows), general if replayed else "", decontaminated, "Bait prompts:\n\n" + "\n".join(listed)]


def answers_from(reader: RunReader, number: int) -> str:
    """What the answers were that a round trained on, and where they came from."""
    selection = reader.selection(number)
    labels = Labels(setting(selection, "pairs.labels") or Labels.majority)
    noise = float(setting(selection, "pairs.noise") or 0.0)
    whose = "its teacher's" if has_teacher(reader) else "its own"
    plain = "without labels" if has_teacher(reader) else "without labels and without another model's answers"
    match labels:
        case Labels.majority | Labels.fixed:
            found = f"from answers that most of {whose} samples agreed on, {plain}"
        case Labels.first | Labels.first_any:
            found = f"from {whose} first answers, on which nothing was voted (a control arm), {plain}"
        case Labels.minority:
            found = f"from answers that most of {whose} samples contradicted (a control arm), {plain}"
        case Labels.shuffled:
            found = f"from {whose} answers to other questions (a control arm), {plain}"
        case Labels.gold:
            found = "from answers that are right by computation, which are labels (a ceiling, no result of a vote)"
    wrong = f"; {100 * noise:.0f}% of the answers were made wrong on purpose"
    return f"{found}{wrong if noise else ''}"


def has_teacher(reader: RunReader) -> bool:
    """Whether another model than the trained one asked and answered."""
    return (reader.root / "teacher").is_dir()


def questions_from(reader: RunReader, number: int) -> str:
    """Where the questions of the rounds up to this one came from: `invented`, or from seed questions."""
    prompts = [setting(reader.synthesis(earlier), "bait.prompts") or {} for earlier in range(1, number + 1)]
    is_seeded = any("{seed}" in str(prompt) for named in prompts for prompt in named.values())
    return "made from seed questions that it was given, or invented," if is_seeded else "invented"


def asker(reader: RunReader, number: int) -> str:
    """The checkpoint that invented a round's questions and answered them."""
    synthesis = reader.synthesis(number)
    parent = synthesis["made_from"]["inputs"].get("parent") if synthesis else None
    for earlier in range(1, number):
        training = reader.training(earlier)
        if training is not None and training["digest"] == parent:
            return f"the child of round {earlier}"
    return "the teacher" if has_teacher(reader) else "the base"


def training_table(training: Path, origin: Origin) -> str:
    """Method and settings, as the trainer's own card states them."""
    rows = {"base model": origin.name, "revision": origin.revision or "unknown", "licence": origin.licence or "unknown"}
    for name in ("adapter", "weights"):
        card = training / name / "README.md"
        if card.is_file():
            found = METHOD.finditer(card.read_text())
            rows |= {row["key"].strip(): row["value"] for row in found if row["key"].strip() not in NOT_REPEATED}
            break
    lines = [f"| {cell(key)} | {cell(value)} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def usage(origin: Origin, whole: bool) -> str:
    """How to load it."""
    if whole:
        return (
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model, tokenizer = (kind.from_pretrained("PATH") for kind in (AutoModelForCausalLM, AutoTokenizer))\n```'
        )
    return (
        "```python\nfrom peft import AutoPeftModelForCausalLM\n\n"
        f'model = AutoPeftModelForCausalLM.from_pretrained("PATH")  # loads {origin.name}, too\n```'
    )


def cell(value: object) -> str:
    """A value as text that stays on its line, and within its cell of a table."""
    return " ".join(str(value).replace("\\|", "|").replace("|", "\\|").split())

"""Read one problem from a completion: whole and unchanged, or not at all.

A chat model greets, labels, lists several problems, solves the first one and says goodbye
(`crescent/synthesis/chatter.py`). What surrounds the problem is left out; nothing inside it is changed. One idea
decides where a problem ends: a passage *asks* when it has a question mark, or a sentence that begins with a task (Find,
Calculate, Prove…).

- Another problem begins at the next label of the same kind (`Problem 2:`), or at item 2 of a list when the text
  begins with item 1 and each of the two items asks. Numbered conditions or parts are one problem when only the end or
  the stem asks.
- A solution comes after its problem: `Answer:` ends a problem, unless only what follows it asks.
- Prose that only sounds like a solution (`Step 1:`, `To find…, we…`) ends a problem only if the text before it asks and
  does not announce steps, and nothing after it has a question mark.
- None of these patterns is looked for in code between fences.

In doubt the text stays longer: a vote on a strange question finds no majority, a vote on half a question may.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crescent.records import Completion
from crescent.synthesis.chatter import (
    ANNOUNCES_LIST,
    ANNOUNCES_STEPS,
    BOLD_LABEL,
    BULLET,
    CHAT_TOKEN,
    CLOSING,
    COMMENTARY,
    GSM8K_ANSWER,
    INLINE_SOLUTION,
    ITEM,
    ITEM_TITLE,
    LABEL,
    LABELS,
    OPENINGS,
    OPTION,
    REFUSAL,
    SEPARATOR,
    SOLUTION,
    SOUNDS_LIKE_SOLUTION,
    TASK,
    TITLED_LABEL,
)
from crescent.tasks.thoughts import without_thoughts

LONGEST = 20_000
"""Characters of the longest completion that is searched for a question."""
PASSES = 8
"""Number of layers of wrapping (label, quotes, label again…) that are removed; with more, the text is unusable."""

KEPT_CONTROLS = ("\n", "\t")
WRAPPERS = ('"', "'", "“", "”", "**", "`")
FENCED = re.compile(r"^[ \t]{0,3}```.*?(?:^[ \t]{0,3}```|\Z)", re.M | re.S)
TEXT_FENCE = re.compile(r"```(?:text|markdown|md|plaintext)?[ \t]*+\n([^`]*+)```")


@dataclass(frozen=True)
class Extraction:
    """The problem that was found in a completion, or why none was found."""

    text: str | None
    """The problem, as the model wrote it."""
    why: str = ""
    """Why there is no problem, in a few words; part of the metric name `unusable/<why>`, so never reworded."""
    dropped: int = 0
    """Number of further problems in the same completion, which are left out."""


def extract_question(completion: Completion, min_characters: int) -> Extraction:
    """The first problem of a completion, at least `min_characters` long.

    Reading the result again gives the same result. A text with a chat-template token is no question: in a prompt, the
    token would start another turn.
    """
    if completion.finish_reason != "stop":
        return Extraction(None, "cut at max_tokens" if completion.finish_reason == "length" else "refused")
    said = without_thoughts(completion.text)
    if len(said) > LONGEST:
        return Extraction(None, "too long")
    text, dropped = "".join(map(_visible, said.replace("\r\n", "\n"))).strip(), 0
    if CHAT_TOKEN.search(text):
        return Extraction(None, "chat-template token")
    for _ in range(PASSES):
        opened, noun = _without_opening(text)
        if REFUSAL.match(opened):
            return Extraction(None, "refused")
        first, further = _first_problem(opened, noun)
        unclosed = _without_closing(first)
        problem = _without_solution(unclosed)
        if unclosed and not problem:
            return Extraction(None, "only a solution", dropped)
        before, text, dropped = text, _unwrap(problem), dropped + further
        if text == before:
            break
    else:
        return Extraction(None, "no problem in it", dropped)
    if len(text) < min_characters:
        return Extraction(None, "too short" if text else "no problem in it", dropped)
    return Extraction(text, dropped=dropped)


def asks(text: str) -> bool:
    """Whether a passage has a question mark, or a sentence that begins with a task."""
    return "?" in text or TASK.search(text) is not None


def _visible(character: str) -> str:
    if character in KEPT_CONTROLS or unicodedata.category(character)[0] != "C":
        return character
    return " " if character.isspace() else ""  # "5\r6" is not 56


def _without_opening(text: str) -> tuple[str, str]:
    """Without chatter and labels before the problem, and the noun of the last label (`problem`), if there was one."""
    noun, start = "", 0
    while start < len(text):
        opening = _first_match((TITLED_LABEL, LABEL, *OPENINGS), text, start)
        if not opening or opening.end() == start:
            break
        noun = _noun(opening) if opening.re in LABELS else noun
        start = opening.end()
    text = text[start:]
    if inside := BOLD_LABEL.match(text):
        return inside["bold"] + text[inside.end() :], inside["noun"].lower()
    return text, noun


def _first_problem(text: str, noun: str) -> tuple[str, int]:
    """The first of several problems, and the number of the others. `noun` is that of the label before the text."""
    prose = _prose(text)
    further = _further_labels(prose, noun)
    if further and text[: further[0].start()].strip():
        return text[: further[0].start()].strip(), len(further)
    announced = ANNOUNCES_LIST.match(prose)
    for start in (0, announced.end()) if announced else (0,):
        items = _items(prose, start) or [*BULLET.finditer(prose, start)]
        if not items or items[0].start() != start:
            continue
        ends = [*(item.start() for item in items[1:]), len(text)]
        # The first two tell a list of problems from the parts of one problem.
        contents = [prose[item.end() : end] for item, end in zip(items[:2], ends, strict=False)]
        if _each_asks(contents) and (len(items) > 1 or items[0].re is ITEM):
            first = text[items[0].end() : ends[0]].strip()
            # `**1. Find x.**`: the item's pattern took the opening stars, so give them back to the closing ones.
            bold = items[0].re is ITEM and items[0]["mark"] == "**" and not items[0]["close"]
            return ITEM_TITLE.sub("", "**" + first if bold else first), len(items) - 1
    return text, 0


def _further_labels(prose: str, noun: str) -> list[re.Match[str]]:
    """The labels that begin another problem: after a labelled one those of the same kind, else `Problem:` and alike."""
    labels = [*_labels(prose)]
    if noun:
        return [label for label in labels if _noun(label) == noun]
    if labels and not asks(prose[: labels[0].start()]):
        return []
    return [label for label in labels if _begins_another(label)]


def _prose(text: str) -> str:
    """The text with fenced code blanked out, at equal length. An unclosed fence ends with the text."""
    return FENCED.sub(lambda code: "`" * len(code[0]), text)


def _labels(prose: str) -> Iterator[re.Match[str]]:
    """Labels at the beginning of any line but the first."""
    start = prose.find("\n") + 1
    while start:
        blank = prose[start : start + 1].isspace()
        if not blank and (label := _first_match(LABELS, prose, start)):
            yield label
        start = prose.find("\n", start) + 1


def _first_match(patterns: Sequence[re.Pattern[str]], text: str, start: int) -> re.Match[str] | None:
    """The match, at `start`, of the first pattern that matches there."""
    return next((match for pattern in patterns if (match := pattern.match(text, start))), None)


def _noun(label: re.Match[str]) -> str:
    groups = label.groupdict()
    return (groups["noun"] or groups.get("numbered") or groups.get("alone") or "").lower()


def _begins_another(label: re.Match[str]) -> bool:
    """Whether a label after an unlabelled problem begins another one: `Problem:` and `Problem 2:` do, while `Question:`
    and `Problem 1:` follow a stem."""
    return _noun(label) == "problem" and label.groupdict().get("number") != "1"


def _items(prose: str, start: int) -> list[re.Match[str]]:
    """The items 1, 2, 3… of a numbered list in one style."""
    items: list[re.Match[str]] = []
    for found in ITEM.finditer(prose, start):
        alike = not items or (found["style"], found["end"]) == (items[0]["style"], items[0]["end"])
        if alike and int(found["number"]) == len(items) + 1:
            items.append(found)
    return items


def _each_asks(contents: list[str]) -> bool:
    """Whether each item asks, and in the same way: `1. Find half of x. 2. What is x?` is one problem."""
    if any("?" in content for content in contents):
        return all("?" in content for content in contents)
    return all(asks(content.strip()) for content in contents)


def _without_closing(text: str) -> str:
    """Without the words to the reader that follow the problem."""
    for pattern in (CLOSING, COMMENTARY, SEPARATOR):
        prose = _prose(text)
        asked = _asked(prose)
        for found in pattern.finditer(prose):
            start = found.start()
            # A closing is unmistakable; commentary may be part of a problem, a rule may separate its parts.
            certain = pattern is CLOSING or (asked <= start and (pattern is SEPARATOR or "?" not in prose[start:]))
            if certain and text[:start].strip():
                text = text[:start].strip()
                break
    return text


def _without_solution(text: str) -> str:
    """The text before the first solution; empty if the text begins with one."""
    for pattern in (GSM8K_ANSWER, SOLUTION, INLINE_SOLUTION, SOUNDS_LIKE_SOLUTION):
        prose = _prose(text)
        asked, last_mark = _asked(prose), prose.rfind("?")
        for found in pattern.finditer(prose):
            start = found.start()
            if _solves(found, asked <= start, last_mark >= found.end()):
                if pattern is GSM8K_ANSWER:
                    start = _before_reasoning(prose, start)
                text = text[:start].strip()
                break
    return text


def _asked(prose: str) -> int:
    """Position at which the first question mark or task ends; beyond the end of the text if it does not ask."""
    task, mark, beyond = TASK.search(prose), prose.find("?"), len(prose) + 1
    return min(task.end() if task else beyond, mark + 1 if mark >= 0 else beyond)


def _before_reasoning(prose: str, start: int) -> int:
    """End of the problem before GSM8K's `####`, which follows a reasoning without any announcement: the end of the last
    line that asks, or of the last option."""
    asked = max(prose.rfind("?", 0, start), 0) or _asked(prose)
    last = max([asked, *(option.start(1) for option in OPTION.finditer(prose, 0, start))])
    line_end = prose.find("\n", last)
    return line_end if 0 <= line_end < start else start


def _solves(found: re.Match[str], asked: bool, asks_later: bool) -> bool:
    """Whether a solution begins here, given whether the text before it asks, and the text after it."""
    before, rest = found.string[: found.start()], found.string[found.end() :]
    begins = not before or before.isspace()
    if found.re is SOLUTION:
        # `Answers:` may introduce the options of a question.
        choices = OPTION.findall(rest[:2000])[:2] in (["A", "B"], ["a", "b"]) and not OPTION.search(before)
        return (begins or asked or not asks_later) and not choices
    if found.re is GSM8K_ANSWER:
        return begins or asked
    if found.re is SOUNDS_LIKE_SOLUTION:
        near = before[-200:].rstrip()
        of_an_example = near.rpartition("\n")[2].lstrip("*_ ").lower().startswith("output")
        return asked and not asks_later and not ANNOUNCES_STEPS.search(near) and not of_an_example
    return asked


def _unwrap(text: str) -> str:
    """Without quotes, bold or a fence around the whole text, and without an opening quote that is never closed."""
    if fenced := TEXT_FENCE.fullmatch(text):
        text = fenced[1]
    if text.startswith(('"', "“")) and not re.search(r'["”]', text[1:]):
        text = text[1:]
    for mark in WRAPPERS:
        opening, closing = mark, {"“": "”"}.get(mark, mark)
        inside = text[len(opening) : -len(closing)]
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            text = inside if opening not in inside else text
    return text.strip()

"""Take the one problem out of a completion: whole and unharmed, or not at all.

A chat model greets, labels, lists several problems, solves the first one and says goodbye
(`crescent/synthesis/chatter.py`). What surrounds the problem is left out; nothing inside it is touched. Where the line
runs is decided by one idea, that a passage *asks*: it has a question mark, or a sentence that begins with a task (Find,
Calculate, Prove…).

- A further problem begins at the next label of the same kind (`Problem 2:`), or at item 2 of a list when the text
  begins with item 1 and both items ask by themselves. Numbered conditions or parts, of which only the end or the stem
  asks, are one problem.
- A solution comes after what it solves: `Answer:` ends a problem unless only what follows it asks.
- Prose that merely sounds like a solution (`Step 1:`, `To find…, we…`) ends a problem only if what comes before asks,
  does not announce steps, and nothing after it has a question mark.
- Code between fences is never read for any of this.

In doubt the text stays longer: a vote on a strange question finds no majority, a vote on half a question may.
"""

import re
import unicodedata
from collections.abc import Iterator
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

LONGEST = 20_000
"""Characters; a longer completion is no question, and is not searched for one."""
PASSES = 8
"""Wrapped once more than this, it is debris."""

KEPT_CONTROLS = ("\n", "\t")
WRAPPERS = ('"', "'", "“", "”", "**", "`")
FENCED = re.compile(r"^[ \t]{0,3}```.*?(?:^[ \t]{0,3}```|\Z)", re.M | re.S)
TEXT_FENCE = re.compile(r"```(?:text|markdown|md|plaintext)?[ \t]*+\n([^`]*+)```")


@dataclass(frozen=True)
class Extraction:
    """What was found in one completion."""

    text: str | None
    """The problem, as the model wrote it."""
    why: str = ""
    """Why there is none, in a few words."""
    dropped: int = 0
    """Further problems of the same completion, left out."""


def extract_question(completion: Completion, min_characters: int) -> Extraction:
    """The first problem of a completion, at least `min_characters` long.

    What comes out, read again, comes out the same. A text with a token of a chat template in it is no question: asked
    again, it would speak as another turn.
    """
    if completion.finish_reason != "stop":
        return Extraction(None, "cut at max_tokens" if completion.finish_reason == "length" else "refused")
    if len(completion.text) > LONGEST:
        return Extraction(None, "too long")
    visible = "".join(map(_visible, completion.text.replace("\r\n", "\n"))).strip()
    if CHAT_TOKEN.search(visible):
        return Extraction(None, "chat-template token")
    text, dropped = _without_thoughts(visible), 0
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


def _without_thoughts(text: str) -> str:
    """Without `<think>…</think>`, whose first half some chat templates write themselves. Unclosed, all is thought."""
    *closed, rest = text.split("</think>")
    if "<think>" in rest:
        return ""
    return "\n".join([*(its.partition("<think>")[0] for its in closed if "<think>" in its), rest]).strip()


def _without_opening(text: str) -> tuple[str, str]:
    """Without chatter and labels before the problem, and the noun of the last label (`problem`), if there was one."""
    noun, start = "", 0
    while start < len(text):
        found = next((its for pattern in (TITLED_LABEL, LABEL, *OPENINGS) if (its := pattern.match(text, start))), None)
        if not found or found.end() == start:
            break
        noun = _noun(found) if found.re in LABELS else noun
        start = found.end()
    text = text[start:]
    if inside := BOLD_LABEL.match(text):
        return inside["bold"] + text[inside.end() :], inside["noun"].lower()
    return text, noun


def _first_problem(text: str, noun: str) -> tuple[str, int]:
    """The first of several problems, and how many others there are. `noun` is that of the label it had."""
    prose = _prose(text)
    labels = [*_labels(prose)]
    if noun:
        alike = [its for its in labels if _noun(its) == noun]
    else:
        alike = [its for its in labels if _begins_another(its) and asks(prose[: labels[0].start()])]
    if alike and text[: alike[0].start()].strip():
        return text[: alike[0].start()].strip(), len(alike)
    announced = ANNOUNCES_LIST.match(prose)
    for start in (0, announced.end()) if announced else (0,):
        items = _items(prose, start) or [*BULLET.finditer(prose, start)]
        if not items or items[0].start() != start:
            continue
        ends = [*(its.start() for its in items[1:]), len(text)]
        contents = [prose[its.end() : end] for its, end in zip(items[:2], ends, strict=False)]
        if _each_asks(contents) and (len(items) > 1 or items[0].re is ITEM):
            bold = items[0].re is ITEM and items[0]["mark"] == "**" and not items[0]["close"]
            item = text[items[0].end() : ends[0]].strip()
            return ITEM_TITLE.sub("", "**" + item if bold else item), len(items) - 1
    return text, 0


def _prose(text: str) -> str:
    """The text with fenced code made illegible, at equal length. An unclosed fence ends with the text."""
    return FENCED.sub(lambda its: "`" * len(its[0]), text)


def _labels(prose: str) -> Iterator[re.Match[str]]:
    """Labels at the beginning of a line, but the first line."""
    start = prose.find("\n") + 1
    while start:
        blank = prose[start : start + 1].isspace()
        if not blank and (found := next((its for kind in LABELS if (its := kind.match(prose, start))), None)):
            yield found
        start = prose.find("\n", start) + 1


def _noun(label: re.Match[str]) -> str:
    groups = label.groupdict()
    return (groups["noun"] or groups.get("numbered") or groups.get("alone") or "").lower()


def _begins_another(label: re.Match[str]) -> bool:
    """After a problem without a label: `Problem:` or `Problem 2:`. `Question:` and `Question 1:` belong to a stem."""
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
    """By itself and in the same way: `1. Find half of x. 2. What is x?` is one problem."""
    if any("?" in its for its in contents):
        return all("?" in its for its in contents)
    return all(asks(its.strip()) for its in contents)


def _without_closing(text: str) -> str:
    """Without what is said to the reader after the problem."""
    for pattern in (CLOSING, COMMENTARY, SEPARATOR):
        prose = _prose(text)
        asked = _asked(prose)
        for found in pattern.finditer(prose):
            start = found.start()
            certain = pattern is CLOSING or (asked <= start and (pattern is SEPARATOR or "?" not in prose[start:]))
            if certain and text[:start].strip():
                text = text[:start].strip()
                break
    return text


def _without_solution(text: str) -> str:
    """What comes before the first solution; empty if it begins with one."""
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
    """Where the first question mark or task ends; beyond the end if there is none."""
    task, mark = TASK.search(prose), prose.find("?")
    return min(task.end() if task else len(prose) + 1, mark + 1 if mark >= 0 else len(prose) + 1)


def _before_reasoning(prose: str, start: int) -> int:
    """GSM8K's `####` comes after a reasoning that nothing announces: the problem ends with the last line that asks, or
    with its options."""
    asked = max(prose.rfind("?", 0, start), 0) or _asked(prose)
    last = max([asked, *(its.start(1) for its in OPTION.finditer(prose, 0, start))])
    line_end = prose.find("\n", last)
    return line_end if 0 <= line_end < start else start


def _solves(found: re.Match[str], asked: bool, asks_later: bool) -> bool:
    """Whether a solution begins here, given whether what comes before asks, and what comes after."""
    before, rest = found.string[: found.start()], found.string[found.end() :]
    begins = not before or before.isspace()
    if found.re is SOLUTION:
        # `Answers:` may head the options of a question.
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
    """Without quotes, bold or a fence around the whole of it, and without a first quote that is never closed."""
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

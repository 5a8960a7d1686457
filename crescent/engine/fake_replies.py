"""What the fake model writes: it invents sums, as plain questions, with lettered options, or as programs to write, and
answers them as often right as its skill says.
"""

import random
import re

from crescent.records import Pair

SUM = re.compile(r"(\d+)\s*\+\s*(\d+)")
DIFFERENCE = re.compile(r"(\d+)\s*-\s*(\d+)")
OPTION = re.compile(r"^([A-D])\. (-?\d+)$", re.MULTILINE)
"""A lettered option that is a number."""
PROGRAM = re.compile(r"returns a \+ b \+ (\d+)")
"""What an invented program does."""
FUNCTION = re.compile(r"called `(\w+)`")
SLIPS = (-2, -1, 1, 2, 10)
"""Mistakes in a sum."""
TERSE = 8
"""Tokens from which the model says more than the answer."""
LIST = ("shopping", "travel", "cooking", "sports", "gardening", "money", "animals", "music")
"""Entries of every list that the fake model writes."""
SILENCE = "I would rather not say."


def reply(prompt: str, seed: int, temperature: float, skill: float, max_tokens: int = 512) -> str:
    """Completion of the fake model: an answer if the prompt contains a problem, else a new problem."""
    dice = random.Random(f"{seed}/{prompt}/{temperature}")
    if prompt.startswith("List "):
        return "\n".join(f"{number}. {name}" for number, name in enumerate(LIST, 1))
    program = PROGRAM.search(prompt)
    if "different calls" in prompt:
        return "\n".join(f"solve({dice.randrange(9)}, {dice.randrange(9)})" for _ in range(8))
    found = SUM.search(prompt) or DIFFERENCE.search(prompt)
    if "different" in prompt or (found is None and program is None):
        return invent(prompt, dice)
    silent, right = dice.random() < 0.05, dice.random() < skill
    slip = 0 if right else dice.choice(SLIPS)
    if silent:
        return SILENCE
    if program is not None:
        function = FUNCTION.search(prompt)
        name, last = function[1] if function else "solve", int(program[1]) + slip
        return f"```python\ndef {name}(a, b):\n    return a + b + {last}\n```"
    assert found is not None
    options = OPTION.findall(prompt)
    if options:
        return f"Let me see. {found[0]} gives\n#### {letter(options, str(result(found)), right, dice)}"
    answer = f"#### {result(found) + slip}"
    return answer if max_tokens <= TERSE else f"Let me see. {found[0]} gives\n{answer}"


def invent(prompt: str, dice: random.Random) -> str:
    """A new problem of the kind that the prompt asks for."""
    first, second = dice.randrange(40), dice.randrange(40)
    if PROGRAM.search(prompt) or "programming problem" in prompt:
        return f"Write a function of two integers a and b, each from 0 to {first}, that returns a + b + {second}."
    if OPTION.search(prompt) or "multiple-choice" in prompt:
        texts = [first + second, *(first + second + slip for slip in SLIPS[:3])]
        dice.shuffle(texts)
        options = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", texts, strict=True))
        return f"Which number of grams is {first} + {second} grams?\n{options}"
    return f"What is {first} + {second}?"


def letter(options: list[tuple[str, str]], truth: str, right: bool, dice: random.Random) -> str:
    """The letter of the right option, or of another one."""
    return dice.choice([name for name, text in options if (text == truth) is right] or ["A"])


def result(found: "re.Match[str]") -> int:
    """Value of a sum or difference."""
    return int(found[1]) + int(found[2]) * (1 if "+" in found[0] else -1)


def is_right(pair: Pair) -> bool:
    """Whether the answer of a pair is right."""
    program, found = PROGRAM.search(pair.prompt), SUM.search(pair.prompt)
    if program is not None:
        return f"return a + b + {program[1]}\n" in pair.completion
    if found is None:
        return False
    # The text of the chosen option, if there are options.
    options: dict[str | None, str] = dict(OPTION.findall(pair.prompt))
    return options.get(pair.final, pair.final) == str(result(found))

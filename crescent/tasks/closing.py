r"""The number a response ends on, where nothing marks its answer.

It stands in the last sentence that has one. Of several the last is usually meant, but not in "It takes 15 hours to
clean 45 rooms" or "They drive 4 * 45 = 180 miles in 4 hours": there the last one only says what the answer is about. In
the last sentences of GSM8K's reference solutions the last number is wrong 222 times in 8,766, what is chosen here 33
times.
"""

import re
from collections.abc import Iterator, Sequence

from crescent.tasks.equivalence import as_number
from crescent.tasks.numerals import CURRENCY, NOT_ABBREVIATED, amount, numbers

_NEAR = 60
"""Characters before a number that are looked at."""
_MOST = 100
"""Numbers of one sentence that are looked at, the last ones."""

# A number after these words, or directly after another number, says what the answer is about: "in 4 hours".
_PREPOSITIONS = frozenset(
    """
    in for after within during per every over at than with from by before until till between through among on as upon if
    when
    """.split()  # noqa: SIM905 - a page of quoted words
)
_DETERMINERS = frozenset(
    """
    the a an his her its their our your these those this that all each only just about another other first last next
    every of remaining original same
    """.split()  # noqa: SIM905 - a page of quoted words
)
_POINTING = frozenset(("the", "these", "those", "each", "every", "all", "other", "another", "<", ">", "≤", "≥"))
_OWNERS = frozenset(("his", "her", "their"))
# "It left him with 4": an answer. "She adds up to 12", too.
_BEFORE_WITH = frozenset(
    "left up remain remains remaining end ends ended leaving leaves him her them it us".split()  # noqa: SIM905
)
_BEFORE_TO = frozenset(("equal", "equals", "up", "comes", "amounts", "adds", "down"))
_NO_PURPOSE = frozenset(("find", "get", "have", "obtain", "give", "equal", "reach", "be", "the", "a", "his", "her"))
_LABELS = frozenset(
    """
    step steps part parts problem question exercise example equation equations eq. figure fig. section chapter theorem
    lemma method option formula
    """.split()  # noqa: SIM905 - a page of quoted words
)
_ABOUT_AFTER = re.compile(
    r"-(?:[a-zA-Z]|\Z)|(?:st|nd|rd|th)\b|(?:\s[a-z]{1,20})?\s(?:from\snow|ago|later|earlier)\b", re.IGNORECASE
)
_CLOCK = re.compile(r"(?<!\d)\d\d?:\Z")
_CLAUSE = re.compile(
    r"[,;]\s(?![\d$€£])|\b(?:so|then|but|which|leaving|therefore|thus|meaning|that)\b"
    r"|\band\b(?!\s(?:[\d$€£]|another|the))",
    re.IGNORECASE,
)
_SUBORDINATE = re.compile(
    r"\W{0,8}\b(?:if|when|since|as|because|for|after|while|given|out of|having|considering|with|in|at|by|of|from|once"
    r"|before|during|to)\b[^,]{0,300},\s",
    re.IGNORECASE,
)
_BECAUSE = re.compile(r"\s\(?(?:because|since)\b", re.IGNORECASE)
_UNKNOWN = re.compile(r"(?<![\w)}\])])\s?[a-zA-Z]\s?=\s?\Z")
_OPERAND = re.compile(rf"\s?[-+*/x×÷=]\s?[(]?{CURRENCY}?\d")
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*(:?)")
_NUMBERED = re.compile(r"\d{1,2}[.):]|.*:")  # "**Step 3:**" and "**3.**" number what follows
_DIGIT = re.compile("[0-9]")
_STOP = re.compile(rf"[.!?;]{NOT_ABBREVIATED}[\"')\]*_]{{0,3}}\s", re.IGNORECASE)
REMARK = re.compile(
    r"""[\s*_\#>(-]{0,8}(?:
        check | verification | verify(?:ing)? | to\s(?:check|verify) | double.?check | note | remember | p\.?s\.
      | explanation | because | here, | for\sexample | let\sme\sknow | i\shope | hope\sthis | feel\sfree
      | (?:this|that|it)\s(?:is\sbecause|assumes|accounts\sfor|includes|uses|comes\sfrom)
      | (?:this|that|it)\s(?:is|was)\s(?:calculated|based)
    )\b
    | \W{0,8}\d{1,2}[.)]\s{1,4}\Z   # the number of an item
    """,
    re.IGNORECASE | re.VERBOSE,
)


def closing_number(text: str) -> str | None:
    """The number that the text ends on; one in a remark ("Check: 5 + 7 = 12") only where there is no other."""
    number = number_outside_remarks(text)
    if number is not None:
        return number
    in_remarks = (found for sentence in _sentences_backwards(text) if (found := principal_number(sentence)))
    last = next(in_remarks, None)
    return amount(last) if last else None


def number_outside_remarks(text: str) -> str | None:
    """The number that the text ends on, without those in remarks."""
    for sentence in _sentences_backwards(text):
        if not REMARK.match(sentence) and (number := principal_number(sentence)):
            return amount(number)
    return None


def _sentences_backwards(text: str) -> Iterator[str]:
    """The sentences that have a digit, the last first."""
    end = len(text)
    while end > 0:
        start = text.rfind("\n", 0, end) + 1
        if _DIGIT.search(text, start, end):
            line = text[start:end]
            stops = [0, *(stop.end() for stop in _STOP.finditer(line)), len(line)]
            for first, last in zip(reversed(stops[:-1]), reversed(stops[1:]), strict=True):
                yield line[first:last]
        end = start - 1


def principal_number(sentence: str) -> re.Match[str] | None:
    """The number that a sentence is there to state."""
    found = numbers(sentence)[-_MOST:]
    if len(found) > 1 or (found and found[0].start() > 4):
        found = [number for number in found if _last_word(sentence, number) not in _LABELS]
    if len(found) < 2:
        return found[0] if found else None
    if "**" in sentence:
        for bold in reversed([*_BOLD.finditer(sentence)]):
            inside = [number for number in found if bold.start() < number.start() < bold.end()]
            is_title = bold[2] or (_NUMBERED.fullmatch(bold[1]) and sentence[bold.end() :].strip(" .*"))
            if inside and not is_title:
                return _stated(sentence, inside)
    return _stated(sentence, _of_main_clause(sentence, found))


def _before(sentence: str, number: re.Match[str]) -> str:
    return sentence[max(0, number.start() - _NEAR) : number.start()]


def _last_word(sentence: str, number: re.Match[str]) -> str:
    words = sentence[max(0, number.start() - 20) : number.start()].lower().rstrip(" #(").rsplit(None, 1)
    return words[-1].strip("*_") if words else ""


def _of_main_clause(sentence: str, found: list[re.Match[str]]) -> list[re.Match[str]]:
    """Without the numbers of a leading "If 4 of them leave, …", in brackets, and of a reason that computes nothing."""
    start = 0
    while (leading := _SUBORDINATE.match(sentence, start)) and found[-1].start() >= leading.end():
        start = leading.end()
    found = [number for number in found if number.start() >= start]
    if "(" in sentence:
        depths = [sentence.count("(", 0, number.start()) - sentence.count(")", 0, number.start()) for number in found]
        found = [number for number, depth in zip(found, depths, strict=True) if depth <= 0] or found
    because = _BECAUSE.search(sentence, found[0].end())
    if because is None:
        return found
    main = [number for number in found if number.end() <= because.start()]
    reasons = [number for number in found if number.start() >= because.end()]
    has_result = any(_before(sentence, number).rstrip().endswith("=") for number in reasons)
    if main and has_result and not {_value(number) for number in main} & {_value(number) for number in reasons}:
        return reasons
    return main or found


def _value(number: re.Match[str]) -> object:
    return as_number(amount(number))


def _stated(sentence: str, found: list[re.Match[str]]) -> re.Match[str]:
    """The result of the last computation, unless a later clause goes on; else the last number that is not about it."""
    result: re.Match[str] | None = None
    free: list[re.Match[str]] = []
    previous: re.Match[str] | None = None
    was_about = False
    for number in found:
        before = _before(sentence, number)
        if before.rstrip().endswith("=") and not _OPERAND.match(sentence, number.end()):
            is_about = False
            # "With $x = 3$ a day they need 7 days": a value that is given to an unknown is no result.
            result = result if _UNKNOWN.search(before) else number
        elif (
            (previous is not None and sentence[previous.end() : number.start()] == " ")
            or _ABOUT_AFTER.match(sentence, number.end())
            or before.endswith("#")
            or (_CLOCK.search(before) and len(number[0]) == 2)
        ):  # "2 $10 bills"
            is_about = True
        else:
            words = before.lower().split()[-5:] if before.endswith(" ") else []
            is_listed = was_about and bool(words) and (words[-1] in ("and", "or") or words[-1].endswith(","))
            is_about = is_listed or _says_what_about(words, is_money=re.match(CURRENCY, number[0]) is not None)
            if not is_about and free and _says_what_for(words):
                is_about = not _goes_on(sentence, free[-1].end(), number)
        if not is_about:
            free.append(number)
        previous, was_about = number, is_about
    if result is not None:
        later = [number for number in free if number.start() > result.start()]
        return later[-1] if later and _goes_on(sentence, result.end(), later[-1]) else result
    if free:
        return free[-1]
    labelled = [number for number in found if _before(sentence, number).endswith("#")]  # "horse #12 wins in 5"
    return labelled[-1] if labelled else found[-1]


def _says_what_about(words: Sequence[str], is_money: bool) -> bool:
    """Whether the words before a number end like "in the next", "each of the", "than" or "20% of"."""
    if not words:
        return False
    place = len(words) - 1
    while place > 0 and len(words) - 1 - place < 3 and (words[place] in _DETERMINERS or words[place].endswith("ing")):
        place -= 1
    word = words[place]
    if word in _PREPOSITIONS:
        is_rest = word == "with" and not _BEFORE_WITH.isdisjoint(words[max(0, place - 2) : place])
        return not is_rest and not (word == "for" and is_money)  # "It sells for $12": a price is an answer.
    last, before_last = words[-1], words[-2] if len(words) > 1 else ""
    return (
        last in _POINTING or (last in _OWNERS and before_last == "of") or (last == "of" and before_last.endswith("%"))
    )


def _says_what_for(words: Sequence[str]) -> bool:
    """Whether the words before a number end like "to clean", "to get down to" or "to the"."""
    for place in range(len(words) - 1, max(-1, len(words) - 5), -1):
        if words[place] == "to":
            following = words[place + 1] if place + 1 < len(words) else ""
            if following and following not in _NO_PURPOSE:
                return True
            is_end = place == len(words) - 1 or (place == len(words) - 2 and following in ("the", "a", "his", "her"))
            return is_end and not (place > 0 and words[place - 1] in _BEFORE_TO)
    return False


def _goes_on(sentence: str, start: int, number: re.Match[str]) -> bool:
    """Whether a new clause begins between a place and a number."""
    return _CLAUSE.search(sentence, start, number.start() + 1) is not None

r"""Leave out what a model only thinks: nothing in a thought is an answer, a question or a program.

The tags are those of open reasoning models: `<think>` (DeepSeek-R1, Qwen3), `<thinking>`, `<thought>`, `<reasoning>`,
`<seed:think>` (Seed-OSS), `[THINK]` (Magistral), `◁think▷` (Kimi-VL), `<|begin_of_thought|>` (OpenThinker),
`<|START_THINKING|>` (Command A), `<|inner_prefix|>` (Apertus), `<unused94>thought` (MedGemma), `<|channel>thought`
(Gemma 4), the channels of gpt-oss with and without their special tokens, and the two headings of Granite 3.
"""

import re
from bisect import bisect

_WORD = (
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|scratch_?pad|analysis|(?:inner_)?monologue"
    r"|chain_of_thought|cot)"
)
# Quantifiers are counted: a megabyte of "<" is read at once.
_TAG = re.compile(
    rf"""(?:<|&lt;)(?P<closed>\\?/\s?|\\|end_(?:of_)?)?(?!no[_-])(?:ant|[a-z]{{1,12}}[:_-])?{_WORD}(?:_[a-z]{{1,12}})?
      (?:\s[^<>\n]{{0,80}})?(?:>|&gt;)
    | \[(?P<closed_bracket>/)?(?-i:THINK(?:ING)?|THOUGHTS?|REASONING)\]
    | ◁(?P<closed_triangle>/)?think▷
    | <[|｜](?P<closed_token>/|end[_▁](?:of[_▁])?)?(?:(?:begin|start)[_▁](?:of[_▁])?)?
      (?:think(?:ing)?|thoughts?|reasoning)[|｜]>
    | <\|inner_(?:prefix|(?P<closed_inner>suffix))\|>
    | <unused94>thought | (?P<closed_unused><unused95>)
    | <\|channel>thought | (?P<closed_channel><channel\|>)""",
    re.IGNORECASE | re.VERBOSE,
)
_TAG_WORDS = (
    *("think", "thought", "reason", "reflect", "scratch", "analysis", "monologue", "cot>", "<|inner_", "<unused9"),
    *("channel>thought", "<channel|>"),
)
_BRACKET = re.compile("[<\\[◁&]")
_FENCE = re.compile(r"^[ \t]{0,3}```", re.MULTILINE)
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}

# gpt-oss: <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…
_CHANNEL = "<|channel|>"
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s{0,4}final\b[^<]{0,80}(?:<\|constrain\|>[^<]{0,80})?<\|message\|>")
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|start|call|channel)\|>")
# Headings instead of tags: how the thought begins, and what ends it. The first pair is gpt-oss without special tokens.
_HEADINGS = (
    (re.compile(r"\s{0,4}analysis(?=[A-Z])"), re.compile("assistantfinal")),
    (
        re.compile(r"\s{0,4}here(?:'s| is) my thought process:", re.IGNORECASE),
        re.compile(r"here(?:'s| is) my response:", re.IGNORECASE),
    ),
)


def without_thoughts(text: str) -> str:
    """What is said outside of all thoughts; empty when the last thought was cut.

    A closing tag without an opening one ends a thought that the prompt's template opened. A tag in quotes, or in a
    string of a program, is only mentioned.
    """
    if _CHANNEL in text:
        text = _final_message(text)
    for thought, response in _HEADINGS:
        if thought.match(text):
            ends = [heading.end() for heading in response.finditer(text)]
            text = text[ends[-1] :] if ends else ""
    if not _may_have_tags(text):
        return text
    brackets = (_TAG.match(text, bracket.start()) for bracket in _BRACKET.finditer(text))
    tags = [tag for tag in brackets if tag is not None and not _is_mentioned(text, tag)]
    if tags and "```" in text:
        fences = [fence.start() for fence in _FENCE.finditer(text)]
        tags = [tag for tag in tags if bisect(fences, tag.start()) % 2 == 0 or not _is_in_string(text, tag)]
    if not tags:
        return text
    spoken: list[str] = []
    start, is_thought = 0, False
    for tag in tags:
        if tag.lastgroup is not None:  # It closes. What came before was thought, even where no tag opened it.
            start, is_thought = tag.end(), False
        elif not is_thought:
            spoken.append(text[start : tag.start()])
            is_thought = True
    return "" if is_thought else "\n".join([*spoken, text[start:]]).strip()


def _may_have_tags(text: str) -> bool:
    """A quick look: most responses have no brackets, or no such word, and need no search."""
    if "<" not in text and "[" not in text and "◁" not in text and "&lt;" not in text:
        return False
    lowered = text.lower()
    return any(word in lowered for word in _TAG_WORDS)


def _final_message(text: str) -> str:
    """The last message of the channel `final`; empty without one: the model was cut while it thought."""
    starts = [channel.end() for channel in _FINAL_CHANNEL.finditer(text)]
    if not starts:
        return ""
    end = _END_OF_MESSAGE.search(text, starts[-1])
    return text[starts[-1] : end.start() if end else len(text)].strip()


def _is_mentioned(text: str, tag: re.Match[str]) -> bool:
    """Whether it stands directly between two quotes: "`<think>` tags"."""
    before, after = text[max(0, tag.start() - 2) : tag.start()], text[tag.end() : tag.end() + 1]
    return bool(after) and _QUOTES.get(before[-1:]) == after and before != "``"  # "``" ends a fence


def _is_in_string(text: str, tag: re.Match[str]) -> bool:
    """Whether a quote is open before it on its line, and closed after it."""
    before = text[max(0, tag.start() - 200) : tag.start()].rpartition("\n")[2]
    after = text[tag.end() : tag.end() + 200].partition("\n")[0]
    return any(before.count(quote) % 2 == 1 and quote in after for quote in "\"'")

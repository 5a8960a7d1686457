r"""One spelling for final answers: characters, spaces and LaTeX dressing that change nothing about what they mean.

After `strip_string` of the MATH benchmark (github.com/hendrycks/math, math_equivalence.py), without what that drops too
much of: units and left sides are `crescent.tasks.equivalence`'s business.
"""

import re
from functools import lru_cache

_FULLWIDTH = {0xFF01 + index: 0x21 + index for index in range(94)} | {0x3000: 0x20}
# All spaces that group digits become the thin one, so that "see 1 234" keeps its two numbers.
SPELLING = str.maketrans({"−": "-", "–": "-", "‐": "-", "‑": "-", "\u00a0": "\u2009", "\u202f": "\u2009"} | _FULLWIDTH)
"""One character for each family of characters that look alike."""

_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho _ sigma tau upsilon"
_GREEK += " phi chi psi omega"
_CAPITALS = {"Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi"}
_LETTERS = {chr(0x3B1 + index): name for index, name in enumerate(_GREEK.split()) if name != "_"}
_LETTERS |= _CAPITALS | {"Ψ": "Psi", "Ω": "Omega", "∆": "Delta", "ϕ": "phi"}
_SYMBOLS = {"√": "sqrt", "∞": "infty", "±": "pm", "∓": "mp", "≤": "le", "≥": "ge", "≠": "ne", "≈": "approx", "∪": "cup"}
_SYMBOLS |= {"∩": "cap", "∈": "in", "∅": "emptyset", "…": "ldots", "≡": "equiv", "→": "to", "∫": "int", "∑": "sum"}
_SYMBOLS |= {"∏": "prod", "⌊": "lfloor", "⌋": "rfloor", "⌈": "lceil", "⌉": "rceil", "⟨": "langle", "⟩": "rangle"}
_SYMBOLS |= {"≦": "le", "≧": "ge", "⩽": "le", "⩾": "ge", "∖": "setminus", "°": "degree", "º": "degree", "∘": "circ"}
_FRACTIONS = {
    "½": 12,
    "⅓": 13,
    "⅔": 23,
    "¼": 14,
    "¾": 34,
    "⅕": 15,
    "⅖": 25,
    "⅗": 35,
    "⅘": 45,
    "⅙": 16,
    "⅚": 56,
    "⅛": 18,
}
_FRACTIONS |= {"⅜": 38, "⅝": 58, "⅞": 78, "⅐": 17, "⅑": 19}
_CHARACTERS = str.maketrans(
    {character: f"\\{name} " for character, name in (_LETTERS | _SYMBOLS).items()}
    | {character: rf"\frac{{{parts // 10}}}{{{parts % 10}}}" for character, parts in _FRACTIONS.items()}
    | {"×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "∕": "/", "⁄": "/", "ℝ": r"\mathbb{R}", "∣": "|"}
    | {"′": "'", "’": "'", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "∨": r"\lor ", "∧": r"\land "}
)
_UNITS = str.maketrans(dict.fromkeys("$%€£¥₹₩¢`", None))
_RAISED = {"⁰": "0", "¹": "1", "²": "2", "³": "3", "⁺": "+", "⁻": "-", "⁽": "(", "⁾": ")", "ⁿ": "n", "ⁱ": "i"}
_RAISED |= {chr(0x2074 + index): str(4 + index) for index in range(6)}
_LOWERED = {chr(0x2080 + index): str(index) for index in range(10)} | {"ₙ": "n", "ᵢ": "i", "ₖ": "k"}
_RAISED_RUN = re.compile(rf"[{''.join(_RAISED)}]+")
_LOWERED_RUN = re.compile(rf"[{''.join(_LOWERED)}]+")
_INVISIBLE = re.compile("[\u200b-\u200f\u2060-\u2064\ufeff\u00ad]")

_SYNONYMS = {
    r"dfrac|tfrac|cfrac|nicefrac|sfrac": "frac",
    r"dbinom|tbinom": "binom",
    r"leq|leqslant|leqq": "le",
    r"geq|geqslant|geqq": "ge",
    r"neq": "ne",
    r"varnothing": "emptyset",
    r"infin": "infty",
    r"approxeq|simeq": "approx",
    r"dots|dotsc|dotsb|cdots": "ldots",
    r"rightarrow|longrightarrow": "to",
    r"lg": "log",
    r"textdegree": "degree",
    r"vee": "lor",
    r"wedge": "land",
    r"varphi": "phi",
    r"varepsilon": "epsilon",
    r"vartheta": "theta",
    r"textnormal|textbf|textit|textrm|textsf|texttt|mathrm|mathit|mathsf|mbox|hbox|operatorname\*?": "text",
}
_SYNONYM = {name: f"\\{best}" for names, best in _SYNONYMS.items() for name in names.replace("\\*?", "").split("|")}
_REPLACED = {"times": "*", "cdot": "*", "ast": "*", "div": "/", "lt": "<", "gt": ">", "colon": ":", "mid": "|"}
_REPLACED |= {"vert": "|", "lvert": "|", "rvert": "|", "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]"}
_REPLACED |= {"quad": " ", "qquad": " ", "space": " "}
_REPLACED |= {
    "prime": "'",
    "enspace": " ",
    "thinspace": " ",
    "therefore": " ",
    "bf": "",
    "rm": "",
    "it": "",
    "not": r"\not",
}
_SIZES = "left|right|[bB]igg?[lrm]?|middle|displaystyle|textstyle|limits|nolimits|nonumber"
_SIZE = re.compile(rf"\\(?:{_SIZES})(?![a-zA-Z])\s*(?:(?<=t)\.)?")
_COMMAND = re.compile(r"\\\\|\\([a-zA-Z]+)\*?\s*")
_GROUPING = re.compile(r"(?<=\d)(?:\{,\}\s*|,\s*\\!\s*|\\,|\u2009)(?=\d{3}(?!\d))")
_DEGREE = re.compile(r"\^\s*\{?\s*(?:\\circ|\\degree)\s*\}?|\\degree\b", re.ASCII)
_SPACE = re.compile(r"(?<!\\)\\[,;:> ]|~|\s+")
_DELIMITER = re.compile(r"(?<!\\)\\[$%()\[\]!]")
_PLAIN_STYLE = re.compile(
    r"\\(?:mathbf|boldsymbol|bm|underline|text(?:bf|it)?|mathrm)\s?\{([^a-zA-Z{}\\]*\d[^a-zA-Z{}\\]*)\}"
)
_COLOUR = re.compile(r"\\(?:text)?color\s?\{[a-zA-Z]+\}|\\(?:tag|label|phantom|hspace)\*?\s?\{[^{}]*\}")
_INFIX = re.compile(r"\{([^{}]*)\\(over|choose)(?![a-zA-Z])([^{}]*)\}")
_RAISED_HTML = re.compile(r"<su([pb])>([^<>]*)</su[pb]>")
_WRAPPED = re.compile(r"\s*(?:\\boxed|\\fbox|\\displaystyle)\s*\{(.*)\}\s*", re.DOTALL)
_TEXT = re.compile(r"\\text\s*(?:\{((?:[^{}]|\{[^{}]*\})*)\}|([a-zA-Z])(?![a-zA-Z]))")


@lru_cache(maxsize=8192)
def clean(text: str) -> str:
    r"""One spelling per character, command and space; sizes, delimiters, markdown, percent and currency signs go.

    `\mathrm`, `\textbf` and the like become `\text`; `{,}` and thin spaces that group digits go; a degree sign is
    `\degree `.
    """
    if "<su" in text:
        text = _RAISED_HTML.sub(lambda part: ("^{" if part[1] == "p" else "_{") + part[2] + "}", text)
    text = text.translate(SPELLING).replace("...", "…").lstrip(" \n\t*_`").rstrip(" \n\t*_`.,;:")
    if not text.isascii():
        text = _plain_characters(text)
    has_commands = any(sign in text for sign in "\\~{")
    text = _plain_commands(text) if has_commands else " ".join(text.split())
    if " x " in text:
        text = re.sub(r"(?<=\d) x (?=-?\d)", "*", text)  # 3 x 5
    text = text.translate(_UNITS).replace("**", "^").replace("+/-", r"\pm ").strip(" =")
    text = _exactly(text) if r"\approx" in text else text
    if "mod" in text:
        text = re.sub(r"\(? ?\\?\b[pb]?mod(?:ulo)? ?\{? ?(\d+) ?\}? ?\)?", r" \\pmod{\1}", text).strip()
    text = re.sub(r"(?<=[a-z]) in (?=[\[({\\])", r" \\in ", text) if " in " in text else text
    return text.rstrip(".,;: ") if text[-1:] in tuple(".,;: ") else text


def _exactly(text: str) -> str:
    r"""Of `\sqrt{5} \approx 2.236` the exact side; of `x \approx 2.236` what x is said to be."""
    left, right = text.split(r"\approx", 1)
    has_value = re.search(r"\d|\\pi", left) is not None and r"\approx" not in right
    return left.strip() if has_value else text.replace(r"\approx", "=").strip(" =")


def _plain_characters(text: str) -> str:
    text = _INVISIBLE.sub("", text)
    text = _RAISED_RUN.sub(lambda run: f"^{{{''.join(_RAISED[character] for character in run[0])}}}", text)
    text = _LOWERED_RUN.sub(lambda run: f"_{{{''.join(_LOWERED[character] for character in run[0])}}}", text)
    return text.translate(_CHARACTERS)


def _plain_commands(text: str) -> str:
    runs = re.findall(r"\\+", text)
    if runs and all(len(run) % 2 == 0 for run in runs) and re.search(r"\\\\[a-zA-Z{}%$(!,]", text):
        text = text.replace("\\\\", "\\")  # escaped twice: \\frac for \frac
    while (wrapped := _WRAPPED.fullmatch(text)) and is_balanced(wrapped[1]):
        text = wrapped[1]
    text = re.sub(r"(?<!\\)\\(?=[_*])", "", text)
    text = _COLOUR.sub("", _PLAIN_STYLE.sub(r"\1", text))
    text = _INFIX.sub(lambda part: rf"\{'frac' if part[2] == 'over' else 'binom'}{{{part[1]}}}{{{part[3]}}}", text)
    text = text.replace(r"\not=", r"\ne ").replace(r"\not\in", r"\notin")
    text = _DELIMITER.sub("", _GROUPING.sub("", text).replace(r"\!", "").replace("{:}", ":").replace("{=}", "="))
    text = _SPACE.sub(" ", _SIZE.sub(" ", text))
    text = _COMMAND.sub(_plain_command, text)
    if re.search(r"[=<>]|\\[lg]e(?![a-zA-Z])", text):  # between conditions; "p \\land q" is logic
        text = text.replace(r"\lor", " or ").replace(r"\land", " and ")
    text = re.sub(r"\\degree\s+[CF]\b", r"\\degree ", _DEGREE.sub(r"\\degree ", text))
    return " ".join(re.sub(r"\\mathbb ([A-Z])", r"\\mathbb{\1}", text).split())


def _plain_command(command: re.Match[str]) -> str:
    name = command[1]
    if name is None:
        return command[0]  # a new row of a matrix
    if name in _REPLACED:
        return _REPLACED[name]
    written = _SYNONYM.get(name, f"\\{name}")
    # A command in front of a letter keeps a space, in front of anything else it needs none.
    return written + " " if command.string[command.end() : command.end() + 1].isalpha() else written


def is_balanced(text: str) -> bool:
    """Whether each brace that closes was opened before."""
    depth = 0
    for token in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth < 0:
            return False
    return depth == 0


def without_text(text: str) -> str:
    r"""`\text{…}` gives way to what stands in it; the text is clean."""
    while r"\text" in text and (unwrapped := _TEXT.sub(lambda match: f" {match[1] or match[2] or ''} ", text)) != text:
        text = unwrapped
    return " ".join(text.split())

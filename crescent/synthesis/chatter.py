"""Patterns of what a chat model writes around a problem: greetings, labels, lists, solutions, goodbyes.

`crescent/synthesis/extraction.py` decides which of them count, and where. All run in linear time: quantifiers are
bounded or possessive (++), because a model can write ten thousand spaces.
"""

import re

# Tokens of the chat templates of Llama 3, Qwen, Phi (bars), DeepSeek (wide bars), Llama 2 and Mistral (INST), and
# Gemma (turn).
CHAT_TOKEN = re.compile(
    r"<[|｜][^|｜<>\s]{2,40}[|｜]>|</?s>|<</?SYS>>|\[/?INST\]|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
)

# ---- labels: `**Problem 2:**`, `### Question`. A label that opens in bold must close it. Without a colon, a label has
# a number or a line of its own.
KINDS = r"(?:(?:math(?:s|ematics|ematical)?|word|practice|sample|algebra|geometry)\s++){0,4}"
LABEL = re.compile(
    rf"""(?P<heading>\#++\s*+)?(?P<bold>\*++)?\s*+{KINDS}
    (?:
        (?P<noun>problem|question)(?:\s++statement)?\s*+(?(bold)(?::\s*+(?P=bold)|(?P=bold)\s*+:)|:)
      | (?P<numbered>problem|question|exercise|challenge|puzzle)\s*+\#?(?P<number>\d{{1,3}})
        (?(bold)\s*+[:.]?(?P=bold)\s*+:?|(?:(?:[ \t]*+[:.)]|[ ]++[-–—])(?=\s)|[ \t]*+(?:\Z|(?=\n))))
      | (?P<alone>problem|question)(?:\s++statement)?(?(bold)(?P=bold)|(?(heading)|(?!)))[ \t]*+(?=\n)
    )\s*+""",
    re.I | re.X,
)
TITLED_LABEL = re.compile(
    rf"(?:#++\s*+(?:\*\*\s*+)?|\*\*\s*+){KINDS}(?P<noun>problem|question|exercise|challenge|puzzle)\s*+\d{{1,3}}\s*+[:.–—-]"
    r"[^\n*?.\d]{1,60}(?:\*\*:?)?[ \t]*+\n\s*+(?=\S)",
    re.I,
)
BOLD_LABEL = re.compile(
    rf"(?P<bold>\*++)\s*+{KINDS}(?P<noun>problem|question)(?:\s*+#?\d{{1,3}})?\s*+:\s*+(?=[^\s*])", re.I
)
LABELS = (TITLED_LABEL, LABEL, BOLD_LABEL)

# ---- before a problem: `Sure! Here's a problem for you:`. An announcement ends with its sentence or line.
ENDED = r"\s*+(?:(?(mark)[:.!]?(?P=mark):?|(?:[:!]++|\.(?!\.)))(?=\s|\Z)\s*+)"
OWN_LINE = r"[ \t]*+(?:(?(mark)[:.!]?(?P=mark):?|:)|[.!]?(?=\n|\Z))\s*+"
# Before `problem`, "of" may only be part of "an example of": "the number of problems" is no announcement.
WORDS = r"""(?:
    \s++(?:examples?|couple|list|set|series|collection|selection|few)\s++of
  | \s++(?!of\b)[^\s.:!?]++
    ){0,14}?\s++[*"]{0,3}"""
QUALITY = (
    "simple classic common basic typical good great easy fun new unique creative special diverse challenging related "
    "interesting possible sample high school level math mathematical word addition subtraction multiplication "
    "division arithmetic algebra geometry probability such example of a an"
).replace(" ", "|")
OTHER_NOUN = (
    "puzzle challenge exercise riddle task scenario example modification version variation few couple some one "
    "two three four five"
).replace(" ", "|")
# A bare calculation needs the words that make it a question: `A simple addition question: 2 + 3`.
WORDS_FOLLOW = r"(?=\Z|[^\n]{0,120}?[^\W\d_]{3,})"
ANNOUNCEMENT = rf"""(?P<mark>\*++)?(?:
    here(?:['’]s|\s++(?:is|are))(?:
        {WORDS}(?:problem|question)s?\b[^.:!?\n]{{0,160}}(?:{ENDED}|{OWN_LINE})
      | {WORDS}(?:{OTHER_NOUN})s?
          (?:\s++(?:for\s++you|of\s++(?:the|your|this)|to\s++(?:try|solve|consider|get))\b[^.:!?\n]{{0,80}})?
          (?![.]\s*+\S)(?:{ENDED}|{OWN_LINE})
      )
  | here\s++(?:it\s++is|they\s++are|you\s++go)(?:{ENDED}|{OWN_LINE})
  | the\s++problem\s++is\s*+:\s*+{WORDS_FOLLOW}
  | (?:an?|one|the)\s++(?:(?:{QUALITY}),?\s++){{0,9}}(?:problem|question)\s*+
      (?:(?:is|are|(?:c|w)ould\s++be|(?:can|might)\s++be)\s*+:|(?<!the\sproblem):)\s*+{WORDS_FOLLOW}
  | I(?:['’]d|['’]m|\s++would|\s++am)\s++(?:be\s++)?(?:more\s++than\s++)?(?:happy|glad|delighted|love)\s++to\s++
      (?:help|assist|create|provide|come|give|generate|write|make|share|craft)\b[^.:!?\n]{{0,160}}{ENDED}
  | (?:I(?:['’]ve|['’]ll|\s++(?:have|will|can))|let(?:['’]s|\s++me|\s++us))\s++(?:just\s++)?
      (?:creat|come\s++up|came\s++up|craft|design|generat|provid|writ|prepar|consider|try|mak|start)
      [^.:!?\n]{{0,120}}\b(?:problem|question)s?\b[^.:!?\n]{{0,160}}{OWN_LINE}
)"""
SURE = (
    r"(?:sure(?:\s++thing)?|certainly|of\s++course|absolutely|definitely|okay|ok|alright|great|got\s++it|"
    r"no\s++problem)"
)
OPENINGS = tuple(
    re.compile(pattern, re.I | re.X)
    for pattern in (
        rf"{SURE}(?:[!.]++|[,:]|[ ]?[-–—])?+\s*+(?={ANNOUNCEMENT})",
        rf"{SURE}(?:!++|\.++|:)(?=\s|\Z)\s*+",
        ANNOUNCEMENT,
    )
)
ANNOUNCES_LIST = re.compile(
    r"[^\n.?!:\d]{0,240}\b(?:problems|questions|exercises|examples|scenarios|puzzles)\b[^\n.?!:\d]{0,240}:[*_]*+\s*+",
    re.I,
)

# ---- lists of problems
ITEM = re.compile(
    r"""(?:^[ \t]{0,3}(?P<mark>[*\#_]{0,4})[ \t]?|(?<=[.?!])[ ])
    (?P<style>\(?)(?P<number>\d{1,3})(?P<end>[.)]|:(?=\s))(?P<close>[*_]{0,3})(?=\s)\s*+""",
    re.M | re.X,
)
BULLET = re.compile(r"^[-*•] ++(?=\S)", re.M)
ITEM_TITLE = re.compile(r"\A\*\*[^*\n?\d]{1,60}(?::\*\*|\*\*:|\*\*(?=[ \t]*+\n))\s*+(?=\S)")

# ---- how a passage asks for something
TASK_VERB = "find|calculate|determine|compute|evaluate|simplify|prove|solve"
FIRST_VERB = (
    TASK_VERB + "|show|express|estimate|convert|factor|expand|write|explain|identify|choose|select|round|derive"
    "|differentiate|integrate|implement|complete"
)
TASK = re.compile(
    rf"""(?:\A|[.:!;\n]\s{{0,4}})[*"(]{{0,3}}(?:(?:please|then|now|next|finally),?\s{{1,2}})?(?:{FIRST_VERB})\b
    | ,\s{{1,2}}(?:please\s|then\s|and\s)?(?:{TASK_VERB})\b""",
    re.I | re.X,
)

# ---- after a problem
SENTENCE = r"(?:^|(?<=[.?!)*\"”])[ ]++)[*_(]{0,3}"
CLOSING = re.compile(
    rf"""{SENTENCE}(?:
    (?:please\s)?let\sme\sknow\s(?:if|when|whether|how\syou|what\syou|your|in\scase|should)\b
  | (?:please\s)?feel\sfree\sto\s(?:ask|reach|let|request|share|modify|adjust|change|try|attempt|give\sit)\b
  | (?:I\s)?hope\s(?:this|that|it|these|you)\b
      (?=[^\n]{{0,60}}\b(?:help|enjoy|like|find|meet|fit|problem|question|challeng|useful))
  | would\syou\slike\s(?:
        me\b
      | to\s(?:see|know|hear|check|try\s(?:it|this|another|solving))\b
      | (?:the|an?|another|some|any|more)\b
          (?=[^\n?]{{0,40}}\b(?:solution|answer|hint|explanation|help|problem|question|walkthrough|one))
      )
  | do\syou\s(?:want|need)\s(?:
        me\sto | (?:the|an?|another|some|any|more)?\s?(?:solution|answer|hint|explanation|help))\b
  | (?:is\sthere\s)?anything\selse\s(?:I|you)\b
  | (?:good\sluck|have\sfun|enjoy|happy\s(?:solving|calculating|learning|problem[-\s]solving))
      (?:!|\.|,\s(?:and|have)|\s(?:with\s(?:this|the|your)|solving|on\s(?:this|your)|and\shave|the\schallenge))
  | I\s(?:can|could|will)\s(?:also\s)?(?:provide|show|walk|offer)\b
      (?=[^\n]{{0,60}}\b(?:solution|hint|steps?|explanation))
    )""",
    re.I | re.M | re.X,
)
COMMENTARY = re.compile(
    rf"""{SENTENCE}(?:
    (?:note[:*]{{0,3}}\s)?(?:that\s)?(?:this|the)\s(?:(?:math|word|above)\s){{0,3}}(?:problem|question)\s
      (?:requires|involves|tests|combines|challenges|encourages|assesses|incorporates|aims|can\sbe\ssolved
        |is\s(?:designed|unique|suitable|appropriate|special|intended|meant)|will\s(?:help|challenge))\b
  | this\sis\san?\s(?:classic|great|good|fun|challenging|creative|unique|simple|typical)\s
      (?:example|math|word|problem|question|puzzle)\b
    )""",
    re.I | re.M | re.X,
)
SEPARATOR = re.compile(r"(?:^|(?<=\n))[ \t]*+\n[ \t]{0,3}(?:-{3,}+|\*{3,}+|_{3,}+|={3,}+)[ \t]*+(?=\n[ \t]*+\n|\n?\Z)")

# ---- solutions
SOLUTION_NAME = (
    r"(?:(?:detailed|full|complete|final|correct|right|sample|model|suggested|expected|step[-\s]by[-\s]step|the)\s)"
    r"{0,3}(?:solution|answer)s?(?:\skey)?"
)
SOLUTION = re.compile(
    rf"""^[ \t>*_(\[\#-]*+{SOLUTION_NAME}[ \t]{{0,3}}(?::|[*_]{{1,3}}[ \t]{{0,3}}(?::|$)|$)
    | ^\#{{1,6}}[ \t]{{1,3}}{SOLUTION_NAME}\b[^\n]{{0,40}}$""",
    re.I | re.M | re.X,
)
INLINE_SOLUTION = re.compile(
    r"(?<=[.?!)*$\"”\]])[ \t]++[*_([]{0,4}(?:(?:Final|Correct) )?(?:Answer|Solution|ANSWER|SOLUTION)s?[*_]{0,3}:"
)
GSM8K_ANSWER = re.compile(
    r"^####[ \t]{0,3}(?:answer:?[ \t]{0,3})?[-+$]{0,2}\d[\d.,/]{0,30}[ \t]{0,3}%?[^\n?]{0,24}$", re.I | re.M
)
SOUNDS_LIKE_SOLUTION = re.compile(
    r"""^[ \t>*_\#-]*+(?:
    (?:step[-\s]by[-\s]step\s)?(?:explanation|rationale|reasoning|working|steps)[*_]{0,3}:
  | step\s(?:1|one)\b
  | the\s(?:correct\s|final\s|right\s)?answer\s(?:is|would\sbe|to\sthis)\b
  | here(?:['’]s|\sis|\sare)\s(?:the|a|how|one)\b
      (?=[^\n]{0,60}\b(?:solution|answer|solve|steps?|breakdown|explanation))
  | to\s(?:solve|find|determine|calculate|answer|figure)\b[^\n]{0,160}?,\s(?:we|you|I|let|one|first|start)\b
  | (?:first|we)(?:,\s(?:we|let|I|you))?\s(?:can|need\sto|must|have\sto|will|should)\s
      (?:find|calculate|solve|use|start|determine|set|add|subtract|multiply|divide|write|compute|figure)\b
  | let['’]?s\s(?:solve|break|think|start|begin|work|calculate|find|denote|use|first)\b
    )""",
    re.I | re.M | re.X,
)
ANNOUNCES_STEPS = re.compile(
    r":\s*+\Z|\b(?:steps?|following|follows|below|instructions?|procedure|rules?|these)\b[^\n]{0,40}\Z", re.I
)
OPTION = re.compile(r"^[ \t]*+[*_(]{0,3}([A-Ha-h])[.):]", re.M)

REFUSAL = re.compile(
    r"""(?:(?:however|but|unfortunately|sorry),?\s)?(?:
    (?:I(?:['’]m|\sam)\s(?:very\s|so\s)?sorry|sorry|I\sapologi[sz]e|unfortunately|as\san?\s(?:AI|language\smodel))\b
      (?=[^\n]{0,120}\b(?:I\s(?:can['’]?t|cannot|can\snot|don['’]t|do\snot)|unable|not\sable)\b)
  | I(?:\s(?:can['’]?t|cannot|can\snot)|['’]m\s(?:unable|not\sable)\sto|\sam\s(?:unable|not\sable)\sto)\s
      (?:help|assist|create|provide|fulfill|generate|write|come\sup)\b
    )""",
    re.I | re.X,
)

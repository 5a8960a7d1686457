"""Text of a model or a library, made harmless for a terminal."""

import unicodedata


def visible(text: str) -> str:
    """The text without characters that a terminal obeys or does not show: `\\x1b` instead of the escape character."""
    return "".join(
        character if _is_harmless(character) else character.encode("unicode_escape").decode() for character in text
    )


def visible_lines(text: str) -> str:
    """Like `visible`, with its line breaks and tabs kept."""
    return "\n".join(visible(line.expandtabs(4)) for line in text.replace("\r\n", "\n").split("\n"))


def _is_harmless(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"

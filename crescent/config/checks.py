"""Checks of settings, where they are declared: an error names the value, the rule and the fix."""

from enum import Enum
from string import Formatter

from crescent.errors import BadConfig


class Choice(Enum):
    """An enum whose values are its names: YAML and code spell them the same."""


def require(holds: bool, key: str, value: object, rule: str, fix: str = "") -> None:
    """Raise `BadConfig` that names the value, the rule and the fix, unless `holds`."""
    if not holds:
        raise BadConfig(f"{key}={value}: {rule}" + (f"; {fix}" if fix else ""))


def require_fields(template: str, key: str, *names: str) -> None:
    """Check that a template has exactly these fields, each as `{name}`."""
    try:
        found = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise BadConfig(f"{key}={template!r}: {error}; write literal braces twice: {{{{ and }}}}") from error
    wanted = " and ".join("{" + name + "}" for name in names) or "no fields"
    require(found == set(names), key, repr(template), f"must contain {wanted}", "write literal braces twice: {{ and }}")


def fill(template: str, question: str) -> str:
    """A prompt template with the question in it. Braces in the question are plain text."""
    return template.format(question=question)

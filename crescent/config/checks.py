"""How a setting is checked where it is declared, and refused with its value, the rule and the way out."""

from enum import Enum
from string import Formatter

from crescent.errors import BadConfig


class Choice(Enum):
    """An enum whose values are its names: what is written in YAML is what is compared in code."""


def require(holds: bool, key: str, value: object, rule: str, way_out: str = "") -> None:
    """Raise `BadConfig` that names the value, the rule and the way out unless `holds`."""
    if not holds:
        raise BadConfig(f"{key}={value}: {rule}" + (f"; {way_out}" if way_out else ""))


def require_fields(template: str, key: str, *names: str) -> None:
    """Each of `names` must stand in the format string as `{name}`, and nothing else may."""
    try:
        found = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise BadConfig(f"{key}={template!r}: {error}; write literal braces twice: {{{{ and }}}}") from error
    wanted = " and ".join("{" + name + "}" for name in names) or "no fields"
    require(found == set(names), key, repr(template), f"must contain {wanted}", "write literal braces twice: {{ and }}")


def fill(template: str, question: str) -> str:
    """Put a question into a prompt template. The question is text: braces in it mean nothing."""
    return template.format(question=question)

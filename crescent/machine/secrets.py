"""Secrets are never uploaded or recorded: values that are named like one, look like one, or are one of this process's
environment."""

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "(hidden)"
"""What a secret is replaced with."""
NAMED = re.compile(r"(^|_)(api_?key|key|token|secret|password|passwd|credentials?|authorization)$", re.IGNORECASE)
"""Matches names of settings and environment variables that hold secrets."""
LOOKS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[oprsu]_[A-Za-z0-9]{16,}|glpat-[\w-]{16,}|AKIA[A-Z0-9]{12,}"
    r"|xox[abp]-[\w-]{10,}|wandb_v1_\w{16,}|eyJ[\w-]{10,}\.[\w-]+\.[\w-]+)|[Bb]earer\s+\S{8,}|(?<=://)[^\s\"']+(?=@[^\s@])"
)
"""Matches keys by the prefixes of their issuers, and all before the last `@` of a URL: user and password, whatever
characters they have."""
HEX = re.compile(r"\b[0-9a-f]{40}\b")
"""Matches W&B's older keys, but also git revisions."""
REVISIONS = ("revision", "commit", "digest", "sha256")
"""Names of settings in which forty hexadecimal digits are no key."""


def without_secrets(value: Any, name: str = "") -> Any:
    """A copy of nested settings in which secrets are replaced.

    Args:
        name: Name of the setting that `value` belongs to.
    """
    return _without(value, name, _environment())


def censored(text: str) -> str:
    """A message without secrets. Forty hexadecimal digits stay, because they may be the revision it is about."""
    return str(_without(text, REVISIONS[0], _environment()))


def _environment() -> tuple[str, ...]:
    """Values of variables that are named like secrets. Short values are left out: they occur in any text."""
    return tuple(value for name, value in os.environ.items() if NAMED.search(name) and len(value) >= 8)


def _without(value: Any, name: str, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(part, str(key), secrets) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without(part, name, secrets) for part in value]
    if not isinstance(value, str):
        return value
    if NAMED.search(name):
        return HIDDEN
    for secret in secrets:
        value = value.replace(secret, HIDDEN)
    value = LOOKS.sub(HIDDEN, value)
    return value if name in REVISIONS else HEX.sub(HIDDEN, value)

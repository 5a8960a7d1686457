"""What no tracker is told: whatever is named like a secret, looks like one, or is one of this process' environment."""

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "(not told)"
NAMED = re.compile(r"(^|_)(api_?key|key|token|secret|password|passwd|credentials?|authorization)$", re.IGNORECASE)
"""Names of settings, or of environment variables, that hold secrets."""
LOOKS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[oprsu]_[A-Za-z0-9]{16,}|glpat-[\w-]{16,}|AKIA[A-Z0-9]{12,}"
    r"|xox[abp]-[\w-]{10,}|wandb_v1_\w{16,}|eyJ[\w-]{10,}\.[\w-]+\.[\w-]+)|[Bb]earer\s+\S{8,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
"""Keys by the prefixes their issuers gave them, and the user and password of an address."""
HEX = re.compile(r"\b[0-9a-f]{40}\b")
"""W&B's older keys; a git revision looks the same."""
REVISIONS = ("revision", "commit", "digest", "sha256")


def without_secrets(value: Any, name: str = "") -> Any:
    """A copy of nested settings, in which secrets are replaced."""
    return _without(value, name, _environment())


def _environment() -> tuple[str, ...]:
    """The values of variables that are named like secrets; one of a few letters would be found in any text."""
    return tuple(its for name, its in os.environ.items() if NAMED.search(name) and len(its) >= 8)


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

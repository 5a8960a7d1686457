"""What makes two model folders the same model: the files that are loaded, and no others."""

import hashlib
from fnmatch import fnmatch
from pathlib import Path

from crescent.models.model_folder import weight_files
from crescent.records import digest

LOADED = ("*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt")
"""Names of the files beside the weights that transformers and vLLM load: configurations, tokenizers, chat templates."""
TEMPLATES = "additional_chat_templates"
"""Folder of chat templates (https://huggingface.co/docs/transformers/main/en/chat_templating_writing)."""
READ_BY_PEOPLE = ("readme*", "license*", "licence*", "notice*", "requirements*", ".*")
"""Names, in lower case, of files that people read."""
EDGE = 1 << 20
"""Bytes of a large file that are read at its beginning and at its end."""


def model_digest(folder: Path) -> str:
    """Digest of the files that are loaded from a model folder, by name and content.

    A model card, `.git`, `.cache` or weights in another format change nothing.

    Raises:
        Missing, BadConfig: as `weight_files`.
    """
    loaded = {*weight_files(folder), *_beside_the_weights(folder)}
    return digest([(path.relative_to(folder).as_posix(), *content(path)) for path in sorted(loaded)])


def _beside_the_weights(folder: Path) -> list[Path]:
    found = [path for pattern in LOADED for path in folder.glob(pattern)]
    found += folder.glob(f"{TEMPLATES}/*.jinja")
    return [path for path in found if path.is_file() and not _is_for_people(path.name)]


def _is_for_people(name: str) -> bool:
    return any(fnmatch(name.lower(), pattern) for pattern in READ_BY_PEOPLE)


def content(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file: of small ones all, of large ones beginning and end."""
    size = path.stat().st_size
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        hashed.update(file.read(EDGE))
        if size > EDGE:
            file.seek(max(EDGE, size - EDGE))
            hashed.update(file.read(EDGE))
    return size, hashed.hexdigest()


def folder_digest(folder: Path) -> str:
    """Digest of everything in a folder: the whole of small files; size, beginning and end of large ones."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest([(path.relative_to(folder).as_posix(), *content(path)) for path in paths])

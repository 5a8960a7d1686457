"""Files, modules and settings that the documentation and the code's prose name exist.

Prose means docs, docstrings and comments. A name that is wrong there fails no other test.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from crescent.config import Config

ROOT = Path(__file__).parent.parent
FOLDERS = ("benchmarks", "conf", "crescent", "docs", "eval", "examples", "launch", "tests", "train")
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "examples" / "README.md",
    ROOT / "tests" / "recorded" / "README.md",
]
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path != Path(__file__))
PRESETS = sorted((ROOT / "conf").rglob("*.yaml"))
OF_OTHERS = {"math_equivalence.py", "train.py", "trainer_jit_checkpoint.py"}
"""Python files that belong to other projects, or stand for any program."""

START = r"(?<![\w/.<>{}$*~-])"
PATH = re.compile(rf"{START}((?:{'|'.join(FOLDERS)})/[\w./-]*[\w/])")
FILE = re.compile(rf"{START}(\w+\.py)\b")
MODULE = re.compile(r"(?<![\w/.-])(crescent(?:\.[A-Za-z_]\w*)+)")
SETTING = re.compile(rf"{START}((?:{'|'.join(field.name for field in fields(Config))})(?:\.[a-z_]+)+)(?!\w|\()")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
STAGE_FOLDERS = ("eval", "train")
"""Folders of the code that are also names of stages: `eval/scores.json` is a file in a run folder."""


@cache
def text_of(path: Path) -> str:
    """Text of a file. The changelog without its older sections, which describe older code, and without the old name
    in `old` → `new`."""
    text = path.read_text()
    if path.name != "CHANGELOG.md":
        return text
    newest = "\n## ".join(text.split("\n## ")[:2])
    return re.sub(r"`[^`]+`\s+→", "→", newest)


@cache
def prose_of(path: Path) -> str:
    """Text of a page or preset; docstrings and comments of a Python file."""
    text = text_of(path)
    if path.suffix != ".py":
        return text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join(
        token.string
        for token in tokens
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and '"""' in token.string[:5])
    )


def missing(found: Iterator[tuple[Path, str]]) -> list[str]:
    """The wrong names, each with the file that contains it."""
    return sorted({f"{path.relative_to(ROOT)}: {name}" for path, name in found})


def unknown_paths(path: Path, text: str) -> Iterator[tuple[Path, str]]:
    for name in PATH.findall(text):
        is_ours = not name.startswith(STAGE_FOLDERS) or name.endswith((".py", ".yaml", ".md"))
        if is_ours and not (ROOT / name).exists():
            yield path, name


def test_every_path_that_is_named_exists() -> None:
    assert not missing(hit for path in [*PAGES, *SOURCES, *PRESETS] for hit in unknown_paths(path, text_of(path)))


def test_every_link_between_pages_leads_somewhere() -> None:
    links = [(page, link) for page in PAGES for link in LINK.findall(text_of(page))]
    assert links
    assert not missing((page, link) for page, link in links if not (page.parent / link).exists())


def is_near(name: str, path: Path) -> bool:
    """Whether a file's name, without a folder, is understood where it stands: the file lies in the same folder, or at
    the top of the package or of the tests. A page may name any file."""
    if path.suffix == ".md":
        return name in {source.name for source in SOURCES}
    return any((folder / name).exists() for folder in (path.parent, ROOT / "crescent", ROOT / "tests"))


def test_every_python_file_that_is_named_exists() -> None:
    named = [(path, name) for path in [*PAGES, *SOURCES, *PRESETS] for name in FILE.findall(prose_of(path))]
    assert len(named) > 30
    assert not missing((path, name) for path, name in named if name not in OF_OTHERS and not is_near(name, path))


Members = dict[str, "Members"]


def members(node: Any) -> Members:
    """Names that a module or class defines, each with the names that it defines itself."""
    found: Members = {}
    for part in node.body:
        match part:
            case ast.ClassDef():
                found[part.name] = members(part)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found[part.name] = {}
            case ast.Assign() | ast.AnnAssign():
                targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
                found |= {name: {} for name in names}
            case ast.Import() | ast.ImportFrom():
                found |= {(name.asname or name.name).split(".")[0]: {} for name in part.names}
            case ast.If() | ast.Try() | ast.With():
                found |= members(part)
    return found


@cache
def module_members(path: Path) -> Members:
    return members(ast.parse(path.read_text()))


def is_defined(name: str) -> bool:
    """Whether a dotted name is a package, a module, or something that a module defines."""
    folder, parts = ROOT, name.split(".")
    while parts and (folder / parts[0]).is_dir():
        folder = folder / parts.pop(0)
    module = folder / "__init__.py"
    if parts and (folder / f"{parts[0]}.py").exists():
        module = folder / f"{parts.pop(0)}.py"
    inside = module_members(module) if parts else {}
    for part in parts:
        if part not in inside:
            return False
        if not inside[part]:  # an import or a plain value: what it holds is not looked up
            return True
        inside = inside[part]
    return True


@pytest.mark.parametrize(
    ("name", "defined"),
    [
        ("crescent", True),
        ("crescent.synthesis", True),
        ("crescent.synthesis.bait", True),
        ("crescent.records.Proof", True),
        ("crescent.records.Proof.child", True),
        ("crescent.records.Proof.childs", False),
        ("crescent.verdict", False),
        ("crescent.judging.verdict.nothing", False),
    ],
)
def test_a_dotted_name_is_looked_up_in_the_code(name: str, defined: bool) -> None:
    assert is_defined(name) is defined


def test_every_dotted_name_of_the_package_exists() -> None:
    """In the whole text, because commands and `_target_` name modules in strings."""
    named = [(path, name) for path in [*PAGES, *SOURCES, *PRESETS] for name in MODULE.findall(text_of(path))]
    assert len(named) > 500
    assert not missing((path, name) for path, name in named if not is_defined(name))


def is_setting(name: str) -> bool:
    """Whether a dotted name is a setting of a run; below a setting that is a dict, any key is."""
    cfg: Any = Config
    for part in name.split("."):
        if not is_dataclass(cfg):
            return "dict" in str(cfg)
        hints = get_type_hints(cfg)
        if part not in hints:
            return False
        if get_origin(hints[part]) is dict:
            return True
        cfg = next((kind for kind in get_args(hints[part]) if is_dataclass(kind)), hints[part])
    return True


def test_every_setting_that_the_pages_name_exists() -> None:
    """`eval`, `launch` and `train` are settings and packages, so a module of that name is right as well."""
    is_file = re.compile(r"\.(jsonl?|md|py|safetensors|ya?ml)$")
    named = [(page, name) for page in PAGES for name in SETTING.findall(text_of(page)) if not is_file.search(name)]
    assert len(named) > 100
    assert not missing((page, name) for page, name in named if not is_setting(name) and not is_defined(name))

"""Flags that nobody has: other programs take `--seed 3`, ours takes `run.seed=3`, and says so in one line."""

import difflib
import itertools
import re
import shlex
from argparse import ArgumentError, ArgumentParser
from collections.abc import Iterator, Sequence

from crescent.config.unknown_settings import keys_of, nearest
from crescent.errors import BadConfig

CALLED = {
    **dict.fromkeys(("model", "base", "base_model", "model_name", "model_id", "model_name_or_path"), "model.path"),
    **dict.fromkeys(("experiment", "exp", "preset", "recipe"), "+experiment"),
    **dict.fromkeys(("output", "output_dir", "out", "out_dir", "save_dir", "runs"), "run.root"),
    **dict.fromkeys(("run_name", "experiment_name"), "run.name"),
    **dict.fromkeys(("num_rounds", "n_rounds", "iterations", "iters"), "run.rounds"),
    **dict.fromkeys(("lr", "learning_rate"), "train.learning_rate"),
    **dict.fromkeys(("batch_size", "train_batch_size"), "train.batch"),
    **dict.fromkeys(("num_epochs", "num_train_epochs"), "train.epochs"),
    **dict.fromkeys(("k", "num_samples", "n_samples"), "consensus.samples"),
    **dict.fromkeys(("num_questions", "n_questions"), "bait.questions"),
    **dict.fromkeys(("benchmark", "benchmarks", "task", "tasks"), "eval"),
    **dict.fromkeys(("gpus", "tp", "tensor_parallel_size"), "serving.tensor_parallel"),
    **dict.fromkeys(("url", "base_url", "api_base"), "serving.urls"),
    **dict.fromkeys(("wandb_project", "project"), "tracking.project"),
    "wandb": "tracking",
}
"""Flags of other programs, without dashes → the key of the setting here."""
WITHOUT_VALUE = {
    **dict.fromkeys(("plan", "dry_run", "dryrun"), "mode=plan"),
    **dict.fromkeys(("offline", "online"), "tracking=offline or tracking=online"),
    **dict.fromkeys(("sweep", "multi"), "-m (--multirun)"),
}
"""Flags of other programs that take no value → what does the same here."""
OURS = "the flags are --help, --version, --root FOLDER, --config-dir FOLDER, -m (a sweep) and --cfg job"


def refuse_flags(arguments: Sequence[str], parser: ArgumentParser, schema: type, groups: Sequence[str] = ()) -> None:
    """Refuse flags that Hydra does not have, before it prints how it is used.

    Args:
        arguments: Those of the command line, without flags of ours.
        parser: Hydra's own, which is changed.
        schema: Dataclass that declares the settings.
        groups: Names of the groups of `conf/`.

    Raises:
        BadConfig: there is one; the message says how the setting that was meant is written. Or a flag of Hydra has a
            value that it does not take, or none.
    """
    parser.exit_on_error = False
    parser.allow_abbrev = False
    known = list(parser._option_string_actions)
    try:
        beside = parser.parse_known_args(list(arguments))[1]
    except ArgumentError as error:
        raise BadConfig(f"{error}; {OURS}") from error
    unknown = [argument for argument in beside if argument.startswith("-") and not _is_number(argument)]
    if unknown:
        raise BadConfig("; ".join(_refused(unknown, arguments, known, schema, groups)))


def _refused(
    unknown: Sequence[str], arguments: Sequence[str], known: Sequence[str], schema: type, groups: Sequence[str]
) -> Iterator[str]:
    general = False
    for argument in unknown:
        flag, _, value = argument.partition("=")
        if not value:
            value = next((after for before, after in itertools.pairwise(arguments) if before == argument), "")
            is_value = bool(value) and "=" not in value and (not value.startswith("-") or _is_number(value))
            value = value if is_value else ""
        meant = right_form(flag, value, known, schema, groups)
        general = general or not meant
        yield f"{flag}: no such flag" + (f"; did you mean {meant}" if meant else "")
    yield "settings are written KEY=VALUE, without dashes" + (f", and {OURS}" if general else "")


def right_form(flag: str, value: str, known: Sequence[str], schema: type, groups: Sequence[str] = ()) -> str | None:
    """How what a flag was probably meant for is written: a setting with the flag's value, or a flag of Hydra.

    Args:
        value: Empty if the flag came without one.
        known: Flags of Hydra.
    """
    name = flag.strip("-").replace("-", "_")
    keys = keys_of(schema)
    if not value and name in WITHOUT_VALUE:
        return WITHOUT_VALUE[name]
    called = (CALLED.get(name, name), name)
    found = [key for key in called if key in keys or key.lstrip("+") in groups][:1]
    found = found or _ending_in(name, keys)
    if not found and (near := difflib.get_close_matches(flag, known, 1, 0.8)):
        return near[0]
    if not found and len(name) > 2:
        last = difflib.get_close_matches(name, {key.rpartition(".")[2] for key in keys}, 1, 0.8)
        found = _ending_in(last[0], keys) if last else [key.removesuffix("=…") for key in nearest(name, schema, groups)]
    return " or ".join(shlex.quote(f"{key}={value}") if value else f"{key}=…" for key in found[:2]) or None


def _ending_in(name: str, keys: Sequence[str]) -> list[str]:
    """The settings whose last part is `name`: that of the run alone, if it has one."""
    found = [key for key in keys if key.rpartition(".")[2] == name]
    return [key for key in found if key == f"run.{name}"] or found


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-\.?\d\S*", text) is not None

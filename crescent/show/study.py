"""What a study found, in a terminal or as Markdown."""

import io
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from crescent.config import Secondary
from crescent.judging.item_records import StudyRecords
from crescent.judging.seeds_and_items import Estimate
from crescent.judging.study import ContrastResult, ModelRow, StudyResult
from crescent.judging.wording import p_number, percent, percent_number, points_number, points_number_with_interval
from crescent.machine.inert_text import visible
from crescent.selection.arms import CAUTIONS
from crescent.show.compare import escaped, print_sheet
from crescent.show.texts import UNKNOWN, Sheet

LABELS = {
    Secondary.greedy: "greedy",
    Secondary.vote: "maj@k",
    Secondary.passed: "pass@k",
    Secondary.unparsed: "unparsed",
    Secondary.readable: "of readable",
    Secondary.wrong_in_form: "wrong in form",
    Secondary.likelihood: "likelihood",
}
LONGEST = 3
"""Missing parts that are listed for a contrast before they are only counted."""


def show_study(result: StudyResult, records: StudyRecords, console: Console) -> None:
    """Print the study: the decisions first."""
    for line in headline(result):
        console.print(Text(visible(line)), soft_wrap=True)
    for sheet in sheets(result, records):
        print_sheet(sheet, console)
    for line in notes(result):
        console.print(Text(visible(line)), soft_wrap=True)


def study_as_text(result: StudyResult, records: StudyRecords, width: int = 140) -> str:
    """What a terminal of this width shows."""
    text = io.StringIO()
    console = Console(file=text, width=width, markup=False, highlight=False, emoji=False, color_system=None)
    show_study(result, records, console)
    return text.getvalue()


def study_as_markdown(result: StudyResult, records: StudyRecords) -> str:
    """The same as Markdown, with tables in GitHub's form."""
    parts = ["\n".join(f"- {escaped(line)}" for line in headline(result))]
    for sheet in sheets(result, records):
        rule = ["---:" if column.startswith("|") else "---" for column in sheet.columns]
        rows = [[column.removeprefix("|") for column in sheet.columns], rule, *sheet.rows]
        lines = [f"| {' | '.join(map(escaped, row))} |" for row in rows]
        parts.append(f"### {escaped(sheet.title)}\n\n" + "\n".join(lines))
    parts.append("\n".join(f"- {escaped(line)}" for line in notes(result)))
    return "\n\n".join(parts) + "\n"


def headline(result: StudyResult) -> Iterator[str]:
    """The study in a few lines: what is claimed, measured and decided."""
    study = result.study
    yield f"study {study.name} ({study.digest})" + (f": {study.claim}" if study.claim else "")
    yield (
        f"measured: mean accuracy over {study.primary.samples} samples on {study.primary.items} items of "
        f"{study.primary.benchmark}, the child of round {study.rounds}, seeds {', '.join(map(str, study.seeds))}"
    )
    for contrast in result.contrasts:
        found = contrast.estimate
        gain = f": {_points(found)} points" if found else ""
        yield f"{contrast.decision:<19} {contrast.contrast} > 0{gain}{_missing(contrast.missing)}"
    for guard in result.guards:
        found = guard.estimate
        lost = f": {_points(found)} points against the base" if found else ""
        margin = percent_number(guard.margin)
        yield (
            f"guard {guard.decision:<13} {study.guard.benchmark}, {guard.arm}{lost} "
            f"(margin {margin}){_missing(guard.missing)}"
        )
    yield f"deviations from the declaration: {len(result.deviations) or 'none'}"
    yield from (f"  - {line}" for line in result.deviations)


def sheets(result: StudyResult, records: StudyRecords) -> Iterator[Sheet]:
    """The tables: contrasts, models, the contrasts on secondary figures, and what the rounds trained on."""
    study = result.study
    seeds = tuple(f"|seed {seed}" for seed in study.seeds)
    cover = percent_number(1 - study.alpha).removesuffix(".0")
    columns = ("contrast", f"|points [{cover}%]", "|over seeds", "|seeds × items", "|bootstrap", "|p", "|p (Holm)")
    yield Sheet(
        "contrasts, in points",
        (*columns, "|detectable", *seeds, "decision"),
        [_contrast_row(contrast, study.seeds) for contrast in result.contrasts],
    )
    rounds = tuple(f"|round {number}" for number in range(1, study.rounds + 1)) if study.rounds > 1 else ()
    figures = [figure for figure in study.secondary if any(figure in row.secondary for row in result.models)]
    yield Sheet(
        f"base and arms on {study.primary.benchmark}, in percent",
        (
            *("model", "|seeds", f"|accuracy [{cover}%]", *rounds),
            *(f"|{LABELS[figure]}" for figure in figures),
            "|tokens",
        ),
        [_model_row(row, figures, len(rounds)) for row in result.models],
    )
    measured = [figure for figure in study.secondary if result.secondary.get(figure)]
    contrasts = list(dict.fromkeys(name for figure in measured for name in result.secondary[figure]))
    if contrasts:
        yield Sheet(
            "the same contrasts on secondary figures, in points (decide nothing)",
            ("contrast", *(f"|{LABELS[figure]}" for figure in measured)),
            [(contrast, *(_secondary_cell(result, figure, contrast) for figure in measured)) for contrast in contrasts],
        )
    trained = list(_training_rows(result, records))
    if trained:
        yield Sheet(
            "what the rounds trained on, means over seeds",
            ("arm", "|round", "|questions", "|kept", "|pairs trained", "|steps", "|labels right", "verdicts"),
            trained,
        )
    reliability = list(_reliability_rows(result, records))
    if reliability:
        yield Sheet(
            f"votes of {study.arms[0]} by agreement (plain computations, all rounds and seeds)",
            ("agreement", "|votes", "|right"),
            reliability,
        )


def notes(result: StudyResult) -> Iterator[str]:
    """How the numbers were made, and what was not read."""
    study = result.study
    yield (
        "a contrast holds if the wider one of two t intervals lies above zero: over the means of the seeds, and over "
        "seeds and items (docs/method.md); the bootstrap draws seeds and items, and decides nothing"
    )
    yield (
        f"before: {len(study.seeds)} seeds × {study.primary.items} items × {study.primary.samples} samples can detect "
        f"{percent_number(result.power_before)} points (80% power, α = {study.alpha:g}, assuming deviations of "
        f"{study.assumed.seed_deviation:g} over seeds and {study.assumed.item_deviation:g} over items); after: the "
        "column detectable, by the deviations found"
    )
    if len(study.seeds) < 5:
        yield f"{len(study.seeds)} seeds are few: 5 or more for a claim"
    if any(":vote" in contrast for contrast in study.contrasts):
        counts = ", ".join(f"{arm} {samples:.1f}" for arm, samples in result.votes_at.items())
        yield (
            f"base:vote is the base's majority of {study.primary.samples}; an arm's vote has as many samples as cost "
            f"the same number of tokens, at most {study.primary.samples}: {counts}"
        )
    if study.base_prompts:
        best = result.best_prompt or "not known yet"
        yield (
            f"base:prompt is the base's best of {1 + len(study.base_prompts)} prompts: {best}; it was chosen on these "
            "very items, which is in favour of the base"
        )
    for labels, caution in CAUTIONS.items():
        if labels.value in study.arms:
            yield f"{labels.value} {caution}"
    if study.stop:
        yield f"declared end: {study.stop}"
    yield from result.missing


def _contrast_row(contrast: ContrastResult, seeds: list[int]) -> tuple[str, ...]:
    found = contrast.estimate
    by_seed = [points_number(contrast.by_seed[seed]) if seed in contrast.by_seed else UNKNOWN for seed in seeds]
    if found is None:
        return (contrast.contrast, *[UNKNOWN] * 7, *by_seed, contrast.decision)
    intervals = [
        f"[{percent_number(interval.low)}, {percent_number(interval.high)}]"
        for interval in (found.over_seeds, found.two_way, found.resampled)
    ]
    holm = UNKNOWN if contrast.p_holm is None else p_number(contrast.p_holm)
    return (
        *(contrast.contrast, _points(found), *intervals, p_number(found.p_value), holm),
        *(percent_number(found.detectable), *by_seed, contrast.decision),
    )


def _model_row(row: ModelRow, figures: list[Secondary], rounds: int) -> tuple[str, ...]:
    accuracy = row.primary
    by_round = [UNKNOWN if share is None else percent_number(share) for share in row.by_round[:rounds]]
    if row.name == "base":
        by_round = [""] * rounds
    return (
        row.name,
        str(row.seeds),
        UNKNOWN
        if accuracy is None
        else f"{percent_number(accuracy.mean)} [{percent_number(max(0.0, accuracy.low))}, "
        f"{percent_number(min(1.0, accuracy.high))}]",
        *by_round,
        *(percent_number(row.secondary[figure]) if figure in row.secondary else UNKNOWN for figure in figures),
        UNKNOWN if row.tokens is None else f"{row.tokens:.1f}",
    )


def _secondary_cell(result: StudyResult, figure: Secondary, contrast: str) -> str:
    found = result.secondary[figure].get(contrast)
    return UNKNOWN if found is None else points_number_with_interval(found[0], found[1].low, found[1].high)


def _training_rows(result: StudyResult, records: StudyRecords) -> Iterator[tuple[str, ...]]:
    study = result.study
    for arm in study.arms:
        runs = [run for run in records.runs if run.arm == arm and run.seed in study.seeds]
        for number in range(1, study.rounds + 1):
            found = [round_ for run in runs for round_ in run.rounds if round_.round == number]
            if not found:
                continue
            known = sum(round_.labels_known or 0 for round_ in found)
            right = sum(round_.labels_right or 0 for round_ in found)
            actions = [round_.action for round_ in found if round_.action is not None]
            counts = {action: actions.count(action) for action in dict.fromkeys(actions)}
            means = [
                _mean([getattr(round_, name) for round_ in found]) for name in ("questions", "kept", "trained", "steps")
            ]
            yield (
                *(arm, str(number), *means, f"{percent(right / known)} of {known}" if known else UNKNOWN),
                ", ".join(f"{count} {action}" for action, count in counts.items()) or UNKNOWN,
            )


def _reliability_rows(result: StudyResult, records: StudyRecords) -> Iterator[tuple[str, ...]]:
    arm = result.study.arms[0]
    counts: dict[tuple[int, int], tuple[int, int]] = {}
    for run in records.runs:
        for round_ in run.rounds if run.arm == arm and run.seed in result.study.seeds else ():
            for vote in round_.votes:
                count, right = counts.get((vote.votes, vote.of), (0, 0))
                counts[vote.votes, vote.of] = count + vote.count, right + vote.right
    for (agreeing, of), (count, right) in sorted(counts.items(), key=lambda entry: entry[0][0] / entry[0][1]):
        yield f"{agreeing}/{of}", str(count), percent(right / count)


def _mean(values: list[int | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.0f}" if known else UNKNOWN


def _points(found: Estimate) -> str:
    return points_number_with_interval(found.mean, found.low, found.high)


def _missing(parts: tuple[str, ...]) -> str:
    if not parts:
        return ""
    more = f"; and {len(parts) - LONGEST} more" if len(parts) > LONGEST else ""
    return f"; missing: {'; '.join(parts[:LONGEST])}{more}"

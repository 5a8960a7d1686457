"""Renders the content of a report into one HTML file. The only module that imports jinja2.

Every value is escaped, and shown without invisible characters. The page's policy forbids all scripts and every resource
outside the file, so that no text can do anything, even if it came through unescaped.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from crescent import __version__
from crescent.judging.wording import percent
from crescent.reading.differing_settings import text_of
from crescent.reading.runs import ComparedRuns
from crescent.report import collapse_figures, figures, loss_figures, tables, texts
from crescent.report.run import RunReport
from crescent.report.runs import UNFOLDED, read_comparison
from crescent.report.svg import patterns
from crescent.show.texts import UNKNOWN


def render_run(report: RunReport) -> str:
    """The page of one run."""
    rounds = report.rounds
    return _render(
        "run.html",
        {
            "title": f"{report.name}: report",
            "report": report,
            "scores": list(figures.score_figures(report)),
            "comparisons": [sheet for round_ in rounds if (sheet := tables.comparison_sheet(round_))],
            "agreements": list(figures.agreement_figures(rounds)),
            "difficulties": list(figures.difficulty_figures(rounds)),
            "baits": [sheet for round_ in rounds for sheet in tables.bait_sheets(round_)],
            "reliability": list(figures.reliability_figures(report)),
            "monitors": list(collapse_figures.collapse_figures(report)),
            "funnels": [sheet for round_ in rounds if (sheet := tables.funnel_sheet(round_))],
            "losses": list(loss_figures.loss_figures(rounds)),
            "training": tables.training_sheet(rounds),
            "harness": tables.harness_sheet(report),
            "times": tables.time_sheet(report),
            "costs": tables.costs_sheet(report),
        },
    )


def render_runs(compared: ComparedRuns, reports: Sequence[RunReport]) -> str:
    """The page of several runs."""
    comparison = read_comparison(compared, reports)
    title = f"{len(reports)} runs: report"
    return _render("runs.html", {"title": title, "comparison": comparison, "unfolded": UNFOLDED})


def _render(template: str, content: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("crescent.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": texts.shown,
        "percent": percent,
        "count": texts.count,
        "number": texts.number,
        "duration": texts.duration,
        "plural": texts.plural,
        "setting_text": text_of,
        "unbroken": texts.unbroken,
    }
    style = environment.loader.get_source(environment, "style.css")[0] if environment.loader else ""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template(template).render(
        **content,
        style=Markup(style),
        style_digest=digest,
        patterns=patterns(),
        version=__version__,
        question_characters=texts.QUESTION_CHARACTERS,
        unknown=UNKNOWN,
    )


def _visible(value: Any) -> Any:
    """What a template prints: text without invisible characters. Markup is made by this package."""
    return texts.plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value

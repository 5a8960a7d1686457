"""From what a report says to its one file of HTML. The only file that imports jinja2.

Every value is escaped, and shown without what cannot be seen. The page's policy forbids all scripts, and everything
that is not in the file: no text can do anything, even one that came through unescaped.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from crescent import __version__
from crescent.reading.runs import RunTable
from crescent.report import figures, tables, texts
from crescent.report.charts import patterns
from crescent.report.run import RunReport
from crescent.report.runs import UNFOLDED, read_sweep

OUTCOMES = {"accept": "accepted", "roll back": "rolled back", "retry": "to be retried", "stop": "stopped"}
"""What a verdict's action is called of the child."""


def render_run(report: RunReport) -> str:
    """The page of one run."""
    return _render(
        "run.html",
        {
            "title": f"{report.name}: report",
            "report": report,
            "scores": list(figures.score_figures(report)),
            "comparisons": [sheet for its in report.rounds if (sheet := tables.comparison_sheet(its))],
            "agreements": list(figures.agreement_figures(report.rounds)),
            "difficulties": list(figures.difficulty_figures(report.rounds)),
            "baits": [sheet for its in report.rounds for sheet in tables.bait_sheets(its)],
            "reliability": list(figures.reliability_figures(report)),
            "monitors": list(figures.monitor_figures(report)),
            "funnels": [sheet for its in report.rounds if (sheet := tables.funnel_sheet(its))],
            "training": tables.training_sheet(report.rounds),
            "harness": tables.harness_sheet(report),
            "times": tables.time_sheet(report),
            "ledger": tables.ledger_sheet(report),
        },
    )


def render_runs(found: RunTable, reports: Sequence[RunReport]) -> str:
    """The page of several runs."""
    sweep = read_sweep(found, reports)
    return _render("runs.html", {"title": f"{len(reports)} runs: report", "sweep": sweep, "unfolded": UNFOLDED})


def _render(template: str, content: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("crescent.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": texts.shown,
        "percent": texts.percent,
        "count": texts.count,
        "number": texts.number,
        "duration": texts.duration,
        "plural": texts.plural,
        "outcome": lambda its: OUTCOMES.get(its, its),
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
        unknown=texts.UNKNOWN,
    )


def _seen(value: Any) -> Any:
    """What a template prints: text as it can be seen. Markup is our own."""
    return texts.plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value

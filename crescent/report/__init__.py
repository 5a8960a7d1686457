"""The report: the results of one run, or of several, in one HTML file that opens anywhere without a network.

The charts are static SVG of our own (`charts.py`) and the page has no script at all. An interactive plotting library
would put 4.6 MB of script into every file (plotly.js), and the page's policy, which keeps hostile model text from ever
running, would have to allow it. What its interaction would give here, the exact numbers, stands in a table below each
chart.

    run.py       one run: rounds, headline, what is missing        funnel.py, questions.py, changes.py, costs.py
    runs.py      several runs side by side                         runs_figures.py, gain_by_settings.py: their charts
    about.py     model, date, commit, best checkpoint, lineage
    figures.py, collapse_figures.py, loss_figures.py, tables.py    the charts and tables of one run
    charts.py, parallel_axes.py, svg.py                            how charts are drawn
    page.py, templates/                                            the file
"""

from collections.abc import Sequence
from pathlib import Path

from crescent.errors import BadConfig
from crescent.machine.disk import write_whole


def write_report(roots: Sequence[Path], output: Path, rate: float | None = None) -> None:
    """Write one self-contained HTML file: everything about one run, or a comparison of several.

    The same run folders give the same file, byte for byte.

    Args:
        roots: Run folders, finished or not (`crescent.reading.finished.is_run`); one that is named twice is read once.
        output: File to write; an existing one is replaced in one step.
        rate: Money per machine-hour, for the costs.

    Raises:
        BadConfig: the file cannot be written there.
    """
    from crescent.reading.runs import compare_runs
    from crescent.report.page import render_run, render_runs
    from crescent.report.run import read_report

    compared = compare_runs(roots)
    if len(compared.runs) == 1:
        text = render_run(read_report(compared.runs[0], rate))
    else:
        text = render_runs(compared, [read_report(run, rate, samples=False) for run in compared.runs])
    try:
        write_whole(output, text.encode())
    except OSError as error:
        raise BadConfig(f"{output}: {error.strerror}; name a file in a writable folder") from error

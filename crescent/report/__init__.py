"""The report: what a run came to, in one HTML file that opens anywhere, without a network, and can do nothing.

The charts are static SVG of our own (`charts.py`) and the page has no script at all. An interactive plotting library
would put 4.6 MB of script into every file (plotly.js), which a policy that keeps hostile model text from ever running
would have to allow; what its interaction gives here, the exact numbers, stands in a table below each chart.

    run.py         one run: rounds, headline, what is missing       funnel.py, questions.py, changes.py, costs.py
    runs.py        several runs side by side                        parallel.py: their settings, and what came of each
    figures.py, tables.py, charts.py     how it is drawn
    page.py, templates/                  the file
"""

from collections.abc import Sequence
from pathlib import Path

from crescent.errors import BadConfig
from crescent.machine.disk import write_whole


def write_report(roots: Sequence[Path], output: Path, rate: float | None = None) -> None:
    """Write one self-contained HTML file: of one run everything, of several how they compare.

    The same run folders give the same file, byte for byte.

    Args:
        roots: Run folders, finished or not (`crescent.reading.finished.is_run`); one that is named twice is read once.
        output: The file; one of that name is replaced, in one step.
        rate: Money per machine-hour, for the ledger.

    Raises:
        BadConfig: the file cannot be written there.
    """
    from crescent.reading.runs import compare
    from crescent.report.page import render_run, render_runs
    from crescent.report.run import read_report

    found = compare(roots)
    if len(found.runs) == 1:
        text = render_run(read_report(found.runs[0], rate))
    else:
        text = render_runs(found, [read_report(its, rate, samples=False) for its in found.runs])
    try:
        write_whole(output, text.encode())
    except OSError as error:
        raise BadConfig(f"{output}: {error.strerror}; name a file in a folder that can be written to") from error

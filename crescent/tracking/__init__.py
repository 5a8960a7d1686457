"""What W&B is told of a run: everything is made from the run folder, so it can be told now, later, or again.

    pictures.py    what the W&B runs of a run folder hold: rows, artifacts, alerts       samples.py   tables of samples
    ledger.py      who was told what        crescent/machine/secrets.py   what is never uploaded
    wandb.py       the only file that knows wandb        __main__.py   the process that runs it
    trackio.py     the only file that knows trackio, which is told beside W&B or in its place
    process.py     that process as the loop sees it: nothing it does can stop or slow a run
    sync.py        `crescent sync`          view.py      the view "rounds" of a W&B project

Row k of a W&B run is its step k. A run that is opened again says how many steps W&B has of it, and is told the rest:
nothing is lost and nothing is told twice, whatever was interrupted.
"""

"""Reports a run to W&B and trackio. Everything is made from the run folder, so it can be uploaded now, later or again.

    contents.py    rows, artifacts and alerts of a run's W&B runs      samples.py   tables of samples
    live.py        the training that is under way
    ledger.py      what was uploaded where     crescent/machine/secrets.py   what is never uploaded
    wandb.py       the only file that imports wandb                    __main__.py   the separate process that runs it
    trackio.py     the only file that imports trackio, which can be used beside W&B or instead of it
    process.py     that process as the loop sees it: it can neither stop nor slow down a run
    sync.py        `crescent sync`                                     view.py       the view "rounds" of a W&B project

Row k of a W&B run is its step k. When a W&B run is opened again, the server says how many steps it has, and gets the
rest: after any interruption, nothing is lost and nothing is uploaded twice.
"""

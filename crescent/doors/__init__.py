"""How a command becomes a run: Hydra, opening the folder, plans and sweeps."""

"""Open a run folder: lock it, report what happens in it, and stop its engine in any case."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from crescent.config import Config
from crescent.errors import TryAgain, known_failure
from crescent.records import Round
from crescent.run_folder.lock import ALIVE, only_supervisor
from crescent.run_folder.places import CONFIG

if TYPE_CHECKING:
    from crescent.stages import Stages

Loop = Callable[[int, "Stages"], list[Round]]


KILL_S = 65.0
"""Seconds that a killed process may need to free its GPU memory, with some reserve."""


def execute(cfg: Config, loop: Loop) -> float:
    """Run the loop in its folder and show the outcome; returns the value of `sweep.objective`."""
    from crescent.doors.plan import check_machine
    from crescent.reading.rounds import read_run
    from crescent.report.lenient import LenientReader
    from crescent.report.run_headline import read_headline
    from crescent.show.console import show_outcome

    check_machine(cfg)
    with open_run(cfg) as stages:
        rounds = loop(cfg.run.rounds, stages)
    root = cfg.run.folder
    found = read_headline(LenientReader(root), read_run(root, cfg.run.name))
    show_outcome(cfg, root, rounds, (found.claim, *found.lines))
    return read_objective(cfg)


def read_objective(cfg: Config) -> float:
    """The value of `sweep.objective` of a run that has come to its end."""
    from crescent.reading.finished import RunReader
    from crescent.reading.outcome import read_outcome

    outcome = read_outcome(RunReader(cfg.run.folder))
    assert outcome is not None, "a finished run has an evaluated base"
    return outcome.metrics[cfg.sweep.objective]


@contextmanager
def open_run(cfg: Config) -> Iterator["Stages"]:
    """The stages of a run, in its locked folder; reported, and with the engine stopped in any case.

    Raises:
        RunLocked: another process works in this folder.
        TryAgain: processes of an earlier attempt are still alive.
        BadConfig: `run.reuse` names a folder that is no run.
    """
    from crescent.doors.on_ray import on_ray
    from crescent.doors.reusable import has_same_data, named_runs
    from crescent.engine.server import Server
    from crescent.machine.environment import record_environment
    from crescent.machine.program import undisturbed
    from crescent.models.while_training import while_training
    from crescent.observe import RunObserver
    from crescent.run_folder.declaration import record_declaration
    from crescent.run_folder.ended import forget_end, write_end
    from crescent.run_folder.once import Once
    from crescent.run_folder.stage_settings import planned_stages, stage_settings
    from crescent.stages import Stages
    from launch.local import LocalLaunch, wait_for_earlier_children

    root, named = cfg.run.folder, named_runs(cfg)
    root.mkdir(parents=True, exist_ok=True)
    with only_supervisor(root), on_ray(cfg, root / ALIVE) as elsewhere:
        observer = RunObserver(root, cfg.tracking, cfg.run.name, cfg.run.rounds)
        alive = root / ALIVE
        launch = LocalLaunch(cfg.launch.grace_s, alive)
        doing = while_training(cfg) if elsewhere is None else elsewhere.while_training
        seats, trainer_place = (None, None) if elsewhere is None else (elsewhere.seats, elsewhere.trainer)
        serving = replace(cfg.serving, while_training=doing)
        log = root / "logs/server.log"
        server = Server(serving, cfg.model, cfg.train, launch, cfg.run.name, log, observer.say, seats)

        def write_config() -> None:
            """Not before there is work: if this run is refused, the config of the finished one stays in place."""
            OmegaConf.save(OmegaConf.structured(cfg), root / CONFIG)
            record_environment(root)
            record_declaration(root, cfg.study)
            forget_end(root)

        reuse = [run for run in named if has_same_data(run, cfg)]
        expected = {stage: stage_settings(cfg, kind) for stage, kind in planned_stages(cfg)}
        versions = cfg.run.versions
        once = Once(root, observer, cfg.run.redo, write_config, reuse=reuse, expected=expected, versions=versions)
        code = 0
        try:
            if not wait_for_earlier_children(alive, observer.say, cfg.launch.grace_s + KILL_S):
                raise TryAgain(f"{root}: processes of an earlier run are still writing into it; try again in a minute")
            for run in named:
                if run not in reuse:
                    observer.say(f"run.reuse={run}: left out, because it read other benchmark data (eval.data)")
            yield Stages(cfg, once, server, launch, observer, trainer_place)
            once.finish()
            forget_end(root)
        except BaseException as error:
            known = known_failure(error)
            code = known.exit_code if known is not None else 1
            if once.begun:  # a refused run leaves the record of the run before
                with undisturbed():
                    write_end(root, error, once.making)
            raise
        finally:
            try:
                server.stop()
            finally:  # a second Ctrl-C ends the wait for the server, whose guard ends it in any case
                observer.close(code)

"""Runs as jobs of a real SLURM on this machine: asked to end, thrown out, left without a node, and equal to a run that
nothing disturbed.

Each test waits for SLURM, which looks at time limits twice a minute. The file is run by one worker: the tests share the
nodes.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import CannotStart, SlurmCluster, slurm_cluster, wait_for

from crescent.doors.sweep import SWEPT, sweep_name
from crescent.run_folder.manifest import MANIFEST, tree_digest

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
LOOP = (sys.executable, "-P", "-m", "crescent.loop")
FEW = (
    # Six rounds take about a minute: SLURM needs a part of it before it preempts.
    *("+experiment=smoke", "bait.questions=16", "run.rounds=6", "pairs.max_unanimous=1", "tracking.group=few"),
    *("eval.benchmarks.sums_dev.items=16", "eval.benchmarks.sums_test.items=12"),
)
JOB = ("launch=slurm", "launch.slurm.time=0:30:00")
LONGEST_S = 400.0
"""Longest wait for a run on a busy machine."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[SlurmCluster]:
    try:
        with slurm_cluster() as running:
            yield running
    except CannotStart as reason:
        pytest.skip(f"no SLURM here: {reason}")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of seed 1, made without a cluster, under the name that it has in a sweep over seeds."""
    root = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWEPT, "run.seed")
        name = sweep_name("sweep", [*FEW, "run.seed=1"], root)
    ended = subprocess.run(
        [*LOOP, *FEW, "run.seed=1", f"run.name={name}", f"run.root={root}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_S,
    )
    assert ended.returncode == 0, ended.stderr
    return root / name


def digests(root: Path) -> dict[str, str]:
    """Digest of each finished stage."""
    return {
        manifest.parent.relative_to(root).as_posix(): json.loads(manifest.read_text())["digest"]
        for manifest in root.glob(f"*/*/{MANIFEST}")
    }


def submitting(cluster: SlurmCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LOOP, *arguments],
        capture_output=True,
        text=True,
        env=cluster.environment,
        check=False,
        timeout=LONGEST_S,
    )


def submitted(cluster: SlurmCluster, *arguments: str) -> str:
    """Number of the job that a command submits without waiting for it."""
    detached = submitting(cluster, *arguments, "launch.wait=false")
    assert detached.returncode == 0, detached.stderr
    found = re.search(r"submitted job (\d+); its log", detached.stdout)
    assert found is not None, detached.stdout
    return found[1]


def test_a_run_that_is_timed_out_preempted_and_loses_its_node_ends_as_an_undisturbed_one(
    cluster: SlurmCluster, undisturbed: Path, tmp_path: Path
) -> None:
    root = tmp_path / undisturbed.name
    log = root / "logs/slurm.log"
    run = (*FEW, *JOB, f"run.root={tmp_path}", f"run.name={root.name}", "run.seed=1")
    # SLURM asks 170 s before the limit of 3 minutes, or up to a minute earlier: at its first look.
    job = submitted(cluster, *run, "launch.slurm.time=0:03:00", "launch.slurm.signal_s=170")

    def works_again(attempt: int) -> bool:
        """Whether the job is running for the n-th time, and has said that it works."""
        restarted = int(cluster.detail(job, "Restarts")) == attempt - 1 and cluster.state(job) == "RUNNING"
        return (
            restarted
            and log.exists()
            and len(re.findall(r"(?m)^\d\d:.*(?:starts|resumes)", log.read_text()[seen:])) > 1
        )

    seen = 0
    wait_for(lambda: cluster.detail(job, "Restarts") == "1", "the job is requeued at its time limit", LONGEST_S)
    assert "SIGTERM; to resume, run the same command again" in log.read_text(), "it ended in order"
    cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=30")

    seen = len(log.read_text())
    wait_for(lambda: works_again(2), "the second attempt works", LONGEST_S)
    cluster.ask("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")
    wait_for(lambda: cluster.detail(job, "Restarts") == "2", "the job is preempted and requeued", LONGEST_S)

    seen = len(log.read_text())
    wait_for(lambda: works_again(3), "the third attempt works", LONGEST_S)
    node = cluster.detail(job, "NodeList")
    cluster.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    try:
        again = submitting(cluster, *run)
        assert f"job {job} of this run is " in again.stdout, "the same command finds the job"
        assert (again.returncode, again.stderr) == (0, "")
        assert "is the best checkpoint" in again.stdout, "the log came back"
        assert cluster.detail(job, "Restarts") == "3"
        assert cluster.detail(job, "NodeList") != node
    finally:
        cluster.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert tree_digest(root) == tree_digest(undisturbed)


def test_the_points_of_a_sweep_run_as_an_array(cluster: SlurmCluster, undisturbed: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    sweep = ("run.name=sweep", "run.seed=1,2", "run.rounds=1", f"run.root={tmp_path}")
    swept = submitting(cluster, "-m", *FEW, *sweep, *JOB, "hydra/launcher=slurm_array", "launch.slurm.cpus=2")
    assert swept.returncode == 0, swept.stderr
    first, second = (digests(root) for root in sorted(tmp_path.glob("sweep-*")))
    alone = digests(undisturbed)
    assert first == {stage: digest for stage, digest in alone.items() if stage.startswith(("base/", "round-1/"))}
    assert set(second) == set(first)
    assert second["base/eval"] != first["base/eval"], "another seed"
    jobs = cluster.ask("squeue", "--noheader", "--states=all", "--name=sweep", "--format=%F %K").split()
    assert set(jobs[1::2]) == {"0", "1"}, "one array of two"
    assert len(set(jobs[::2])) == 1


def test_the_exit_code_and_the_reason_come_back(cluster: SlurmCluster, tmp_path: Path) -> None:
    container = ('launch.slurm.container=[env,"CONTAINED=1"]', f"launch.slurm.python={sys.executable}")
    failed = submitting(cluster, *FEW, *JOB, *container, f"run.root={tmp_path}", "run.redo=round-9/pairs")
    assert failed.returncode == 2
    assert "run.redo=round-9/pairs: no such stage" in failed.stdout, "the job's log"
    assert "ended with exit code 2" in failed.stderr


def test_what_the_cluster_lacks_is_refused_with_the_setting(cluster: SlurmCluster, tmp_path: Path) -> None:
    for settings, words in (
        ("launch.slurm.partition=gpus", "launch.slurm.partition=gpus: SLURM says: invalid partition specified: gpus"),
        ("launch.slurm.gpus=9", "launch.slurm (nodes=1, gpus=9): SLURM says: Requested node configuration is not"),
        (
            "launch.slurm.time=9-00:00:00",
            "launch.slurm.time: SLURM says: job 0 would wait for ever: PartitionTimeLimit",
        ),
        ("launch.slurm.sbatch.constraint=h100", "launch.slurm.sbatch.constraint=h100: SLURM says: Invalid feature"),
    ):
        refused = submitting(
            cluster, *FEW, *JOB, f"run.root={tmp_path}", f"+{settings}" if "constraint" in settings else settings
        )
        assert refused.returncode == 2, refused.stderr
        assert words in re.sub(r"job \d+", "job 0", refused.stderr)


def test_a_folder_that_the_node_does_not_share_is_named(cluster: SlurmCluster) -> None:
    root = cluster.private / "runs"
    lost = submitting(cluster, *FEW, *JOB, f"run.root={root}", "launch.slurm.partition=apart")
    assert lost.returncode == 69, (lost.stdout, lost.stderr)
    assert "do the nodes see this folder under the same path" in lost.stderr

"""Dockerfiles, Kubernetes manifests and SkyPilot files say what is true here. None of them has been run as such."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from crescent import errors
from crescent.config import Config, LaunchConfig, TrackingConfig
from crescent.doors.hydra_door import refuse_unknown

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "launch" / "containers").glob("*.Dockerfile"))
MANIFESTS = list(yaml.safe_load_all((ROOT / "launch" / "kubernetes" / "job.yaml").read_text()))
SKYPILOT = yaml.safe_load((ROOT / "launch" / "skypilot" / "job.yaml").read_text())
SKYPILOT_VOLUME = yaml.safe_load((ROOT / "launch" / "skypilot" / "runs.yaml").read_text())
ENDING_S = 2 * LaunchConfig().grace_s + TrackingConfig().wait_s
"""Seconds that a run may take to end: the trainer, the engines, W&B."""


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile with their arguments, lines joined, in order."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for line in joined.splitlines() if line for word, _, rest in [line.partition(" ")]]


def of_kind(dockerfile: Path, kind: str) -> list[str]:
    return [rest for word, rest in instructions(dockerfile) if word == kind]


def documented(path: Path) -> str:
    """The comment at the top of a file, with continued lines joined."""
    head = re.match(r"(#.*\n)+", path.read_text())
    assert head is not None
    return re.sub(r"\\\n\s*", "", re.sub(r"^# ?", "", head[0], flags=re.MULTILINE))


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    assert isinstance(found, dict)
    return found


def job() -> dict[str, Any]:
    (found,) = (manifest for manifest in MANIFESTS if manifest["kind"] == "Job")
    assert isinstance(found, dict)
    return found


def pod() -> dict[str, Any]:
    found = job()["spec"]["template"]["spec"]
    assert isinstance(found, dict)
    return found


def test_images_are_for_a_cpu_and_for_gpus() -> None:
    assert [file.name for file in DOCKERFILES] == ["cpu.Dockerfile", "gpu.Dockerfile"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_copies_what_exists_and_nothing_else(dockerfile: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored, "what is not named stays outside"
    for arguments in of_kind(dockerfile, "COPY"):
        *sources, _ = arguments.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source
    copied = {source for arguments in of_kind(dockerfile, "COPY") for source in arguments.split()[:-1]}
    packages = re.search(r"^packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert packages is not None
    assert {name.partition(".")[0] for name in re.findall(r'"([\w.]+)"', packages[1])} <= copied


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_has_a_pinned_base_no_root_and_no_secret(dockerfile: Path) -> None:
    (base,) = of_kind(dockerfile, "ARG")
    assert re.fullmatch(r"BASE=python:3\.1[1-3]\.\d+-slim-\w+", base)
    assert of_kind(dockerfile, "FROM") == ["${BASE}"]
    (user,) = of_kind(dockerfile, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number, so that Kubernetes can see that it is not root"
    order = [word for word, _ in instructions(dockerfile)]
    assert max(place for place, word in enumerate(order) if word == "RUN") < order.index("USER")
    for arguments in (*of_kind(dockerfile, "ENV"), *of_kind(dockerfile, "ARG"), *of_kind(dockerfile, "RUN")):
        assert not re.search(r"TOKEN|SECRET|PASSWORD|API_KEY", arguments, re.IGNORECASE)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_installs_a_complete_tested_set(dockerfile: Path) -> None:
    installs = [part for run in of_kind(dockerfile, "RUN") for part in run.split("&&") if "pip install" in part]
    assert installs
    assert all("--no-deps" in part for part in installs), "left to resolve by itself, pip would take other versions"
    named = {word for part in installs for word in part.split() if word.endswith(".txt")}
    assert named == {f"requirements-{dockerfile.name.partition('.')[0]}.txt"}
    assert all((ROOT / name).is_file() for name in named)
    if dockerfile.name == "gpu.Dockerfile":
        assert any("--require-hashes" in part for part in installs)
    else:
        pinned = re.search(r"^TORCH := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert pinned is not None
        assert any(pinned[1] in part.split() for part in installs)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_caches_and_runs_of_an_image_are_volumes_of_its_user(dockerfile: Path) -> None:
    assert of_kind(dockerfile, "VOLUME") == ['["/crescent/runs", "/crescent/cache"]']
    assert of_kind(dockerfile, "WORKDIR")[-1] == "/crescent", "run.root=runs is the volume"
    variables = dict(word.split("=", 1) for line in of_kind(dockerfile, "ENV") for word in shlex.split(line))
    for name in ("HF_HOME", "CRESCENT_CACHE", "VLLM_CACHE_ROOT"):
        assert variables[name].startswith("/crescent/cache/")
    owned = next(run for run in of_kind(dockerfile, "RUN") if "useradd" in run)
    assert all(folder in owned.split() for folder in ("/crescent/runs", "/crescent/cache"))
    for mount in re.findall(r"-v [\w-]+:(\S+)", documented(dockerfile)):
        assert mount in ("/crescent/runs", "/crescent/cache")
    stop = re.search(r"--stop-timeout=(\d+)", documented(dockerfile))
    assert stop is not None
    assert int(stop[1]) > ENDING_S
    assert "--shm-size=" in documented(dockerfile)
    assert of_kind(dockerfile, "ENTRYPOINT") == ['["tini", "--"]'], "process 1 must pass SIGTERM on"


FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "metadata": ({"name"}, {"labels"}),
    "Job.spec": ({"template"}, {"backoffLimit", "completions", "parallelism", "podFailurePolicy"}),
    "Job.spec.podFailurePolicy": ({"rules"}, set()),
    "Job.spec.podFailurePolicy.rules": ({"action"}, {"onExitCodes", "onPodConditions"}),
    "Job.spec.podFailurePolicy.rules.onExitCodes": ({"operator", "values"}, {"containerName"}),
    "Job.spec.podFailurePolicy.rules.onPodConditions": ({"type"}, {"status"}),
    "Job.spec.template": ({"spec"}, {"metadata"}),
    "Job.spec.template.metadata": (set(), {"labels"}),
    "Job.spec.template.spec": (
        {"containers", "restartPolicy"},
        {"automountServiceAccountToken", "securityContext", "terminationGracePeriodSeconds", "volumes"},
    ),
    "Job.spec.template.spec.securityContext": (
        set(),
        {"fsGroup", "fsGroupChangePolicy", "runAsGroup", "runAsNonRoot", "runAsUser", "seccompProfile"},
    ),
    "Job.spec.template.spec.securityContext.seccompProfile": ({"type"}, set()),
    "Job.spec.template.spec.containers": (
        {"name"},
        {"args", "env", "image", "resources", "securityContext", "volumeMounts"},
    ),
    "Job.spec.template.spec.containers.env": ({"name"}, {"value", "valueFrom"}),
    "Job.spec.template.spec.containers.env.valueFrom": (set(), {"secretKeyRef"}),
    "Job.spec.template.spec.containers.env.valueFrom.secretKeyRef": ({"key"}, {"name", "optional"}),
    "Job.spec.template.spec.containers.resources": (set(), {"limits", "requests"}),
    "Job.spec.template.spec.containers.securityContext": (set(), {"allowPrivilegeEscalation", "capabilities"}),
    "Job.spec.template.spec.containers.securityContext.capabilities": (set(), {"drop"}),
    "Job.spec.template.spec.containers.volumeMounts": ({"mountPath", "name"}, set()),
    "Job.spec.template.spec.volumes": ({"name"}, {"emptyDir", "persistentVolumeClaim"}),
    "Job.spec.template.spec.volumes.emptyDir": (set(), {"medium", "sizeLimit"}),
    "Job.spec.template.spec.volumes.persistentVolumeClaim": ({"claimName"}, set()),
    "PersistentVolumeClaim.spec": (set(), {"accessModes", "resources", "storageClassName"}),
    "PersistentVolumeClaim.spec.resources": (set(), {"requests"}),
}
"""Required and further fields of each object in our manifests, after the API reference
(https://kubernetes.io/docs/reference/kubernetes-api/)."""
FREE = ("labels", "requests", "limits")
"""Objects whose keys are names of the user's."""


def check_fields(value: object, place: str) -> None:
    """Check that an object, and all in it, has the fields that it must have and no unknown one."""
    if isinstance(value, list):
        for entry in value:
            check_fields(entry, place)
    if not isinstance(value, dict) or place.endswith(FREE):
        return
    required, further = FIELDS[place]
    assert required <= set(value), place
    assert set(value) <= required | further, place
    for key, inner in value.items():
        check_fields(inner, f"{place}.{key}")


def test_kubernetes_objects_have_the_fields_that_the_api_defines() -> None:
    assert [(manifest["apiVersion"], manifest["kind"]) for manifest in MANIFESTS] == [
        ("v1", "PersistentVolumeClaim"),
        ("v1", "PersistentVolumeClaim"),
        ("batch/v1", "Job"),
    ]
    for manifest in MANIFESTS:
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        check_fields(manifest["metadata"], "metadata")
        check_fields(manifest["spec"], f"{manifest['kind']}.spec")
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", manifest["metadata"]["name"])
    with pytest.raises(AssertionError):
        check_fields({"template": {"spec": {"containers": []}}}, "Job.spec")


def test_only_a_temporary_failure_of_the_job_is_tried_again() -> None:
    spec = job()["spec"]
    assert pod()["restartPolicy"] == "Never", "the API demands it for a podFailurePolicy"
    ignored, failing = spec["podFailurePolicy"]["rules"]
    assert (ignored["action"], ignored["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget"}])
    assert failing["action"] == "FailJob"
    codes = failing["onExitCodes"]
    assert (codes["operator"], codes["containerName"]) == ("NotIn", container()["name"])
    lasting = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.CrescentError) and kind is not errors.TryAgain
    }
    assert errors.TryAgain.exit_code in codes["values"]
    assert not lasting & set(codes["values"])
    assert spec["backoffLimit"] >= 1
    assert pod()["terminationGracePeriodSeconds"] > ENDING_S


def test_the_job_has_the_volumes_and_the_user_of_the_image() -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert set(mounts) == set(volumes)
    claims = {manifest["metadata"]["name"]: manifest for manifest in MANIFESTS if manifest["kind"] != "Job"}
    claimed = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes.values() if "emptyDir" not in volume}
    assert claimed == set(claims)
    gpu = next(file for file in DOCKERFILES if file.name == "gpu.Dockerfile")
    (declared,) = of_kind(gpu, "VOLUME")
    assert {mounts["runs"], mounts["cache"]} == set(re.findall(r'"([^"]+)"', declared))
    assert claims["crescent-runs"]["spec"]["accessModes"] == ["ReadWriteOncePod"], "never two pods in a run folder"
    assert mounts["shared-memory"] == "/dev/shm"
    assert volumes["shared-memory"]["emptyDir"]["medium"] == "Memory"
    security = pod()["securityContext"]
    assert of_kind(gpu, "USER") == [f"{security['runAsUser']}:{security['runAsGroup']}"]
    assert security["runAsNonRoot"] is True
    assert security["fsGroup"] == security["runAsGroup"], "else the user cannot write to a new volume"


def test_keys_come_from_secrets_and_may_be_missing() -> None:
    for variable in container()["env"]:
        assert set(variable) == {"name", "valueFrom"}
        assert variable["valueFrom"]["secretKeyRef"]["optional"] is True
    assert set(SKYPILOT["secrets"].values()) == {None}, "given on the command line"
    assert not set(SKYPILOT["envs"]) & set(SKYPILOT["secrets"])


def test_skypilot_keeps_the_run_in_a_volume_and_bounds_the_attempts() -> None:
    known = {"name", "workdir", "resources", "volumes", "secrets", "envs", "setup", "run"}
    assert set(SKYPILOT) == known, "fields of SkyPilot 0.14.1 (sky/utils/schemas.py)"
    assert set(SKYPILOT_VOLUME) == {"name", "type", "infra", "size", "config"}
    assert SKYPILOT["resources"]["job_recovery"] == {"max_restarts_on_errors": 3}
    ((mount, volume),) = SKYPILOT["volumes"].items()
    assert volume == SKYPILOT_VOLUME["name"]
    assert SKYPILOT_VOLUME["config"]["access_mode"] == "ReadWriteOncePod"
    assert f"run.root={mount}/runs" in SKYPILOT["run"].split()
    assert all(folder.startswith(f"{mount}/") for folder in SKYPILOT["envs"].values())
    for name in re.findall(r"\S+\.txt", SKYPILOT["setup"]):
        assert (ROOT / name).is_file()
    readme = " ".join((ROOT / "README.md").read_text().split())
    for line in SKYPILOT["setup"].splitlines():
        if "requirements" in line or "-e ." in line:
            assert line.replace(" --quiet", "") in readme, "installed as the README says"
    (python,) = re.findall(r"--python (\S+)", SKYPILOT["setup"])
    assert python in ("3.11", "3.12", "3.13")


def commands() -> dict[str, list[str]]:
    """Command lines of all files that start a run, as words from `python` on."""
    found = {}
    for dockerfile in DOCKERFILES:
        (command,) = of_kind(dockerfile, "CMD")
        found[dockerfile.name] = list(yaml.safe_load(command))
        (shown,) = re.findall(r"crescent:\wpu (python .*)", documented(dockerfile))
        found[f"{dockerfile.name}, documented"] = shlex.split(shown)
    found["kubernetes"] = container()["args"]
    found["skypilot"] = shlex.split(SKYPILOT["run"].splitlines()[-1].removeprefix("exec "))
    return found


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_composes(name: str) -> None:
    command = commands()[name]
    assert command[:3] == ["python", "-m", "crescent.loop"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", command[3:])
    refuse_unknown(config, Config)
    assert isinstance(OmegaConf.to_object(config), Config)


def test_commands_work_outside_of_the_images(tmp_path: Path) -> None:
    environment = tmp_path / "crescent-environment" / "bin"
    environment.mkdir(parents=True)
    (environment / "activate").write_text(f"PATH={Path(sys.executable).parent}:$PATH\n")
    (image,) = of_kind(DOCKERFILES[0], "CMD")
    scripts = {
        "image": shlex.join(yaml.safe_load(image)),
        # What the file names lies in SkyPilot's machine: the volume, and the home with the environment.
        "skypilot": SKYPILOT["run"].rstrip().replace("/crescent/", f"{tmp_path}/"),
    }
    world = {**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    started = {
        name: subprocess.Popen(
            ["bash", "-c", f"{script} mode=plan"],
            cwd=tmp_path,
            env=world,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, script in scripts.items()
    }
    for name, process in started.items():
        printed, _ = process.communicate(timeout=250)
        assert process.returncode == 0, printed
        root = f"{tmp_path}/runs" if name == "skypilot" else "runs"
        experiment = "smoke" if name == "image" else "qwen7b"
        assert f"run folder  {root}/{experiment} (new)" in printed
    assert {path.name for path in tmp_path.iterdir()} <= {"crescent-environment", ".cache"}, "a plan makes nothing"

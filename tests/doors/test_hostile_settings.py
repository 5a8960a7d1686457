"""Settings and job files that somebody else wrote: passwords, tags, aliases, names with slashes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crescent.config import EvalJob, ServingConfig, TrainJob, read_job
from crescent.config.evaluation import EvalConfig
from crescent.errors import BadConfig
from crescent.machine.secrets import HIDDEN, censored

PASSWORD = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@host:8000/v1",
        "HTTP://user:hunter2@host:8000/v1",
        "Https://hunter2@host/v1",
        "http://user:hun/ter2hunter2@host/v1",
        "http://user:hunter2 @host/v1",
        "http://user:hunter2%40host/v1",
        "http://host/v1?api_key=hunter2",
        "http://host/v1#hunter2",
        "http:\\\\user:hunter2@host",
        "user:hunter2@host:8000/v1",
        "ftp://user:hunter2@host/v1",
        "http:///hunter2 x",
        " http://host/v1",
    ],
)
def test_a_url_that_may_hold_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadConfig) as caught:
        ServingConfig(urls=[url])
    assert "serving.urls" in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("url", ["http://host:8000/v1", "HTTPS://api.example.org/v1", "http://[::1]:8000/v1"])
def test_the_plain_url_of_an_endpoint_is_accepted(url: str) -> None:
    assert ServingConfig(urls=[url]).urls == [url]


@pytest.mark.parametrize(
    "text",
    [
        "serving.urls=[http://u:hunter2@h]: bad",
        "HTTP://u:hunter2@h",
        "socks5://u:hun/ter@hunter2@h:1080 failed",
        "postgres://hunter2@h",
    ],
)
def test_a_password_in_a_message_is_hidden(text: str) -> None:
    assert PASSWORD not in censored(text)
    assert HIDDEN in censored(text)
    assert censored("see https://example.org/a and mail a@example.org") == (
        "see https://example.org/a and mail a@example.org"
    )
    revision = "revision 0123456789abcdef0123456789abcdef01234567 is missing"
    assert censored(revision) == revision


@pytest.mark.parametrize(
    "given",
    [
        "serving.urls=[HTTP://user:hunter2@host:8000/v1]",
        "serving.urls=[http://user:hunter2$$@host]",
        "serving.urls=[http://us{er:hunter2@host",
        "serving.urls=[http://user:hunter2,hunter2@host/v1]",
        "nothing.like=http://user:hunter2@host/v1",
    ],
)
def test_a_password_on_the_command_line_is_never_echoed(given: str, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke", "serving.child=adapter", given]
    ended = subprocess.run([*command, f"run.root={tmp_path}"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert PASSWORD not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"model: !!python/object/apply:os.system ['touch executed']\n", "line 1: has a tag"),
        (b"model: !secret x\n", "line 1: has a tag"),
        (b"pairs: x\noutput: {unclosed\n", "not YAML"),
        (b"pairs: 'x\n", "not YAML"),
        (b"\tpairs: x\n", "not YAML"),
        (b"pairs: \x00\n", "not YAML"),
        (b"pairs: \xff\xfe\xfa\n", "not YAML"),
        (LAUGHS.encode(), "line 2: has an alias"),
        (b"<<: &x {<<: *x}\n", "has an alias"),
        (b"[" * 100_000, "nested more than"),
        (b"a: " + b"{a: " * 50_000, "nested more than"),
        (b"- a list\n", "job.yaml"),
        (b"a text", "job.yaml"),
        (b"", "job.yaml"),
        (b"pairs: ${oc.env:PATH}\n", "job.yaml"),
        (b"model: 3\n", "job.yaml"),
        (b"x" * (17 << 20), "too many for a job file"),
    ],
    ids=lambda value: value[:20].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_a_job_file_that_is_no_plain_yaml_is_refused_in_one_line(
    content: bytes, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    for kind in (TrainJob, EvalJob):
        with pytest.raises(BadConfig) as caught:
            read_job(path, kind)
        assert named in str(caught.value)
        assert "\n" not in str(caught.value)
        assert os.environ["PATH"] not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["job.yaml"]


def test_a_trainer_ends_with_2_on_a_job_file_of_aliases(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(LAUGHS)
    command = [sys.executable, "-P", "-m", "train", str(tmp_path / "job.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\nb", "é", "x" * 65])
def test_names_of_benchmarks_and_runs_cannot_leave_their_folder(name: str, tmp_path: Path) -> None:
    from crescent.config import BenchmarkConfig, Source
    from crescent.config.run import RunConfig

    with pytest.raises(BadConfig, match=r"eval\.benchmarks"):
        EvalConfig(benchmarks={name: BenchmarkConfig(source=Source.gsm8k)})
    with pytest.raises(BadConfig, match=r"run\.name"):
        RunConfig(name=name)

"""A W&B server on this machine that keeps what it receives, and a reader of W&B's offline files."""

import gzip
import json
import re
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

KEY = "0" * 40


@dataclass
class TrackedRun:
    """One W&B run, as the server knows it or as a file holds it."""

    id: str
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Without W&B's own values, which begin with `_`."""
    steps: list[int] = field(default_factory=list)
    """`_step` of each row."""
    axes: dict[str, str] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    """`name`, `type`, `aliases`, `metadata`, and of a file also `contents`: path to reference."""
    uses: list[str] = field(default_factory=list)
    """Ids of artifacts."""
    sweep: str | None = None
    alerts: list[tuple[str, str]] = field(default_factory=list)
    exit_code: int | None = None

    def add(self, row: dict[str, Any]) -> None:
        self.steps.append(row["_step"])
        self.rows.append({name: value for name, value in row.items() if name[0] != "_"})


class StandIn:
    """Answers like W&B, with an HTTP error (`401`, `429`), with silence, or only to GraphQL (`graphql only`)."""

    def __init__(self, answer: str = "everything") -> None:
        self.answer = answer
        self.runs: dict[str, TrackedRun] = {}
        self.views: dict[str, Any] = {}
        """Saved views of the project, by their inner names."""
        self.refuses_artifacts = False
        self.asked: list[str] = []
        """Names of the GraphQL operations, and other paths."""
        self.heard: list[bytes] = []
        """Everything that was sent here."""
        self.artifacts: dict[str, dict[str, Any]] = {}
        """By id: `name`, `type`, `digest`, `aliases`, `run` (that made it)."""
        self.sweep: dict[str, Any] = {}
        """The config of the only sweep, `me/crescent/sweep123`."""
        self.points: list[dict[str, dict[str, Any]]] = []
        """What the sweep's agent is to run, parameters by run id: the next of the list when all it runs has ended."""
        self.stops: list[str] = []
        """Runs that the sweep's agent is to stop, each once when it is known here."""
        self._over = threading.Event()
        self._lock = threading.Lock()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if stand_in.answer == "silence" or (stand_in.answer == "graphql only" and self.path != "/graphql"):
                    stand_in._over.wait()
                    return
                with stand_in._lock:
                    refused = stand_in.answer.isdigit()
                    reply = json.dumps({"errors": [{"message": "no"}]} if refused else stand_in.reply(self.path, body))
                self.send_response(int(stand_in.answer) if refused else 200)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply.encode())

            def do_PUT(self) -> None:
                self.do_POST()

            def do_CONNECT(self) -> None:
                stand_in.asked.append(f"CONNECT {self.path}")
                self.send_error(403)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "StandIn":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    @property
    def proxy(self) -> dict[str, str]:
        """The environment in which everything for another machine comes here, is refused, and is kept in `asked`."""
        away = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), self.url)
        return away | dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")

    def run(self, job_type: str, name: str = "") -> TrackedRun:
        """The only run of this kind whose name ends like this."""
        (found,) = (run for run in self.runs.values() if run.job_type == job_type and run.name.endswith(name))
        return found

    def keep(self, rows: int, of: str) -> None:
        """Lose what was uploaded of a run after its first rows."""
        run = self.run(of)
        del run.rows[rows:], run.steps[rows:]

    def reply(self, path: str, body: bytes) -> dict[str, Any]:
        self.heard.append(body)
        if path.endswith("/file_stream"):
            self._stream(self.runs[path.split("/")[-2]], json.loads(body))
        if path != "/graphql":
            self.asked.append(path)
            return {}
        asked = json.loads(body)
        name = asked["operationName"] or re.search(r"(?:query|mutation) (\w+)", asked["query"])[1]
        given = asked.get("variables") or {}
        self.asked.append(name)
        answers = {
            "Viewer": self._viewer,
            "RunResumeStatus": self._status,
            "UpsertBucket": self._upsert,
            "CreateRunFiles": self._files,
            "NotifyScriptableRunAlert": self._alert,
            "ArtifactType": self._artifact_type,
            "CreateArtifact": self._create_artifact,
            "CreateArtifactManifest": self._manifest,
            "UpdateArtifactManifest": self._manifest,
            "CreateArtifactFiles": self._artifact_files,
            "CommitArtifact": self._commit,
            "ArtifactMembershipByName": self._find_artifact,
            "UseArtifact": self._use_artifact,
            "UpsertView2": self._view,
            "View": self._find_view,
            "UpsertSweep": self._upsert_sweep,
            "SweepWithRuns": self._find_sweep,
            "CreateAgent": lambda _: {"createAgent": {"agent": {"id": "agent"}}},
            "Heartbeat": self._heartbeat,
        }
        refused = self.refuses_artifacts and "Artifact" in name
        return {"data": answers[name](given) if name in answers and not refused else {}}

    def _viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "e", "username": "me", "entity": "me", "email": "me@here", "teams": {"edges": []}}}

    def _status(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(given["name"])
        if run is None:
            return {"model": None}
        tail = json.dumps([json.dumps({"_step": run.steps[-1], "_runtime": 1})] if run.steps else [])
        counted = {"historyLineCount": len(run.rows), "logLineCount": 0, "eventsLineCount": 0}
        known = {"id": "b", "name": run.id, "displayName": run.name, "summaryMetrics": "{}", "config": "{}", "tags": []}
        tails = {"historyTail": tail, "eventsTail": "[]", "wandbConfig": '{"t": 1}'}
        project = {"id": "p", "name": "crescent", "entity": {"id": "e", "name": "me"}}
        return {"model": {**project, "bucket": {**known, **counted, **tails}}}

    def _upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(given["name"], TrackedRun(given["name"]))
        run.name = given.get("displayName") or run.name
        run.group = given.get("groupName") or run.group
        run.job_type = given.get("jobType") or run.job_type
        run.tags = given.get("tags") or run.tags
        run.sweep = given.get("sweep") or run.sweep
        config = json.loads(given.get("config") or "{}")
        run.config |= {name: entry["value"] for name, entry in config.items() if name != "_wandb"}
        project = {"id": "p", "name": "crescent", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "b", "name": run.id, "displayName": run.name, "config": "{}", "project": project}
        return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": len(run.rows)}, "inserted": True}}

    def _files(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in given["files"]]
        return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}

    def _alert(self, given: dict[str, Any]) -> dict[str, Any]:
        self.runs[given["runName"]].alerts.append((given["title"], given["text"]))
        return {"notifyScriptableRunAlert": {"success": True}}

    def _artifact_type(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _create_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        new = given["input"]
        (name,) = new["artifactCollectionNames"] or [new["artifactCollectionName"]]
        aliases = [entry["alias"] for entry in new["aliases"]]
        about = {"name": name, "type": new["artifactTypeName"], "digest": new["digest"], "aliases": aliases}
        known = next(
            (key for key, old in self.artifacts.items() if (old["name"], old["digest"]) == (name, new["digest"])), None
        )
        key = known or f"artifact-{len(self.artifacts)}"
        if known is None:
            self.artifacts[key] = {**about, "run": new["runName"]}
            self.runs[new["runName"]].artifacts.append(self.artifacts[key])
        state = "PENDING" if known is None else "COMMITTED"
        return {
            "createArtifact": {
                "artifact": {"id": key, "state": state, "artifactSequence": {"id": name, "latestArtifact": None}}
            }
        }

    def _manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        file = {"id": "f", "uploadUrl": f"{self.url}/upload", "uploadHeaders": []}
        about = {"artifactManifest": {"id": "m", "file": file}}
        return {"createArtifactManifest": about, "updateArtifactManifest": about}

    def _artifact_files(self, given: dict[str, Any]) -> dict[str, Any]:
        wanted = given["input"]["artifactFiles"]
        upload = {"uploadUrl": f"{self.url}/upload", "uploadHeaders": [], "uploadMultipartUrls": None}
        files = [
            {
                "node": {
                    "id": "f",
                    "name": file["name"],
                    "displayName": file["name"],
                    "storagePath": file["name"],
                    **upload,
                    "artifact": {"id": file["artifactID"]},
                }
            }
            for file in wanted
        ]
        return {"createArtifactFiles": {"files": {"edges": files, "pageInfo": {"endCursor": "", "hasNextPage": False}}}}

    def _commit(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "d"}}}

    def _find_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        name, _, alias = given["name"].partition(":")
        key, found = next(
            (key, known) for key, known in self.artifacts.items() if known["name"] == name and alias in known["aliases"]
        )
        project = {"id": "p", "internalId": "p", "name": "crescent", "entity": {"name": "me"}}
        collection = {"__typename": "ArtifactSequence", "name": name, "project": project}
        about = {
            "id": key,
            "versionIndex": 0,
            "artifactType": {"name": found["type"]},
            "description": None,
            "metadata": "{}",
        }
        dates = {"createdAt": "2026-01-01T00:00:00", "updatedAt": "2026-01-01T00:00:00"}
        more = {
            "ttlDurationSeconds": -1,
            "ttlIsInherited": False,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED",
        }
        sized = {"size": 1, "digest": found["digest"], "commitHash": "c", "fileCount": 1, "aliases": []}
        artifact = {"__typename": "Artifact", "artifactSequence": collection, **about, **dates, **more, **sized}
        head = {
            "__typename": "ArtifactCollectionMembership",
            "id": "mm",
            "versionIndex": 0,
            "createdAt": dates["createdAt"],
        }
        membership = {**head, "aliases": [], "artifactCollection": collection, "artifact": artifact}
        return {"project": {"artifactCollectionMembership": membership}}

    def _use_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        self.runs[given["runName"]].uses.append(given["artifactID"])
        return {
            "useArtifact": {
                "artifact": {
                    "id": given["artifactID"],
                    "digest": "d",
                    "description": None,
                    "state": "COMMITTED",
                    "createdAt": "x",
                    "metadata": "{}",
                }
            }
        }

    def _view(self, given: dict[str, Any]) -> dict[str, Any]:
        self.views[given["name"]] = json.loads(given["spec"])
        return {"upsertView": {"view": {"id": "v", "name": given["name"]}, "inserted": True}}

    def _find_view(self, given: dict[str, Any]) -> dict[str, Any]:
        spec = self.views.get(given["viewName"])
        edges = [{"node": {"id": "v", "displayName": "rounds", "spec": json.dumps(spec)}}] if spec else []
        return {"project": {"allViews": {"edges": edges}}}

    def _upsert_sweep(self, given: dict[str, Any]) -> dict[str, Any]:
        self.sweep = yaml.safe_load(given["config"])
        project = {"id": "p", "name": given["projectName"], "entity": {"id": "e", "name": "me"}}
        return {"upsertSweep": {"sweep": {"name": "sweep123", "project": project}, "configValidationWarnings": []}}

    def _find_sweep(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"sweep": {"id": "s", "config": yaml.safe_dump(self.sweep), "runs": {"edges": []}}}}

    def _heartbeat(self, given: dict[str, Any]) -> dict[str, Any]:
        commands: list[dict[str, Any]] = []
        if json.loads(given["runState"]):
            known = [run for run in self.stops if run in self.runs]
            self.stops = [run for run in self.stops if run not in known]
            commands = [{"type": "stop", "run_id": run} for run in known]
        elif self.points:
            for run, parameters in self.points.pop(0).items():
                args = {name: {"value": value} for name, value in parameters.items()}
                commands.append({"type": "run", "run_id": run, "program": self.sweep["program"], "args": args})
        else:
            commands = [{"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    @staticmethod
    def _stream(run: TrackedRun, sent: dict[str, Any]) -> None:
        history = sent.get("files", {}).get("wandb-history.jsonl")
        if history is not None:
            # As W&B has it: lines are kept by their number, and one that comes again replaces itself.
            assert history["offset"] <= len(run.rows)
            del run.rows[history["offset"] :], run.steps[history["offset"] :]
            for line in history["content"]:
                run.add(json.loads(line))
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]


def read_offline(root: Path) -> list[TrackedRun]:
    """What the files that `wandb sync` would upload hold, in order of their start."""
    runs = []
    for path in sorted((root / "wandb").glob("offline-run-*/run-*.wandb")):
        run = TrackedRun(path.parent.name.split("-")[-1])
        for record in read_records(path):
            match record.WhichOneof("record_type"):
                case "run":
                    start = record.run
                    run.id, run.name, run.group, run.job_type = (
                        start.run_id,
                        start.display_name,
                        start.run_group,
                        start.job_type,
                    )
                    run.config |= {
                        entry.key: json.loads(entry.value_json) for entry in start.config.update if entry.key[0] != "_"
                    }
                case "history":
                    items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
                    run.add({name: json.loads(text) for name, text in items.items()})
                case "metric" if record.metric.step_metric:
                    run.axes[record.metric.glob_name or record.metric.name] = record.metric.step_metric
                case "artifact":
                    artifact = record.artifact
                    contents = {entry.path: entry.ref for entry in artifact.manifest.contents}
                    metadata = json.loads(artifact.metadata or "{}")
                    about = {"name": artifact.name, "type": artifact.type, "aliases": sorted(artifact.aliases)}
                    run.artifacts.append({**about, "metadata": metadata, "contents": contents})
                case "alert":
                    run.alerts.append((record.alert.title, record.alert.text))
                case "exit":
                    run.exit_code = record.exit.exit_code
        runs.append(run)
    return runs


def read_records(path: Path) -> list[Any]:
    """The records of a file: after 7 bytes a LevelDB log, blocks of 32 KiB of chunks (crc, length, type)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, begun, records = path.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        begun += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole record, or the last part of one
            records.append(Record.FromString(begun))
            begun = b""
    return records

"""Replicas on machines that are found for them: one without room joins the others later."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from test_replicas import until
from test_serving import BASE, FAKE, ask, sum_request

from crescent.config import ModelConfig, TrainConfig
from crescent.engine.client import Endpoint
from crescent.engine.engine_process import NoRoom, reserve_port
from crescent.engine.placement import Seat
from crescent.engine.server import Server
from launch import HOST, PORT, ChildProcess
from launch.local import LocalLaunch
from launch.relay import Relay


@dataclass
class Rooms:
    """Starts servers on this machine, as if it were others with room for a few."""

    free: int
    room_s: float = 0.5
    children: list["Placed"] = field(default_factory=list)

    def start_server(self, command: Sequence[str], log: Path, environment: Mapping[str, str], port: int) -> "Placed":
        self.children.append(Placed(self, command, log, environment, port))
        return self.children[-1]


@dataclass
class Placed:
    rooms: Rooms
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    port: int
    child: ChildProcess | None = None
    relay: Relay | None = None

    def is_placed(self) -> bool:
        if self.child is None and self.rooms.free > 0:
            self.rooms.free -= 1
            with reserve_port() as there:
                port = there.getsockname()[1]
            known = {HOST: "127.0.0.1", PORT: str(port)}
            command = [known.get(word, word) for word in self.command]
            self.relay = Relay(self.port, "127.0.0.1", port)
            self.child = LocalLaunch(grace_s=2).start(command, self.log, self.environment)
        return self.child is not None

    def poll(self) -> int | None:
        return None if self.child is None else self.child.poll()

    def stop(self) -> int:
        if self.relay is not None:
            self.relay.close()
        return 0 if self.child is None else self.child.stop()


def new_server(folder: Path, rooms: Rooms, lines: list[str]) -> Server:
    serving = replace(FAKE, replicas=2, start_timeout_s=120)
    seats = [Seat(number, launch=rooms) for number in (1, 2)]
    model, log = ModelConfig(path="fake:0.2"), folder / "logs" / "server.log"
    return Server(serving, model, TrainConfig(), LocalLaunch(), "t", log, lines.append, seats)


def test_a_replica_without_room_joins_while_the_other_works(tmp_path: Path) -> None:
    lines: list[str] = []
    rooms = Rooms(free=1)
    server = new_server(tmp_path, rooms, lines)

    def work(endpoint: Endpoint) -> None:
        assert len(endpoint.urls) == 2, "clients know both addresses"
        assert sum(line.count("joins the others when there is room") for line in lines) == 1
        absent = next(replica for replica in server.replicas if replica.served is None)
        rooms.free = 1
        until(lambda: absent.served == BASE)
        assert ask(replace(endpoint, urls=(absent.url,)), sum_request(1))

    try:
        server.ask(BASE, work)
        assert not (tmp_path / "logs" / "engine_deaths.jsonl").exists(), "it did not die"
    finally:
        server.stop()


def test_later_stages_begin_without_a_replica_that_found_no_room(tmp_path: Path) -> None:
    rooms = Rooms(free=1, room_s=3)
    server = new_server(tmp_path, rooms, [])
    try:
        server.serve(BASE)
        began = time.monotonic()
        assert server.ask(BASE, lambda endpoint: [replica.served for replica in server.replicas].count(BASE)) == 1
        assert time.monotonic() - began < rooms.room_s, "nothing waits for room"
    finally:
        server.stop()


def test_without_any_room_the_run_ends_for_now(tmp_path: Path) -> None:
    rooms = Rooms(free=0)
    server = new_server(tmp_path, rooms, [])
    with pytest.raises(NoRoom, match=r"no machine has had room for the engine for 0\.5 s"):
        server.serve(BASE)
    assert all(child.child is None for child in rooms.children)

"""Nothing of our server answers without its key: no route, no method, no web socket."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from crescent.engine.key import OPEN, STARTS_SHUT, SUPERVISOR, RequireKey

METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
KEY = {"Authorization": "Bearer right"}


async def answer(request: Request) -> Response:
    return PlainTextResponse("secret")


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("secret")
    await socket.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("VLLM_API_KEY", "right")
    routes = [Route("/collective_rpc", answer, methods=METHODS), WebSocketRoute("/v1/realtime", talk)]
    app = Starlette(routes=routes)
    app.add_middleware(RequireKey)
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/collective_rpc", "/health", "/docs", "/nowhere", "//v1/models", "/v1/../metrics"])
def test_every_request_without_the_key_gets_401_and_nothing_else(method: str, path: str, server: TestClient) -> None:
    wrong = ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "right"}, {"Authorization": "Bearer right "})
    for headers in (*wrong, {"X-Api-Key": "right"}, {"Authorization": "Bearer ríght".encode()}):
        reply = server.request(method, path, headers=headers)
        assert (reply.status_code, reply.content) == (401, b"")
    doubled = [("Authorization", "Bearer wrong"), ("Authorization", "Bearer right")]
    assert server.request(method, path, headers=doubled).status_code == 401


def test_the_key_opens_requests_and_web_sockets(server: TestClient) -> None:
    assert server.get("/collective_rpc", headers=KEY).text == "secret"
    with server.websocket_connect("/v1/realtime", headers=KEY) as socket:
        assert socket.receive_text() == "secret"


def test_a_web_socket_without_the_key_is_closed_before_it_opens(server: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect) as closed, server.websocket_connect("/v1/realtime"):
        pass
    assert closed.value.code == 1008


def test_a_server_that_starts_shut_answers_only_its_supervisor_until_that_opens_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "right")
    monkeypatch.setenv(STARTS_SHUT, "1")
    app = Starlette(routes=[Route("/v1/completions", answer)])
    app.add_middleware(RequireKey)
    with TestClient(app) as client:
        ours = {**KEY, SUPERVISOR: "yes"}
        assert client.get("/v1/completions", headers=KEY).status_code == 503
        assert client.post(OPEN, headers=KEY).status_code == 503, "clients cannot open it"
        assert client.get("/v1/completions", headers=ours).text == "secret"
        assert client.get("/v1/completions", headers=KEY).status_code == 503
        assert client.post(OPEN, headers={SUPERVISOR: "yes"}).status_code == 401
        assert client.post(OPEN, headers=ours).status_code == 200
        assert client.get("/v1/completions", headers=KEY).text == "secret"

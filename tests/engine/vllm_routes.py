"""Prints, as JSON, how vLLM's own application answers each of its routes without the key, and how many it answers with
it.

Takes the server's arguments. The application is the real one, with the routes and the middleware that these arguments
give it; no engine stands behind it.
"""

import json
import os
import sys

from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

app = build_app(make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:]), ("generate",))
client = TestClient(app, raise_server_exceptions=False)
key = {"Authorization": f"Bearer {os.environ['VLLM_API_KEY']}", "x-crescent-supervisor": "1"}
locked, answered = {}, 0
inner = [route for mount in app.routes for route in getattr(mount, "routes", None) or []]
for route in [*app.routes, *inner]:
    path = getattr(route, "path", "")
    for method in sorted(getattr(route, "methods", None) or []):
        locked[f"{method} {path}"] = client.request(method, path, json={}).status_code
        answered += client.request(method, path, json={}, headers=key).status_code != 401
    if isinstance(route, WebSocketRoute) or "WebSocket" in type(route).__name__:
        try:
            with client.websocket_connect(path):
                locked[f"socket {path}"] = 101
        except WebSocketDisconnect as closed:
            locked[f"socket {path}"] = closed.code
print(json.dumps({"locked": locked, "answered": answered}))

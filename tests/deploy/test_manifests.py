"""The files in deploy/ can be read, fit the program, and name only metrics that there are."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes_validate import utils as kubernetes

from suffice.config import load_config
from suffice.gateway import server, worker
from suffice.gateway.metrics.families import FAMILIES
from suffice.ladder import build_ladder

DEPLOY = Path(__file__).parents[2] / "deploy"
NAME = re.compile(r"\b(?:suffice|gen_ai)_[a-z_]+\b")
SUFFIXES = ("_bucket", "_sum", "_count")


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text("utf-8")))


def containers() -> Iterator[dict]:
    for document in documents("kubernetes.yaml"):
        spec = document["spec"]
        templates = [spec.get("template"), *(spec.get("leaderWorkerTemplate") or {}).values()]
        for template in templates:
            if isinstance(template, dict):
                yield from template["spec"]["containers"]


def expressions() -> Iterator[str]:
    board = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def names_in(expression: str) -> set[str]:
    """Take the metrics out of an expression, without what stands in braces or after `by`."""
    bare = re.sub(r"\{[^}]*\}|\bby \([^)]*\)", "", expression)
    return set(NAME.findall(bare))


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_the_dashboard_shows_only_metrics_that_the_gateway_has(expression: str) -> None:
    families = {family.name: family for family in FAMILIES}
    used = names_in(expression)
    assert used
    for name in used:
        base = next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s)), name)
        assert name in families or families[base].kind == "histogram"


def test_the_dashboard_shows_every_metric() -> None:
    used = set().union(*map(names_in, expressions()))
    shown = {next((n.removesuffix(s) for s in SUFFIXES if n.endswith(s)), n) for n in used} | used
    assert {family.name for family in FAMILIES} <= shown


def test_the_dashboard_sums_and_groups_only_by_labels_that_its_metrics_have() -> None:
    families = {family.name: family for family in FAMILIES}
    for expression in expressions():
        wanted = {label for group in re.findall(r"\bby \(([^)]*)\)", expression)
                  for label in re.split(r", *", group)} - {"le"}  # fmt: skip
        for name in names_in(expression):
            base = next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s)), name)
            family = families.get(name) or families[base]
            assert wanted <= set(family.labels), expression


def test_panels_have_their_own_place_and_number() -> None:
    panels = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def test_the_configuration_is_one_that_serve_takes() -> None:
    ladder = build_ladder(load_config(DEPLOY / "suffice.toml"))
    assert ladder.reference.name == "thinking"


def test_the_cluster_probes_the_gateway_and_mounts_what_its_configuration_names() -> None:
    gateway = next(each for each in containers() if each["name"] == "suffice")
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/healthz"
    mounted = {each["mountPath"] for each in gateway["volumeMounts"]}
    keys = load_config(DEPLOY / "suffice.toml").gateway.keys
    assert keys is not None
    assert str(Path(keys).parent) in mounted
    given = dict(each.split("=", 1) for each in gateway["args"] if "=" in each)
    assert given["--certificate"] in mounted
    assert str(Path(given["--ladder"]).parent) in mounted


def test_the_cluster_serves_the_model_that_the_ladder_asks_for() -> None:
    config = load_config(DEPLOY / "suffice.toml")
    leader = next(each for each in containers() if "--headless" not in each.get("args", ())
                  and each["name"] == "vllm")  # fmt: skip
    assert {f"--served-model-name={rung.model}" for rung in config.ladder} <= set(leader["args"])
    assert {"--enable-auto-tool-choice", "--tool-call-parser=qwen3_coder"} <= set(leader["args"])
    services = {
        d["metadata"]["name"] for d in documents("kubernetes.yaml") if d["kind"] == "Service"
    }
    assert config.engine["qwen"].url == "http://vllm:8000/v1"
    assert {"vllm", "suffice"} == services


def test_no_secret_stands_in_a_file() -> None:
    for path in DEPLOY.iterdir():
        text = path.read_text("utf-8")
        assert not re.search(r"sk-\w{8}|(?i:password) *[:=] *['\"]?\w", text), path.name


def test_prometheus_and_litellm_point_at_the_gateway() -> None:
    (prometheus,) = documents("prometheus.yml")
    assert {job["metrics_path"] for job in prometheus["scrape_configs"]} == {"/metrics"}
    (litellm,) = documents("litellm.yaml")
    assert litellm["model_list"][0]["litellm_params"]["model"] == "openai/suffice"


def test_the_gateway_drains_within_the_time_that_it_is_given() -> None:
    config = load_config(DEPLOY / "suffice.toml").gateway
    pod = documents("kubernetes.yaml")[0]["spec"]["template"]["spec"]
    needed_s = config.drain_delay_s + server.DRAIN_S + worker.DRAIN_S
    assert config.drain_delay_s >= pod["containers"][0]["readinessProbe"]["periodSeconds"]
    assert needed_s < pod["terminationGracePeriodSeconds"]


def test_policies_of_the_cluster_choose_pods_that_there_are() -> None:
    kinds = {d["kind"]: d for d in documents("kubernetes.yaml") if d["kind"] != "Service"}
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert kinds[kind]["spec"][field]["matchLabels"].items() <= labels.items()
    ports = {port["name"] for port in next(containers())["ports"]}
    for rule in kinds["NetworkPolicy"]["spec"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= ports


def known_to_kubernetes() -> list[dict]:
    """List all objects; one of LeaderWorkerSet, whose kind is not Kubernetes' own, by its pods."""
    objects = documents("kubernetes.yaml") + documents("pinned.yaml")
    known = [one for one in objects if one["kind"] != "LeaderWorkerSet"]
    for one in objects:
        for template in (one["spec"].get("leaderWorkerTemplate") or {}).values():
            if isinstance(template, dict):
                selector = {"matchLabels": template["metadata"]["labels"]}
                spec = {"selector": selector, "template": template}
                head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "pods"}}
                known.append({**head, "spec": spec})
    return known


@pytest.mark.parametrize("version", ["1.33", "1.37"])
def test_every_manifest_is_as_the_schemas_of_kubernetes_have_it(version: str) -> None:
    objects = known_to_kubernetes()
    assert len(objects) == 10
    for one in objects:
        assert kubernetes.validate(one, version, strict=True) == version


def test_a_misspelt_field_is_found() -> None:
    deployment = documents("kubernetes.yaml")[0]
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes.ValidationError, match="readynessProbe"):
        kubernetes.validate(deployment, "1.37", strict=True)


def test_the_cluster_may_insist_on_digests() -> None:
    policy, binding = documents("pinned.yaml")
    (rule,) = policy["spec"]["validations"]
    (pattern,) = re.findall(r"matches\('([^']+)'\)", rule["expression"])
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert re.search(pattern, "suffice:0.2.0@sha256:" + "0a" * 32)
    for image in ("suffice:0.2.0", "suffice@sha256:0a", "suffice@sha256:" + "0a" * 32 + "x"):
        assert not re.search(pattern, image)


def rendered() -> list[dict]:
    """Render the kustomization as a cluster would see it."""
    done = subprocess.run(
        ["kubectl", "kustomize", DEPLOY], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl (kubernetes-client)")
def test_the_kustomization_renders_all_that_is_in_it() -> None:
    def names(objects: list[dict]) -> set[tuple[str, str]]:
        return {(one["kind"], one["metadata"]["name"]) for one in objects}

    objects = rendered()
    assert names(objects) == names(documents("kubernetes.yaml"))
    assert {one["metadata"]["namespace"] for one in objects} == {"suffice"}


def test_the_gateway_rolls_without_a_gap() -> None:
    """Probes, room to drain, limits, no rights: what a cluster needs to know of each container."""
    kinds = {one["kind"]: one for one in documents("kubernetes.yaml")}
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"readinessProbe", "livenessProbe", "startupProbe"} <= set(container)
    assert container["resources"]["limits"]["memory"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    delay_s = load_config(DEPLOY / "suffice.toml").gateway.drain_delay_s
    assert delay_s > 0
    drain_s = delay_s + server.DRAIN_S + worker.DRAIN_S
    assert pod["terminationGracePeriodSeconds"] > drain_s
    assert kinds["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    for kind, path in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert kinds[kind]["spec"][path]["matchLabels"].items() <= labels
    assert kinds["NetworkPolicy"]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_no_image_is_whatever_is_newest() -> None:
    for container in containers():
        tag = container["image"].rpartition(":")[2]
        assert tag[:1].isdigit() or tag.startswith("v"), container["image"]
    build = (DEPLOY / "Containerfile").read_text("utf-8")
    assert re.findall(r"^FROM (\S+)", build, re.M) == ["${PYTHON}", "${PYTHON}"]
    assert re.search(r"^ARG PYTHON=\S+@sha256:[0-9a-f]{64}$", build, re.M)

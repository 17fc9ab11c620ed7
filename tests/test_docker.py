"""What docker/ holds, as far as it can be held where no container engine is: names, rights, limits, and no password."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from review_ui.metrics import Metrics
from segsvc.asking import Asked
from segsvc.ledger.opening import open_ledger
from segsvc.settings import Settings

HERE = Path(__file__).parents[1]
DOCKER = HERE / "docker"
DOCKERFILES = (DOCKER / "Dockerfile", DOCKER / "Dockerfile.cuda")
MANIFESTS = tuple(sorted((DOCKER / "kuberay").glob("*.yaml")))
METRICS = {
    "segsvc_runs": {"state"}, "segsvc_queue_age_seconds": set(), "segsvc_leases_lost_total": set(),
    "segsvc_images_total": {"state"}, "segsvc_megapixels_total": {"state"}, "segsvc_stage_seconds_total": {"stage"},
    "segsvc_review_backlog": set(), "segsvc_decision_seconds_sum": set(), "segsvc_decision_seconds_count": set(),
    "segsvc_requests_total": {"method", "route", "status"}, "segsvc_request_seconds_total": {"route"}}
SECRETS = {"POSTGRES_PASSWORD", "RAY_AUTH_TOKEN", "S3_ACCESS_KEY", "S3_SECRET_KEY"}
_SECRET = r"(?i)(\w*(?:password|secret_?key|access_?key|access_?key_id|auth_token))[\"']?[:=] *(\S+)"


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Its instructions, each with its arguments, in order."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def of(dockerfile: Path, name: str) -> list[str]:
    return [rest for each, rest in instructions(dockerfile) if each == name]


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
    return found


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def pods(node: Any) -> Iterator[dict[str, Any]]:
    """The specifications of pods in a manifest."""
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        for each in node.values():
            yield from pods(each)
    elif isinstance(node, list):
        for each in node:
            yield from pods(each)


def images() -> Iterator[str]:
    """Every image that is named anywhere, with its tag."""
    for dockerfile in DOCKERFILES:
        yield from (rest.removeprefix("PYTHON=") for rest in of(dockerfile, "ARG"))
    yield from (service["image"] for service in compose()["services"].values())
    for path in MANIFESTS:
        for pod in pods(documents(path)):
            yield from (container["image"] for container in pod["containers"])


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path at the root from the engine: the last pattern that fits says."""
    kept_away = False
    for line in (HERE / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and (fnmatch(path, pattern) or path.startswith(f"{pattern}/")):
            kept_away = not line.startswith("!")
    return kept_away


# -- images --------------------------------------------------------------------------------------------------------------


def test_every_image_is_pinned_by_a_tag_that_says_a_version() -> None:
    named = set(images())
    assert len(named) >= 4
    for image in named:
        tag = image.rpartition(":")[2]
        assert re.match(r"\d", tag) and "/" not in tag and tag != "latest", image


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_of_files_that_are_there_and_reach_the_engine(dockerfile: Path) -> None:
    for rest in of(dockerfile, "COPY"):
        if not rest.startswith("--from="):
            for source in rest.split()[:-1]:
                assert (HERE / source).exists() and not ignored(source), source
    for private in (".git", ".venv", "docker/.env", "segsvc-data", "demo-out", "tests", "assets"):
        assert ignored(private), private


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_all_packages_of_the_project_are_in_the_image(dockerfile: Path) -> None:
    project = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))
    copied = {source for rest in of(dockerfile, "COPY") for source in rest.split()[:-1]}
    assert {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]} <= copied
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= copied


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_nobody_in_particular_starts_segsvc_and_says_whether_it_is_well(dockerfile: Path) -> None:
    assert of(dockerfile, "USER") == ["10001:10001"]
    last = instructions(dockerfile)[max(at for at, (name, _) in enumerate(instructions(dockerfile)) if name == "FROM"):]
    assert [name for name, _ in last].index("USER") > max(at for at, (name, _) in enumerate(last) if name == "RUN")
    assert json.loads(of(dockerfile, "ENTRYPOINT")[0]) == ["segsvc"]
    assert "segsvc" in {each.name for each in entry_points(group="console_scripts")}
    assert json.loads(of(dockerfile, "CMD")[0]) == ["serve", "--host", "0.0.0.0"]
    checked = of(dockerfile, "HEALTHCHECK")[0]
    assert "/healthz" in checked and "urllib.request" in checked
    assert not any(tool in rest for _, rest in last for tool in ("apt-get", "gcc", "build-essential"))


def test_torch_is_the_one_that_make_setup_installs_and_for_cpus_it_comes_without_cuda() -> None:
    pinned = re.search(r"^TORCH := (.*)$", (HERE / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert pinned is not None
    for dockerfile in DOCKERFILES:
        assert any(pinned[1] in rest for rest in of(dockerfile, "RUN"))
    cpu, cuda = (next(rest for rest in of(path, "RUN") if pinned[1] in rest) for path in DOCKERFILES)
    assert "--index-url https://download.pytorch.org/whl/cpu" in cpu and "--index-url" not in cuda


def test_what_is_installed_before_the_code_is_what_the_project_asks_for() -> None:
    said = subprocess.run([sys.executable, DOCKER / "wanted.py", HERE / "pyproject.toml", "ray"], capture_output=True,
                          text=True, check=True, timeout=60).stdout.splitlines()
    project = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["project"]
    assert said == [*project["dependencies"], *project["optional-dependencies"]["ray"]]


# -- secrets -------------------------------------------------------------------------------------------------------------


def test_secrets_are_drawn_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    def run(file: Path) -> str:
        return subprocess.run(["bash", DOCKER / "secrets.sh", file], capture_output=True, text=True, check=True,
                              timeout=60).stdout

    first, second = tmp_path / "a.env", tmp_path / "b.env"
    said = run(first)
    text = first.read_text("utf-8")
    drawn = dict(line.split("=") for line in text.splitlines())
    assert set(drawn) == SECRETS
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert all(re.fullmatch(r"[0-9a-f]{20,}", value) and value not in said for value in drawn.values())
    first.chmod(0o644)
    run(first)
    assert first.read_text("utf-8") == text and stat.S_IMODE(first.stat().st_mode) == 0o600
    run(second)
    assert not set(drawn.values()) & set(dict(line.split("=") for line in second.read_text("utf-8").splitlines()).values())
    assert {path.name for path in tmp_path.iterdir()} == {"a.env", "b.env"}


def test_git_never_takes_the_secrets() -> None:
    assert ".env" in (DOCKER / ".gitignore").read_text("utf-8").splitlines()


def test_no_password_stands_in_any_file() -> None:
    for path in (file for file in DOCKER.rglob("*") if file.is_file() and file.name != ".env"):
        text = re.sub(r"\$\{\w+:\?.*?\}", "$", path.read_text("utf-8"))
        for name, value in re.findall(_SECRET, text):
            assert value.startswith("$"), f"{path.name}: {name}"
        assert all(password.startswith("$") for password in re.findall(r"\w://\w+:(\S+?)@", text)), path.name


def test_compose_does_not_start_without_the_secrets() -> None:
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    asked = set(re.findall(r"\$\{(\w+):\?run docker/secrets\.sh\}", text))
    assert asked == SECRETS
    assert set(re.findall(r"\$\{(\w+)", text)) - asked == {"RAY_CPUS", "RAY_MEMORY"}


# -- compose -------------------------------------------------------------------------------------------------------------


def test_compose_has_the_store_the_database_ray_and_segsvc_each_with_limits_and_a_health_check() -> None:
    services = compose()["services"]
    assert set(services) == {"seaweedfs", "postgres", "ray", "segsvc"}
    for name, service in services.items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert "no-new-privileges:true" in service["security_opt"] and not service.get("privileged"), name
        assert name == "segsvc" or service["healthcheck"]["test"], name  # segsvc's is its image's
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in compose()["volumes"], name
        assert set(service["networks"]) <= set(compose()["networks"]), name
    assert all(each["condition"] == "service_healthy" for each in services["segsvc"]["depends_on"].values())
    for name in ("ray", "segsvc"):
        build = services[name]["build"]
        assert (DOCKER / build["context"] / build["dockerfile"]).exists()
        assert services[name]["cap_drop"] == ["ALL"]


def test_what_compose_publishes_is_on_loopback_and_rays_dashboard_is_not_among_it() -> None:
    services = compose()["services"]
    published = {name: service.get("ports", []) for name, service in services.items()}
    assert published == {"seaweedfs": ["127.0.0.1:8333:8333"], "postgres": [], "ray": [], "segsvc": ["127.0.0.1:8765:8765"]}
    for name in ("ray", "segsvc"):
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"


def test_settings_in_compose_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SEGSVC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SEGSVC_CONFIG", os.devnull)
    for name, value in compose()["services"]["segsvc"]["environment"].items():
        if name.startswith("SEGSVC_"):
            monkeypatch.setenv(name, value)
    values = Settings()
    assert values.serve.buckets == ("images", "results") and values.serve.hosts == ("segsvc",)
    assert values.s3.endpoint_url == "http://seaweedfs:8333" and values.ledger.endswith("@postgres:5432/segsvc")


# -- Kubernetes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_pods_have_a_token_limits_and_no_more_rights_than_they_need(path: Path) -> None:
    resource = documents(path)[0]
    cluster = resource["spec"].get("rayClusterSpec", resource["spec"])
    assert resource["apiVersion"] == "ray.io/v1" and resource["kind"] in ("RayCluster", "RayJob")
    assert cluster["authOptions"] == {"mode": "token", "secretName": "segsvc-ray-token"}
    found = list(pods(resource))
    assert len(found) == 1 + len(cluster["workerGroupSpecs"])
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == 10001
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert set(container["resources"]["requests"]) == set(container["resources"]["limits"]) == {"cpu", "memory"}


def test_the_versions_of_ray_are_that_of_the_constraints() -> None:
    pinned = re.search(r"^ray==(.*)$", (HERE / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    assert pinned is not None
    for path in MANIFESTS:
        spec = documents(path)[0]["spec"]
        assert spec.get("rayClusterSpec", spec)["rayVersion"] == pinned[1]


def test_the_ray_job_is_a_run_that_jobs_batch_takes() -> None:
    (job,) = (documents(path)[0] for path in MANIFESTS if path.name == "rayjob.yaml")
    *program, spec = shlex.split(job["spec"]["entrypoint"])
    assert program == ["python", "-m", "jobs.batch"] and find_spec("jobs.batch") is not None
    assert Asked.model_validate_json(spec).out == "s3://results/plates"


# -- Prometheus and Grafana ----------------------------------------------------------------------------------------------


def expressions() -> list[str]:
    groups = yaml.safe_load((DOCKER / "prometheus" / "rules.yaml").read_text("utf-8"))["groups"]
    panels = json.loads((DOCKER / "grafana" / "segsvc.json").read_text("utf-8"))["panels"]
    return [*(rule["expr"] for group in groups for rule in group["rules"]),
            *(target["expr"] for panel in panels for target in panel["targets"])]


def test_alerts_and_dashboard_ask_for_metrics_and_labels_that_are_served_and_for_every_metric() -> None:
    asked: set[str] = set()
    for expression in expressions():
        names = set(re.findall(r"\bsegsvc\w*", expression))
        assert names and names <= set(METRICS), expression
        for name, selected in re.findall(r"\b(segsvc\w*)\{(.*?)\}", expression):
            assert set(re.findall(r"(\w+)\s*[=!]", selected)) <= METRICS[name], expression
        for kept in re.findall(r"\bby \((.*?)\)", expression):
            assert all(set(re.split(r",\s*", kept)) <= METRICS[name] for name in names), expression
        asked |= names
    assert asked == set(METRICS)


def test_those_metrics_are_what_a_server_serves(tmp_path: Path) -> None:
    with open_ledger(str(tmp_path / "ledger")) as ledger:
        content, _ = Metrics().text(ledger)
    endings = {"gauge": ("",), "counter": ("_total",), "summary": ("_sum", "_count")}
    served = {name.removesuffix("_total") + ending for name, kind in
              re.findall(r"^# TYPE (\w+) (\w+)$", content.decode(), re.MULTILINE) if not name.endswith("_created")
              for ending in endings[kind]}
    assert served == set(METRICS)


def test_every_alert_says_what_is_and_what_to_do() -> None:
    for group in yaml.safe_load((DOCKER / "prometheus" / "rules.yaml").read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"] and rule["annotations"]["description"], rule["alert"]
            assert rule["labels"]["severity"] in ("info", "warning", "critical"), rule["alert"]


def test_the_dashboard_has_panels_of_their_own_places() -> None:
    panels = json.loads((DOCKER / "grafana" / "segsvc.json").read_text("utf-8"))["panels"]
    cells = [(x, y) for panel in panels for at in (panel["gridPos"],)
             for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)

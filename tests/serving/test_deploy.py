"""The deployment files are what their tools take, ask for what there is, and give little away."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.policy import PolicyFile
from serving.settings import options
from tests.serving.conftest import ROOT

DEPLOY = ROOT / "configs" / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
BIN = Path(sys.executable).parent


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)


def documents() -> list[dict[str, Any]]:
    found = [d for path in MANIFESTS for d in yaml.safe_load_all(path.read_text())]
    return [d for d in found if d["kind"] != "Kustomization"]


def test_the_dockerfile_pleases_its_linter_and_runs_as_nobody_in_particular() -> None:
    done = run(BIN / "hadolint", DEPLOY / "Dockerfile")
    assert done.returncode == 0, done.stdout
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^FROM python:\d+\.\d+\.\d+-", text, re.M)  # pinned to a patch
    users = re.findall(r"^USER (\S+)", text, re.M)
    assert users == ["10001:10001"]
    copied = set(re.findall(r"^COPY (\w+) \1$", text, re.M))
    assert copied == {"model", "world", "training", "serving", "benchmarks", "configs"}


def test_the_compose_file_is_one() -> None:
    done = run(
        *(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
        DEPLOY / "compose.yaml",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert set(services) == {"api", "worker", "postgres"}
    for name in ("api", "worker"):
        assert services[name]["read_only"] and services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
    # What is reached without a key is reached from this machine alone.
    assert services["api"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "ports" not in services["postgres"] and "ports" not in services["worker"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_kubernetes_files_are_what_the_schema_wants(path: Path) -> None:
    if path.name == "kustomization.yaml":
        listed = yaml.safe_load(path.read_text())["resources"]
        assert sorted(listed) == [p.name for p in MANIFESTS if p != path]
        return
    done = run(BIN / "kubernetes-validate", "--strict", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pods_have_no_rights_that_they_do_not_need() -> None:
    pods = [d["spec"]["template"]["spec"] for d in documents() if "template" in d["spec"]]
    assert len(pods) == 3
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_the_units_are_valid_and_shut_in(path: Path, tmp_path: Path) -> None:
    """`verify` wants the command to be there, so the paths are those of this checkout."""
    unit = tmp_path / path.name.replace("@.", "@0.")
    text = path.read_text().replace("/opt/kinetograph/.venv/bin", str(BIN))
    unit.write_text(text.replace("/opt/kinetograph", str(ROOT)))
    done = run("systemd-analyze", "verify", "--man=no", unit)
    ours = [line for line in done.stderr.splitlines() if path.stem.rstrip("@") in line]
    assert done.returncode == 0 and ours == [], done.stderr
    shut = run("systemd-analyze", "security", "--offline=true", "--threshold=25", unit)
    assert shut.returncode == 0, shut.stdout[-400:]


def test_every_option_that_is_given_is_one() -> None:
    """Of `api` and `worker`, in all three kinds of files."""
    given: list[tuple[str, list[str]]] = []
    for path in UNITS:
        (line,) = re.findall(r"^ExecStart=\S+ (.*)$", path.read_text(), re.M)
        given.append((line.split()[0], line.split()[1:]))
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    given += [(s["command"][0], s["command"][1:]) for s in services.values() if "command" in s]
    for document in documents():
        for container in (
            document["spec"].get("template", {"spec": {}})["spec"].get("containers", [])
        ):
            if "args" in container:
                given.append((container["args"][0], container["args"][1:]))
    assert len(given) == 6
    for command, arguments in given:
        named = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        assert named <= set(options(command)) | {"--slot"}, (command, named)


def test_the_example_of_a_policy_is_one() -> None:
    told = yaml.safe_load((DEPLOY / "policy.yaml.example").read_text())
    assert PolicyFile.model_validate(told).fail_closed


def test_the_dashboard_is_json_of_grafana_s_kind() -> None:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    assert dashboard["title"] == "Kinetograph" and dashboard["schemaVersion"] >= 39

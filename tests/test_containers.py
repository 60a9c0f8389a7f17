"""The image, compose.yaml and the manifests for Kubernetes, as far as they can be checked without running them.

What they name must exist here: settings, ports, paths, HAProxy's values, files; and the times must add up.
"""

import fnmatch
import ipaddress
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner

from imserver.cli import main
from imserver.config import Settings, load
from imserver.supervisor.worker_process import DISMISS_SECONDS, DRAIN_GRACE_SECONDS

ROOT = Path(__file__).parents[1]
OPS = ROOT / "ops"
KUBERNETES = OPS / "kubernetes"
COMPOSE = yaml.safe_load((OPS / "compose.yaml").read_text())
DOCKERFILE = (OPS / "Dockerfile").read_text()
HOSTS = ("im1", "im2")
STOPPING_SECONDS = DRAIN_GRACE_SECONDS + DISMISS_SECONDS


def manifest(name: str) -> Any:
    return yaml.safe_load((KUBERNETES / f"{name}.yaml").read_text())


def pod() -> Any:
    return manifest("deployment")["spec"]["template"]["spec"]


def container() -> Any:
    (only,) = pod()["containers"]
    return only


def image_environment() -> dict[str, str]:
    """What ENV says, continued over lines."""
    text = re.search(r"(?ms)^ENV (.*?[^\\])$", DOCKERFILE)
    assert text
    return dict(word.split("=", 1) for word in shlex.split(text[1].replace("\\\n", " ")))


def kubernetes_environment() -> dict[str, str]:
    environ: dict[str, str] = manifest("configmap")["data"]
    return {**image_environment(), **environ, "IMSERVER_REDIS": "rediss://imserver:secret@store.example.org:6379"}


def compose_environment(host: str) -> dict[str, str]:
    environ: dict[str, str] = COMPOSE["services"][host]["environment"]
    return {**image_environment(), **environ}


ENVIRONMENTS = {
    "image": image_environment(),
    "kubernetes": kubernetes_environment(),
    **{host: compose_environment(host) for host in HOSTS},
}


# ---- settings


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_server_accepts_the_environment(name: str) -> None:
    environ = ENVIRONMENTS[name]
    assert all(isinstance(value, str) for value in environ.values()), "YAML's numbers are no environment"
    result = CliRunner().invoke(main, ["config", "--json"], env=environ)
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert all(told[variable.removeprefix("IMSERVER_").lower()]["source"] == variable for variable in environ)


def settings(name: str) -> Settings:
    return load([], ENVIRONMENTS[name], {})


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_others_reach_the_clients_ports_and_not_the_administration(name: str) -> None:
    chosen = settings(name)
    assert (chosen.tcp.host, chosen.http.host, chosen.admin.host) == ("0.0.0.0", "0.0.0.0", "127.0.0.1")


# ---- the image


def test_what_the_image_copies_exists_and_is_not_left_out() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "**"
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    copied = [source for line in re.findall(r"(?m)^COPY (.+)$", DOCKERFILE) for source in line.split()[:-1]]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), source


def test_the_image_exposes_the_ports_and_starts_the_server_without_a_shell() -> None:
    chosen = settings("image")
    exposed = re.search(r"(?m)^EXPOSE (.+)$", DOCKERFILE)
    assert exposed
    assert exposed[1].split() == [str(chosen.tcp.port), str(chosen.http.port)]
    assert 'ENTRYPOINT ["imserver"]\nCMD ["serve"]' in DOCKERFILE
    assert re.search(r"(?m)^USER \d+$", DOCKERFILE), "a number: Kubernetes can't tell whether a name is root"


# ---- Kubernetes


def test_every_manifest_is_applied() -> None:
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(manifest("kustomization")["resources"]) == files
    for file in files:
        each = manifest(Path(file).stem)
        assert each.keys() >= {"apiVersion", "kind", "metadata"}
        assert each["metadata"]["name"] == "imserver"


def test_all_speak_of_the_same_pods() -> None:
    labels = manifest("deployment")["spec"]["template"]["metadata"]["labels"]
    assert manifest("deployment")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("disruption")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("service")["spec"]["selector"] == labels
    assert pod()["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == labels


def test_ports_are_those_of_the_settings() -> None:
    chosen = settings("kubernetes")
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"tcp": chosen.tcp.port, "http": chosen.http.port}
    assert {(port["targetPort"], port["port"]) for port in manifest("service")["spec"]["ports"]} == set(ports.items())


@pytest.mark.parametrize(
    ("probe", "path"), [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")]
)
def test_probes_ask_what_the_server_answers(probe: str, path: str) -> None:
    asked = container()[probe]["httpGet"]
    assert asked == {"path": path, "port": "http"}
    assert f"| `{path}` |" in (ROOT / "docs" / "protocol.md").read_text()


def test_a_pod_has_the_time_to_drain() -> None:
    command, seconds = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    needed = int(seconds) + settings("kubernetes").drain_seconds + STOPPING_SECONDS
    assert needed <= pod()["terminationGracePeriodSeconds"]


def test_a_pod_writes_only_where_it_may() -> None:
    mounted = {mount["mountPath"]: mount["name"] for mount in container()["volumeMounts"]}
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    assert {settings("kubernetes").data, "/tmp"} == mounted.keys()
    assert set(mounted.values()) == {volume["name"] for volume in pod()["volumes"]}


def test_workers_are_as_many_as_the_cores_asked_for() -> None:
    assert container()["resources"]["requests"]["cpu"] == str(settings("kubernetes").workers)


def test_the_server_leaves_what_kubernetes_puts_beside_its_settings() -> None:
    linked = {"IMSERVER_SERVICE_HOST": "10.0.0.1", "IMSERVER_PORT_7400_TCP": "tcp://10.0.0.1:7400"}
    load([], {**kubernetes_environment(), **linked}, {})


# ---- compose


def seconds_of(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_has_the_time_to_drain(host: str) -> None:
    assert settings(host).drain_seconds + STOPPING_SECONDS <= seconds_of(COMPOSE["services"][host]["stop_grace_period"])


def test_haproxy_gets_values_that_it_knows_and_finds_the_hosts() -> None:
    known = set(re.findall(r"presetenv (IM\w+)", (OPS / "haproxy.cfg").read_text()))
    environ: Mapping[str, str] = COMPOSE["services"]["haproxy"]["environment"]
    assert environ.keys() <= known
    assert (environ["IM1"], environ["IM2"]) == HOSTS
    mounted = [volume.rpartition(":ro")[0].rsplit(":", 1) for volume in COMPOSE["services"]["haproxy"]["volumes"]]
    assert (OPS / mounted[0][0]).resolve() == OPS / "haproxy.cfg"
    assert mounted[1][1] == "/etc/imserver/imserver.pem"


def test_hosts_believe_haproxy_and_nobody_else() -> None:
    address = COMPOSE["services"]["haproxy"]["networks"]["im"]["ipv4_address"]
    subnet = COMPOSE["networks"]["im"]["ipam"]["config"][0]["subnet"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(subnet)
    for host in HOSTS:
        (only,) = settings(host).proxy_protocol_from
        assert ipaddress.ip_network(only) == ipaddress.ip_network(address)


def test_the_store_keeps_what_delivery_promises() -> None:
    words = shlex.split(COMPOSE["services"]["store"]["command"])
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "no")


def test_everything_that_is_waited_for_can_become_healthy() -> None:
    for service in COMPOSE["services"].values():
        for name, waited in service.get("depends_on", {}).items():
            assert waited["condition"] == "service_healthy"
            assert COMPOSE["services"][name]["healthcheck"]["test"]

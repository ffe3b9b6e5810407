"""The manifests: what Kubernetes, KubeRay and Ray would refuse is refused here, without them.

With KUBERAY_CRDS naming a folder of KubeRay's CRDs (.yaml or .yaml.gz) they are checked against
those schemas as well.
"""

import gzip
import importlib
import os
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes.client import models

from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.runtime.serve_command import INGRESS

Template = tuple[str, dict[str, Any]]
SCALARS = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def refuse(value: Any, kind: str, where: str) -> None:
    """Fail on a key or a type that the Kubernetes client's model does not know."""
    if match := re.fullmatch(r"[Ll]ist\[(.+)\]", kind):
        assert isinstance(value, list), f"{where} must be a list"
        for number, item in enumerate(value):
            refuse(item, match[1], f"{where}[{number}]")
    elif match := re.fullmatch(r"[Dd]ict[\[(]str, (.+)[\])]", kind):
        assert isinstance(value, dict), f"{where} must be a mapping"
        for key, item in value.items():
            refuse(item, match[1], f"{where}.{key}")
    elif kind in SCALARS:
        # What may be a number or a text in Kubernetes is `str` in the models of quantities.
        fits = isinstance(value, SCALARS[kind]) and (kind == "bool" or not isinstance(value, bool))
        assert fits, f"{where} must be {kind}: {value!r}"
    elif kind not in ("object", "datetime"):
        model = getattr(models, kind)
        of = {name: model.openapi_types[field] for field, name in model.attribute_map.items()}
        assert isinstance(value, dict), f"{where} must be a mapping"
        unknown = set(value) - set(of)
        assert not unknown, f"{where} has {unknown}, which {kind} does not know"
        for key, item in value.items():
            refuse(item, of[key], f"{where}.{key}")


def test_what_the_strict_reader_refuses() -> None:
    pod = {"spec": {"containers": [{"name": "a", "image": "b", "resource": {}}]}}
    with pytest.raises(AssertionError, match="'resource'"):
        refuse(pod, "V1PodTemplateSpec", "pod")
    with pytest.raises(AssertionError, match="must be str"):
        refuse({"name": "a", "env": [{"name": "A", "value": 1}]}, "V1Container", "container")


def test_kubernetes_knows_every_key_of_every_pod(templates: list[Template]) -> None:
    for where, template in templates:
        refuse(template, "V1PodTemplateSpec", where)


def test_kubernetes_knows_every_other_object(objects: tuple[dict[str, Any], ...]) -> None:
    others = [one for one in objects if not one["kind"].startswith("Ray")]
    kinds = {one["kind"] for one in others}
    assert kinds == {"ServiceAccount", "NetworkPolicy", "PodDisruptionBudget"}
    for one in others:
        refuse(one, f"V1{one['kind']}", one["kind"])


def unknown_keys(value: Any, schema: dict[str, Any], where: str) -> list[str]:
    """Keys that Kubernetes would drop without a word."""
    found: list[str] = []
    if isinstance(value, list):
        for number, item in enumerate(value):
            found += unknown_keys(item, schema.get("items", {}), f"{where}[{number}]")
    if isinstance(value, dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            if key in known:
                found += unknown_keys(item, known[key], f"{where}.{key}")
            elif others is None and schema.get("type") == "object" and where:
                found.append(f"{where}.{key}")
    return found


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob", "RayService"])
def test_the_crds_take_the_manifests(kind: str, overlays: dict[str, Any]) -> None:
    folder = os.environ.get("KUBERAY_CRDS")
    if folder is None:
        pytest.skip("KUBERAY_CRDS names no folder with KubeRay's CRDs")
    (path,) = Path(folder).glob(f"ray.io_{kind.lower()}s.yaml*")
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    crd = yaml.load(text, yaml.CSafeLoader)
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1")
    schema = version["schema"]["openAPIV3Schema"]
    for objects in overlays.values():
        (one,) = (item for item in objects if item["kind"] == kind)
        jsonschema.Draft202012Validator(schema).validate(one)
        assert unknown_keys(one["spec"], schema["properties"]["spec"], "spec") == []


def test_kuberay_s_own_rules_for_a_job(by_kind: dict[str, Any]) -> None:
    job = by_kind["RayJob"]["spec"]
    assert job["submissionMode"] == "SidecarMode"
    assert not {"submitterPodTemplate", "submitterConfig", "clusterSelector"} & set(job)
    assert job["shutdownAfterJobFinishes"]
    assert job["ttlSecondsAfterFinished"] > 0
    assert job["backoffLimit"] > 0
    assert job["preRunningDeadlineSeconds"] < job["activeDeadlineSeconds"]
    assert job["rayClusterSpec"] == by_kind["RayCluster"]["spec"]


def test_the_entrypoint_is_one_simple_command_on_a_file_of_the_image(
    by_kind: dict[str, Any],
) -> None:
    entrypoint = by_kind["RayJob"]["spec"]["entrypoint"]
    assert not set(entrypoint) & set("&|;<>$`(){}*?\"'\\\n")  # KubeRay puts it into a shell line
    words = shlex.split(entrypoint)
    assert words[:2] == ["python", "/opt/persyn/cluster/start.py"]
    root = Path(__file__).parents[2]
    for word in words[1:3]:
        assert (root / word.removeprefix("/opt/persyn/")).is_file()
    assert words[3].startswith("run=s3://")


def clusters(by_kind: dict[str, Any]) -> list[dict[str, Any]]:
    """The cluster specification of each resource."""
    return [
        by_kind["RayCluster"]["spec"],
        by_kind["RayJob"]["spec"]["rayClusterSpec"],
        by_kind["RayService"]["spec"]["rayClusterConfig"],
    ]


def test_every_cluster_scales_has_a_token_and_keeps_work_off_its_head(
    by_kind: dict[str, Any],
) -> None:
    import ray

    for spec in clusters(by_kind):
        assert spec["rayVersion"] == ray.__version__
        assert spec["enableInTreeAutoscaling"]
        assert spec["autoscalerOptions"]["version"] == "v2"
        assert spec["authOptions"] == {"mode": "token", "secretName": "persyn-ray-token"}
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in spec["workerGroupSpecs"]:
            assert 0 <= group["minReplicas"] <= group["replicas"] <= max(1, group["maxReplicas"])
            assert group["template"]["spec"].get("restartPolicy") in (None, "Never")
            assert "numOfHosts" not in group


def test_heads_and_trainers_are_on_demand_and_teachers_may_be_spot(by_kind: dict[str, Any]) -> None:
    spec = by_kind["RayCluster"]["spec"]
    groups = {group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]}
    assert list(groups) == ["cpu", "teacher", "teacher-large", "trainer"]
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    for name, template in (groups | {"head": spec["headGroupSpec"]["template"]}).items():
        affinity = template["spec"]["affinity"]["nodeAffinity"]
        assert (required in affinity) == (name in ("head", "trainer")), name
    endpoint = by_kind["RayService"]["spec"]["rayClusterConfig"]
    assert required in endpoint["headGroupSpec"]["template"]["spec"]["affinity"]["nodeAffinity"]


def test_nothing_runs_as_root_or_may_become_it(templates: list[Template]) -> None:
    for where, template in templates:
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, where
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, where
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
        # Only the head's autoscaler talks to Kubernetes.
        is_head = "headGroupSpec" in where
        assert (pod.get("automountServiceAccountToken") is False) != is_head, where


def test_what_must_be_written_is_mounted(templates: list[Template]) -> None:
    for where, template in templates:
        volumes = {volume["name"]: volume["emptyDir"] for volume in template["spec"]["volumes"]}
        (container,) = template["spec"]["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts) == {"/dev/shm", "/tmp", "/home/persyn", "/models"}, where
        assert set(mounts.values()) == set(volumes)
        assert volumes[mounts["/dev/shm"]]["medium"] == "Memory"
        variables = {one["name"]: one.get("value") for one in container["env"]}
        assert variables["HF_HOME"].startswith("/models/")


def test_secrets_come_by_reference_alone(objects: tuple[dict[str, Any], ...]) -> None:
    assert "Secret" not in {one["kind"] for one in objects}
    for one in objects:
        text = yaml.safe_dump(one)
        assert not re.search(r"(hf_|sk-|pk-|AKIA)[A-Za-z0-9]{8}", text)
        assert not re.search(r"\b[0-9a-f]{64}\b", text)
    for item in objects:
        for where, template in _containers(item):
            for variable in template.get("env", []):
                if re.search("TOKEN|KEY|SECRET|PASSWORD", variable["name"]):
                    assert set(variable) == {"name", "valueFrom"}, (where, variable)
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}
            for source in template.get("envFrom", []):
                assert set(source) == {"secretRef"}


def _containers(node: Any, where: str = "") -> list[tuple[str, dict[str, Any]]]:
    if isinstance(node, list):
        return [found for item in node for found in _containers(item, where)]
    if not isinstance(node, dict):
        return []
    own = [(where, container) for container in node.get("containers", [])]
    return own + [f for key, item in node.items() for f in _containers(item, f"{where}.{key}")]


def test_haproxy_and_throughput_mode_on_every_pod_of_the_endpoint(
    templates: list[Template],
) -> None:
    pods = [template for where, template in templates if where.startswith("RayService")]
    assert len(pods) == 2
    for pod in pods:
        env = {one["name"]: one for one in pod["spec"]["containers"][0]["env"]}
        assert env["RAY_SERVE_ENABLE_HA_PROXY"]["value"] == "1"
        assert env["RAY_SERVE_THROUGHPUT_OPTIMIZED"]["value"] == "1"
        assert "valueFrom" in env["PERSYN_API_KEYS"]
        for name, value in INGRESS.items():
            if "HAPROXY" in name:  # as `persyn serve` sets them
                assert env[name]["value"] == value


def test_each_variable_is_read_by_somebody(templates: list[Template]) -> None:
    import huggingface_hub
    from ray.serve._private import constants

    hub = Path(huggingface_hub.__file__).parent
    sources = [Path(constants.__file__), hub / "constants.py", hub / "utils/_auth.py"]
    known = "".join(path.read_text() for path in sources) + f'"{ServingConfig().keys_env}"'
    names = {v["name"] for _, t in templates for c in t["spec"]["containers"] for v in c["env"]}
    assert names == {name for name in names if f'"{name}"' in known}


def cpus_of(container: dict[str, Any]) -> int:
    """What Ray takes for a node's CPUs: no limit is set, so that nothing is throttled."""
    assert "cpu" not in container["resources"]["limits"]
    return int(container["resources"]["requests"]["cpu"])


def test_the_endpoint_s_settings_are_settings(by_kind: dict[str, Any]) -> None:
    from ray.serve.schema import ServeDeploySchema

    service = by_kind["RayService"]["spec"]
    assert service["upgradeStrategy"] == {"type": "NewCluster"}
    config = ServeDeploySchema.model_validate(yaml.safe_load(service["serveConfigV2"]))
    assert config.http_options.host == "0.0.0.0"
    (app,) = config.applications
    arguments = dict(app.args)
    assert arguments.pop("router").startswith("s3://")
    serving = ServingConfig.model_validate(arguments)
    (group,) = service["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    cpus = cpus_of(container)
    assert serving.cpus <= cpus
    assert serving.min_replicas * serving.cpus <= group["minReplicas"] * cpus
    if by_kind["RayJob"]["metadata"]["name"] == "persyn-instruct":  # the large overlay
        assert serving.max_replicas * serving.cpus <= group["maxReplicas"] * cpus
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["serve"] == config.http_options.port
    assert container["readinessProbe"]["httpGet"]["path"] == "/-/healthz"  # of Serve's proxy


def test_the_endpoint_s_application_is_there(by_kind: dict[str, Any]) -> None:
    config = yaml.safe_load(by_kind["RayService"]["spec"]["serveConfigV2"])
    module, name = config["applications"][0]["import_path"].split(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_only_the_serve_port_is_open(objects: tuple[dict[str, Any], ...]) -> None:
    policies = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "NetworkPolicy"}
    assert set(policies) == {"persyn-runs", "persyn-endpoint"}
    for name, policy in policies.items():
        assert policy["policyTypes"] == ["Ingress"]
        for_all = [rule["ports"] for rule in policy["ingress"] if "from" not in rule]
        assert for_all == ([[{"port": 8000}]] if name == "persyn-endpoint" else [])


def test_policies_and_budgets_meet_their_pods(
    objects: tuple[dict[str, Any], ...], templates: list[Template]
) -> None:
    labels = [template["metadata"]["labels"] for _, template in templates]
    kuberay = ("ray.io/node-type",)
    for one in objects:
        spec = one.get("spec", {})
        selector = spec.get("selector" if one["kind"] == "PodDisruptionBudget" else "podSelector")
        if one["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
            wanted = {k: v for k, v in selector["matchLabels"].items() if k not in kuberay}
            assert any(wanted.items() <= mine.items() for mine in labels), one["metadata"]["name"]
        if one["kind"] == "PodDisruptionBudget":
            assert isinstance(spec["minAvailable"], int)  # all that custom resources may have


def test_parts_can_be_applied_one_by_one(objects: tuple[dict[str, Any], ...]) -> None:
    parts = {one["metadata"]["labels"]["app.kubernetes.io/component"] for one in objects}
    assert parts == {"shared", "cluster", "job", "endpoint"}
    assert {one["metadata"]["namespace"] for one in objects} == {"persyn"}
    for one in objects:  # KubeRay's limit, and DNS-1035
        assert re.fullmatch("[a-z]([-a-z0-9]{0,38}[a-z0-9])", one["metadata"]["name"])

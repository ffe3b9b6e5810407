"""An endpoint with a Ray of its own, told what to do by lines on its standard input.

The first line is the plan: `app` (`ours`, `default`), `router`, `args`, `port`, `cpus`. Then
commands: `{"do": "swap", "router": ...}`, `{"do": "states"}`, `{"do": "stop"}`. Every line is
answered by one on standard output.
"""

import json
import logging
import os
import sys
import time
from typing import Any

import ray
from ray import serve
from ray.serve.context import _get_global_client  # the dashboard's own way to take a configuration
from ray.serve.schema import ServeDeploySchema

from persyn_ray.serving.router_manager import POLICY

NAME = "router"
DEPLOY_SECONDS = 400.0
PATHS = {
    "ours": "persyn_ray.runtime.serve_replica:application",
    "default": "endpoint_parts.default_app:application",
}


def configuration(plan: dict[str, Any], policy: dict[str, Any] | None = None) -> ServeDeploySchema:
    """What a cluster is given; `policy` alone changes without new replicas."""
    app: dict[str, Any] = {"name": NAME, "route_prefix": "/", "import_path": PATHS[plan["app"]]}
    app["args"] = {"router": plan["router"]} | plan["args"]
    if policy is not None:
        app["deployments"] = [{"name": "Router", "user_config": policy}]
    return ServeDeploySchema.model_validate({"applications": [app]})


def deploy(plan: dict[str, Any], policy: dict[str, Any] | None = None) -> None:
    """Give Serve a configuration, and wait until it runs.

    Raises:
        RuntimeError: it does not run in time.
    """
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(configuration(plan, policy))
    ends = time.monotonic() + DEPLOY_SECONDS
    while (found := states())["status"] != "RUNNING":
        if found["status"] == "DEPLOY_FAILED" or time.monotonic() > ends:
            raise RuntimeError(f"The application is {found}.")
        time.sleep(0.25)


def states() -> dict[str, Any]:
    """Replicas by state, and what Serve says of the application."""
    app = serve.status().applications.get(NAME)
    if app is None:
        return {"status": "ABSENT", "message": "", "replicas": {}}
    deployments = {name: dict(one.replica_states) for name, one in app.deployments.items()}
    router = deployments.get("Router") or deployments.get("PlainRouter") or {}
    return {
        "status": app.status.value,
        "message": app.message,
        "replicas": {getattr(state, "value", state): num for state, num in router.items()},
    }


def obey(command: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """Carry out one command."""
    if command["do"] == "swap":
        kept = {name: value for name, value in plan["args"].items() if name in POLICY}
        deploy(plan, kept | {"router": command["router"]})
    return states()


def say(found: dict[str, Any]) -> None:
    """One line for the process above."""
    out.write(json.dumps(found) + "\n")
    out.flush()


def main() -> None:
    plan = json.loads(sys.stdin.readline())
    ray.init(
        address="local",
        num_cpus=plan["cpus"],
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": plan["port"]})
    deploy(plan)
    say(states() | {"session": os.path.realpath("/tmp/ray/session_latest")})
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "stop":
            break
        try:
            say(obey(command, plan))
        except Exception as error:  # the benchmark above decides what it means
            say({"error": f"{type(error).__name__}: {error}"})
    serve.shutdown()
    ray.shutdown()
    say({"stopped": True})


if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not stand between our lines
    main()

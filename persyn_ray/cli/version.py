"""`persyn version`: the package and what it stands on."""

import dataclasses

from persyn_ray.cli.shared import AsJson, console, print_json
from persyn_ray.escaping import plain


def version(as_json: AsJson = False) -> None:
    """Versions of the stack, and what this machine has."""
    from persyn_ray.pipeline.check.stack import stack

    found = stack()
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    lines = {name: number or "not installed" for name, number in found.versions.items()}
    lines |= {
        "platform": found.platform,
        "machine": f"{found.cpus} CPUs, {found.memory_gib:,.1f} GiB of memory",
        "GPUs": ", ".join(f"{gpu.name} ({gpu.memory_gib:,.0f} GiB)" for gpu in found.gpus)
        or "none that NVIDIA's driver lists",
    }
    width = max(map(len, lines))
    for name, text in lines.items():
        console.print(plain(f"{name:<{width}}  {text}"), soft_wrap=True)

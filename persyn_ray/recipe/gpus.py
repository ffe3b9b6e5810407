"""Published figures of GPUs: the name of one in, its memory, bandwidth and arithmetic out.

From the makers' data sheets and architecture papers: NVIDIA's for GeForce RTX 3090, 4090 and 5090
(GA102, AD102 and Blackwell whitepapers, bf16 with fp32 accumulation), RTX 6000 Ada, L4, L40, L40S,
A10, A40, A100 (40 GB and 80 GB SXM), H100 (SXM, PCIe, NVL), H200 SXM and B200 (HGX); AMD's for
Instinct MI300X and MI325X. Arithmetic is dense: where a data sheet gives it with sparsity, half of
it stands here. Memory is the nominal one; drivers leave a little less.
"""

from dataclasses import dataclass
from typing import Literal

GpuName = Literal[
    "rtx-3090",
    "rtx-4090",
    "rtx-5090",
    "rtx-6000-ada",
    "l4",
    "l40",
    "l40s",
    "a10",
    "a40",
    "a100-40",
    "a100-80",
    "h100",
    "h100-pcie",
    "h100-nvl",
    "h200",
    "b200",
    "mi300x",
    "mi325x",
]


@dataclass(frozen=True)
class GpuFigures:
    """What a plan goes by."""

    memory_gib: float
    bandwidth_gb: float
    """Of its memory, GB/s."""
    tflops: float
    """Dense bf16."""


GPUS: dict[str, GpuFigures] = {
    "rtx-3090": GpuFigures(24, 936, 71),
    "rtx-4090": GpuFigures(24, 1008, 165),
    "rtx-5090": GpuFigures(32, 1792, 209),
    "rtx-6000-ada": GpuFigures(48, 960, 364),
    "l4": GpuFigures(24, 300, 121),
    "l40": GpuFigures(48, 864, 181),
    "l40s": GpuFigures(48, 864, 362),
    "a10": GpuFigures(24, 600, 125),
    "a40": GpuFigures(48, 696, 150),
    "a100-40": GpuFigures(40, 1555, 312),
    "a100-80": GpuFigures(80, 2039, 312),
    "h100": GpuFigures(80, 3350, 990),
    "h100-pcie": GpuFigures(80, 2000, 756),
    "h100-nvl": GpuFigures(94, 3900, 835),
    "h200": GpuFigures(141, 4800, 990),
    "b200": GpuFigures(180, 8000, 2250),
    "mi300x": GpuFigures(192, 5300, 1307),
    "mi325x": GpuFigures(256, 6000, 1307),
}

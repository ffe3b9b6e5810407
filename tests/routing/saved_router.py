"""A saved router with random weights that tells novelty, and prompts for it."""

from pathlib import Path

TEACHERS = ("small", "org/middle", "large")


def save_random_router(backbone: str, folder: Path) -> str:
    """The folder of the router, written into one."""
    import torch

    from persyn_ray.method.novelty import Novelty
    from persyn_ray.models.chat import Message
    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.router.frozen import prompt_features
    from persyn_ray.models.router.model import build_router, save_router

    model, tokenizer = build_router(backbone, TEACHERS), load_tokenizer(backbone)
    with torch.no_grad():  # a drawn head that tells prompts apart
        model.head.weight.copy_(
            torch.randn(model.head.weight.shape, generator=torch.Generator().manual_seed(1))
        )
    save_router(model, tokenizer, folder / "router", {"max_length": 64})
    known = [[Message(role="user", content=f"Known {number}?")] for number in range(20)]
    features_PD = prompt_features(model, tokenizer, known, max_length=64)
    Novelty.fit(features_PD.double().numpy()).save(folder / "router" / "novelty.npz")
    return str(folder / "router")


def texts(number: int) -> list[str]:
    """Prompts of different lengths; some come twice."""
    return [f"{'Add ' * (one % 7)}{one % (number - 2)} and {one % 5}?" for one in range(number)]

"""The plainest way to score a response, which every faster one is measured against.

One forward pass of the model as its makers wrote it, on one conversation, with all its logits in
memory. Slow and wasteful on purpose. Axes: T tokens, V vocabulary.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from persyn_ray.models.chat import Example


@torch.inference_mode()
def plain_log_probs(model: PreTrainedModel, example: Example) -> NDArray[np.float64]:
    """Log-probability of each response token, nats, (T,)."""
    ids_1T = torch.tensor([example.ids], device=model.device)
    start = example.num_prompt_tokens
    logits_TV = model(ids_1T, use_cache=False).logits[0, start - 1 : -1].double()
    targets_T1 = ids_1T[0, start:, None]
    picked_T = logits_TV.log_softmax(-1).gather(1, targets_T1).squeeze(1)
    return picked_T.cpu().numpy()

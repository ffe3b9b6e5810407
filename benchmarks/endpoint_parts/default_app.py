"""The router behind Serve as its tutorial shows it: a FastAPI class, one prompt a request, nothing
set. What the endpoint is compared with; it reads and answers the same JSON.
"""

from typing import Any

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve

app = FastAPI()


class Question(BaseModel):
    """A request of one prompt."""

    prompt: str


@serve.deployment
@serve.ingress(app)
class PlainRouter:
    """One pass of the router a request."""

    def __init__(self, folder: str) -> None:
        from persyn_ray.serving.router_model import RouterModel

        self.model = RouterModel(folder)

    @app.post("/v1/route")
    def route(self, question: Question) -> dict[str, Any]:
        """Scores and the best teacher."""
        from persyn_ray.models.router.model import router_logits

        chat: Any = [{"role": "user", "content": question.prompt}]
        model = self.model
        logits_M = router_logits(
            model.router, model.tokenizer, [chat], max_length=model.max_length
        )[0]
        scores = dict(zip(model.teachers, logits_M.tolist(), strict=True))
        best = max(scores, key=scores.__getitem__)
        return {
            "router": {"version": model.version},
            "routes": [{"teacher": best, "scores": scores}],
            "threads": torch.get_num_threads(),
        }


def application(args: dict[str, str]) -> serve.Application:
    """The deployment, with Serve's defaults."""
    return PlainRouter.bind(args["router"])

"""A plan as JSON: what `persyn plan` shows on a terminal in, plain values under stable keys out."""

from collections.abc import Sequence

from persyn_ray.pipeline.plan.forecasts.estimate import Forecast, TeacherForecast
from persyn_ray.pipeline.plan.placement import Placed
from persyn_ray.pipeline.plan.plan import Plan
from persyn_ray.storage.records import Settings

GIB = 2**30


def plan_json(plan: Plan) -> Settings:
    """All figures of a plan; what is not known is null. Tokens are the responses', seconds and
    dollars of the teachers alone.
    """
    collect, synthesize = plan.anew
    return {
        "run": plan.recipe.run,
        "steps": [vars(row) for row in plan.rows],
        "prompts": plan.num_prompts,
        "responses": {
            "collect": plan.responses_collect,
            "routed": plan.responses_routed,
            "generate_then_select": plan.responses_generate_then_select,
        },
        "teachers": {name: _teacher(plan, name) for name in plan.recipe.pool},
        "memory": {name: _memory(placed) for name, placed in plan.placed.items()},
        "score": [vars(one) for one in plan.score],
        "router": plan.router and vars(plan.router),
        "training": _training(plan),
        "to_do": {step: _totals([forecast]) for step, forecast in plan.steps.items()},
        "from_the_start": {
            "route_then_generate": _totals([collect, synthesize]),
            "generate_then_select": _totals([plan.everything]),
        },
        "share_source": plan.share_source,
        "notes": list(plan.notes),
        "warnings": list(plan.warnings),
    }


def _training(plan: Plan) -> Settings | None:
    """What fine-tuning takes; memory in GiB on the GPU of each worker."""
    if plan.training is None:
        return None
    found, need = vars(plan.training), plan.training.need
    memory = None if need is None else {name: of / GIB for name, of in vars(need).items()}
    if memory is not None and need is not None:
        memory["total"] = need.total / GIB
    return found | {"need": memory}


def _teacher(plan: Plan, name: str) -> Settings:
    """What one teacher still has to write, by step."""
    return {step: _part(forecast.teachers[name]) for step, forecast in plan.steps.items()}


def _part(one: TeacherForecast) -> Settings:
    names = ("prompts", "tokens", "prompt_tokens", "at_most", "seconds", "gpu_seconds", "dollars")
    return {name: getattr(one, name) for name in (*names, "source")}


def _totals(forecasts: Sequence[Forecast]) -> Settings:
    seconds = [forecast.seconds for forecast in forecasts]
    dollars = [forecast.dollars for forecast in forecasts if forecast.dollars is not None]
    return {
        "responses": sum(one.prompts for part in forecasts for one in part.teachers.values()),
        "tokens": sum(forecast.tokens for forecast in forecasts),
        "at_most": any(forecast.at_most for forecast in forecasts),
        "seconds": None if None in seconds else sum(filter(None, seconds)),
        "gpu_seconds": sum(forecast.gpu_seconds for forecast in forecasts),
        "dollars": sum(dollars) if dollars else None,
    }


def _memory(placed: Placed) -> Settings:
    return {
        "weights_gib": placed.model.weight_bytes / GIB,
        "need_per_gpu_gib": placed.need.total / GIB,
        "usable_per_gpu_gib": placed.gpu.usable_bytes / GIB,
        "tensor_parallel": placed.layout.tensor,
        "pipeline_parallel": placed.layout.pipeline,
    }

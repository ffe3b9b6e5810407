"""The `assignment` section of a recipe: limits on what PerSyn may give to whom. Off by default."""

from typing import Annotated

from pydantic import Field

from persyn_ray.recipe.base import Section


class AssignmentConfig(Section):
    """Limits on PerSyn's assignment of the parallel and routed prompts; no baseline has any.

    Costs are expected ones: a teacher's mean stored response to the parallel set. Next-best
    teachers (`responses.incomplete: next_best`) are asked even where that goes over a limit.
    """

    max_tokens: float | None = Field(default=None, gt=0)
    """Response tokens, in the student's where a teacher is recorded."""
    max_dollars: float | None = Field(default=None, ge=0)
    """By `price`, or by `hardware.gpu_hour_dollars` for a teacher on GPUs; others cost nothing."""
    max_gpu_seconds: float | None = Field(default=None, ge=0)
    """By the speeds that `persyn plan` reckons with on `hardware`, without loading. A teacher
    without GPUs takes none."""
    capacity: dict[str, Annotated[int, Field(ge=0)]] = Field(default={})
    """Most prompts of a teacher, by its name."""
    min_share: float | None = Field(default=None, ge=0, le=1)
    """Least share of the prompts for every teacher that can take any."""

    @property
    def is_limited(self) -> bool:
        """Whether any limit is set."""
        return self != AssignmentConfig()  # pyright: ignore[reportCallIssue]

    def require_teachers(self, active: tuple[str, ...]) -> None:
        """Refuse a capacity of nobody's, and shares that are more than there is."""
        for name in self.capacity:
            if name not in active:
                raise ValueError(f"assignment.capacity has {name!r}, no teacher asked: {active}")
        if self.min_share is not None and self.min_share * len(active) > 1:
            raise ValueError(
                f"assignment.min_share {self.min_share:g} for each of {len(active)} teachers is "
                f"more than all prompts: at most {1 / len(active):.4g}"
            )

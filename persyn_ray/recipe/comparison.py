"""The recipe's `compare`: baselines that fill the same assignment and share every later step."""

from typing import Literal

from pydantic import Field

from persyn_ray.recipe.base import Section

BASELINES = ("random", "best_constant", "strong", "oracle")
Method = Literal[
    "random",
    "best_constant",
    "strong",
    "mix",
    "family_strong",
    "car",
    "quality_only",
    "learnability_only",
    "task_constant",
    "knn",
    "linear_probe",
    "stacked",
    "oracle",
]

EMBEDDED = ("knn", "linear_probe", "stacked")
"""Methods that read the frozen backbone's embeddings."""
SELECTING = ("oracle", "quality_only", "learnability_only")
"""Methods that select among the responses of all teachers."""


class CompareConfig(Section):
    """Other ways to fill the assignment, measured beside PerSyn."""

    methods: tuple[Method, ...] = BASELINES
    """References. They share every later step. Of these oracle, quality_only and learnability_only
    select among all teachers' responses."""
    strong: str | None = None
    """The most capable teacher; the best mean quality on the parallel set by default."""
    weak: str | None = None
    """The other teacher of `mix`; the lowest mean quality on the parallel set by default."""
    mix_share: float = Field(0.2, ge=0, le=1)
    """Share of the strong teacher in `mix` (Mix distillation: 1 to 4; the paper's is not known)."""
    family: tuple[str, ...] = ()
    """Teachers of the student's own family, of whom `family_strong` takes the strongest."""
    car_beta: float = Field(1.0, ge=0)
    """Weight of the loss in CAR; the papers' value is not known."""
    num_neighbours: int | None = Field(None, ge=1)
    """Parallel prompts that `knn` looks at; chosen on the parallel set by default."""
    students: bool = False
    """Also generate, fine-tune and evaluate for each method. What each one's teachers write is
    checked, too, where `scoring.quality` is one check."""
    heldout: bool = False
    """All teachers answer the held-out prompts too, so that routed reward can be measured there."""

    def require_teachers(self, names: tuple[str, ...]) -> None:
        """Refuse names that are no teacher's, and family_strong without a family."""
        for key, given in (
            ("strong", (self.strong,)),
            ("weak", (self.weak,)),
            ("family", self.family),
        ):
            for name in given:
                if name is not None and name not in names:
                    raise ValueError(f"compare.{key} is {name!r}, which is no teacher: {names}")
        if "family_strong" in self.methods and not self.family:
            raise ValueError(
                "compare.methods has family_strong: list the teachers of the student's family in "
                "compare.family"
            )

"""Students of the lab: fit a router, tune a student and let it answer, each as one job on one core.

The very functions of the pipeline, DeepSpeed included, without Ray around them. Every result is
kept below a cache folder under a name made of all that determines it: two methods that choose the
same data share a student, and an interrupted experiment goes on, a student from its last checkpoint
where its settings ask for such (`finetune.save_steps`).
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.training import FinetuneConfig
from persyn_ray.storage.records import fingerprint
from persyn_ray.storage.schemas import EXAMPLES


class Tuning(NamedTuple):
    """A student to be tuned on (prompt id, text of the prompt, response) rows."""

    student: StudentConfig
    settings: FinetuneConfig
    rows: tuple[tuple[str, str, str], ...]

    @property
    def key(self) -> str:
        """Names the result."""
        what = self.student.model_dump(mode="json"), self.settings.model_dump(mode="json")
        return fingerprint({"what": what, "rows": [list(row) for row in self.rows]})[:16]


def tuned(folder: Path, tuning: Tuning, recipe: Recipe, heldout: pa.Table) -> dict[str, Any]:
    """Tune, let it answer the held-out problems and keep the verdicts, in the problems' order."""
    path = folder / "students" / f"{tuning.key}.json"
    if path.exists():
        return json.loads(path.read_text())
    path.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    scratch = folder / "fits" / tuning.key
    loss = _tune(tuning, scratch)
    tuned_student = tuning.student.model_copy(update={"name": str(scratch / "student")})
    correct = answered(tuned_student, recipe, heldout)
    facts = {"correct": correct, "loss": loss, "seconds": round(time.monotonic() - started, 1)}
    path.with_suffix(".part").write_text(json.dumps(facts))
    path.with_suffix(".part").rename(path)
    shutil.rmtree(scratch)
    return facts


def answered(student: StudentConfig, recipe: Recipe, heldout: pa.Table) -> str:
    """A student's verdicts on held-out problems, 1 or 0 each."""
    from persyn_ray.stages.evaluate import Evaluate

    stage = Evaluate("student", student, recipe.evaluate, recipe.scoring.quality)  # pyright: ignore[reportArgumentType]
    table = stage(heldout)
    of = dict(zip(table["prompt_id"].to_pylist(), table["correct"].to_pylist(), strict=True))
    return "".join("1" if of[name] else "0" for name in heldout["prompt_id"].to_pylist())


def _tune(tuning: Tuning, scratch: Path) -> float | None:
    from persyn_ray.models import load
    from persyn_ray.models.finetune.export import merge_adapters, save_student
    from persyn_ray.models.finetune.token_table import TokenTable
    from persyn_ray.models.finetune.train import finetune
    from persyn_ray.models.router.model import pad_of
    from persyn_ray.models.templates.end_of_turn import end_of_turn
    from persyn_ray.stages.encode import Encoder

    _alone()
    student = tuning.student
    tokenizer = load.load_tokenizer(student.name, student.revision, student.chat_template)
    load_model = partial(load.load_causal_lm, student.name, student.dtype, student.revision)
    fit, end_id, settings = scratch / "fit", end_of_turn(tokenizer), tuning.settings
    encode = Encoder(tokenizer, student, settings.max_length, settings.too_long)
    table = TokenTable(encode([_examples(tuning.rows)]), pad_of(tokenizer))
    resume = _last_checkpoint(fit)
    trainer, losses = finetune(load_model, tokenizer, table, settings, fit, resume=resume)
    save_student(trainer, tokenizer, end_id, scratch / "trained")
    # `lora: auto` goes by the student's size: what was saved says whether it is adapters.
    if (scratch / "trained" / "adapter_config.json").exists():
        merge_adapters(load_model, tokenizer, scratch / "trained", end_id, scratch / "student")
    else:
        shutil.rmtree(scratch / "student", ignore_errors=True)  # of a run that ended in its answers
        (scratch / "trained").rename(scratch / "student")
    return losses[-1].train_loss if losses else None


def _examples(rows: Sequence[tuple[str, str, str]]) -> pa.Table:
    """Rows with a response as the encoder takes them; whose it is does not matter here."""
    said = [
        {
            "prompt_id": name,
            "teacher": "",
            "messages": [
                {"role": "user", "content": text},
                {"role": "assistant", "content": response},
            ],
        }
        for name, text, response in rows
        if response
    ]
    return pa.Table.from_pylist(said, schema=EXAMPLES)


def _last_checkpoint(fit: Path) -> Path | None:
    """The newest whole checkpoint of a training that was interrupted; its state is written last."""
    states = list(fit.glob("checkpoint-*/trainer_state.json"))
    steps = {int(state.parent.name.rpartition("-")[2]): state.parent for state in states}
    return steps[max(steps)] if steps else None


def _alone() -> None:
    """DeepSpeed wants a process group, and to be told that there is no GPU."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    port = str(20_000 + os.getpid() % 20_000)
    alone = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": "0"}
    os.environ.update(alone | {"LOCAL_RANK": "0", "WORLD_SIZE": "1"})


class RouterFit(NamedTuple):
    """A router to be fitted on the preferences of some prompts."""

    recipe: Recipe
    texts: tuple[str, ...]
    ids: tuple[str, ...]
    rewards_PM: np.ndarray
    asked: tuple[str, ...]
    """Prompts that logits are wanted for."""

    @property
    def key(self) -> str:
        """Names the result."""
        from persyn_ray.method.preferences import preferences

        settings = self.recipe.router.model_dump(mode="json")
        wins = preferences(self.rewards_PM, self.recipe.router.ties)
        if self.recipe.router.loss != "bradley_terry":
            wins = self.rewards_PM
        what = {"settings": settings, "ids": list(self.ids), "asked": list(self.asked)}
        return fingerprint(what | {"wins": wins.tobytes().hex()})[:16]


def fitted_logits(folder: Path, job: RouterFit) -> np.ndarray:
    """Fit a router as the pipeline does and return its logits for the prompts asked, (P, M)."""
    path = folder / "routers" / f"{job.key}.npy"
    if path.exists():
        return np.load(path)
    from persyn_ray.models.router.model import router_logits

    path.parent.mkdir(parents=True, exist_ok=True)
    router, tokenizer = _fitted(job)
    logits_PM = router_logits(router, tokenizer, _conversations(job.asked), 16384, 1024)
    np.save(path, logits_PM)
    return logits_PM


def _fitted(job: RouterFit) -> tuple[Any, Any]:
    """A router fitted on its prompts but the held-out ones, and its tokenizer."""
    from persyn_ray.method.preferences import preferences
    from persyn_ray.models import fit, load
    from persyn_ray.models.router.losses import TARGETS
    from persyn_ray.models.router.model import build_router, encode_router_prompts
    from persyn_ray.shards.tables import heldout_mask

    settings, backbone = job.recipe.router, job.recipe.router.backbone
    tokenizer = load.load_tokenizer(backbone.name, backbone.revision, backbone.chat_template)
    encoded = encode_router_prompts(tokenizer, _conversations(job.texts), settings.max_length)
    is_regression = TARGETS[settings.loss] == "rewards"
    targets_P = job.rewards_PM if is_regression else preferences(job.rewards_PM, settings.ties)
    rows = [
        {"input_ids": ids, TARGETS[settings.loss]: target}
        for ids, target in zip(encoded, targets_P, strict=True)
    ]
    out_P = heldout_mask(job.ids, settings.heldout_fraction, settings.seed)
    fitting = [row for row, out in zip(rows, out_P, strict=True) if not out]
    stopping = [row for row, out in zip(rows, out_P, strict=True) if out]
    names = job.recipe.pool.names
    router = build_router(backbone.name, names, settings.pooling, backbone.dtype, settings.seed)
    with tempfile.TemporaryDirectory() as scratch:
        fit.fit_router(router, tokenizer, fitting, stopping, settings, Path(scratch))
    return router.eval(), tokenizer


def embeddings(recipe: Recipe, texts: tuple[str, ...]) -> np.ndarray:
    """What the router's backbone makes of prompts before it is fitted, (P, D)."""
    from persyn_ray.models import load
    from persyn_ray.models.router.frozen import prompt_features
    from persyn_ray.models.router.model import build_router

    backbone = recipe.router.backbone
    tokenizer = load.load_tokenizer(backbone.name, backbone.revision, backbone.chat_template)
    router = build_router(backbone.name, recipe.pool.names, recipe.router.pooling, backbone.dtype)
    return prompt_features(router, tokenizer, _conversations(texts)).double().numpy()


def _conversations(texts: tuple[str, ...]) -> list[Any]:
    return [[{"role": "user", "content": text}] for text in texts]


class Newcomer(NamedTuple):
    """A teacher that joins a router fitted without it, on a probe of the parallel set."""

    old: RouterFit
    names: tuple[str, ...]
    """The whole pool."""
    newcomer: str
    rewards_PM: np.ndarray
    """Of the whole pool; the newcomer's are unknown outside the probe."""

    @property
    def key(self) -> str:
        """Names the result."""
        probe = self.rewards_PM[:, self.names.index(self.newcomer)].tobytes().hex()
        return f"newcomer-{self.newcomer}-{fingerprint({'old': self.old.key, 'probe': probe})[:12]}"


def joined_logits(folder: Path, job: Newcomer) -> np.ndarray:
    """Logits of the whole pool for the prompts asked, (P, M): old columns as they were, one new."""
    path = folder / "routers" / f"{job.key}.npy"
    if path.exists():
        return np.load(path)
    from persyn_ray.method.allocation import draws
    from persyn_ray.method.new_teacher import new_column
    from persyn_ray.models.router.frozen import add_columns, feature_logits, prompt_features
    from persyn_ray.shards.tables import heldout_mask

    settings = job.old.recipe.router
    router, tokenizer = _fitted(job.old)
    fit_P = ~heldout_mask(job.old.ids, settings.heldout_fraction, settings.seed)
    features_PD = prompt_features(router, tokenizer, _conversations(job.old.texts)).double().numpy()
    column = new_column(
        features_PD[fit_P],
        router.head.weight.detach().double().numpy(),
        router.head.bias.detach().double().numpy(),
        np.delete(job.rewards_PM, job.names.index(job.newcomer), axis=1)[fit_P],
        job.rewards_PM[fit_P, job.names.index(job.newcomer)],
        (draws(job.old.ids, [""], settings.seed, "fold")[fit_P, 0] * 5).astype(int),
    )
    larger = add_columns(router, job.names, {job.newcomer: (column.weight_D, column.bias)})
    asked_PD = prompt_features(router, tokenizer, _conversations(job.old.asked))
    logits_PM = feature_logits(larger.head, asked_PD)
    np.save(path, logits_PM)
    return logits_PM

"""Fit the router and fine-tune students on Ray Train workers.

The loops below run on every worker; the Trainer finds the process group that Ray set up. What they
learn goes into the run folder, and the proof that it is complete is written last. Checkpoints go
through Ray Train, so that a worker's death or a new start goes on from the last one.
"""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray.train
from ray.exceptions import RayError
from ray.train.torch import TorchConfig, TorchTrainer

from persyn_ray.errors import PersynError, StepError
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import TrainResourcesConfig
from persyn_ray.runtime.pools import describe
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import run_of

METHOD_FILE = "method.txt"  # in a checkpoint: whose student it is
FAILURE_FILE = "training.failed"
PROGRESS_FILE = "training.progress"  # in the records: what is trained and how far it is


def fit_router(recipe: Recipe, identity: str) -> None:
    """Fit the router, and all others that the recipe asks for; leaves RUN/router."""
    _clear(recipe)
    _train(_router_loop, recipe, recipe.resources.router, f"router-{identity}", ())


def finetune(recipe: Recipe, methods: Sequence[str], identity: str) -> None:
    """Fine-tune one student per method; leaves RUN/students/METHOD. Finished students are kept.

    Methods are dealt out to as many training runs as may go side by side; each run takes its
    methods one after the other, because a run costs half a minute before its first step.
    """
    resources = recipe.resources.finetune
    num_runs = min(resources.side_by_side, len(methods))
    train = partial(_train, _finetune_loop, recipe, resources)
    jobs = [
        (f"finetune-{identity}-{number}", tuple(methods[number::num_runs]))
        for number in range(num_runs)
    ]
    _clear(recipe)
    if len(jobs) == 1:
        return train(*jobs[0])
    pool = ThreadPoolExecutor(len(jobs))
    try:
        for done in [pool.submit(train, *job) for job in jobs]:
            done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _clear(recipe: Recipe) -> None:
    """Remove what an earlier training left for the driver to read."""
    for leftover in (FAILURE_FILE, PROGRESS_FILE):
        run_of(recipe).records.remove(leftover)


def _train(
    loop: Callable[[dict[str, Any]], None],
    recipe: Recipe,
    resources: TrainResourcesConfig,
    name: str,
    methods: tuple[str, ...],
) -> None:
    trainer = TorchTrainer(
        partial(_guarded, loop),
        train_loop_config={"recipe": recipe, "methods": methods, "folder": os.getcwd()},
        scaling_config=ray.train.ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus, "GPU": resources.gpus},
        ),
        torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=run_of(recipe).checkpoints.address,
            failure_config=ray.train.FailureConfig(max_failures=resources.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
        ),
    )
    records = run_of(recipe).records
    try:
        trainer.fit()
    except (RayError, ray.train.TrainingFailedError) as error:
        raise StepError(f"Training {name} failed. {describe(error)}") from error
    if records.exists(FAILURE_FILE):
        raise StepError(f"Training {name} failed. {records.read_text(FAILURE_FILE)}")


def _guarded(loop: Callable[[dict[str, Any]], None], config: dict[str, Any]) -> None:
    """Run a loop; what is wrong with the recipe or the data is told once instead of tried again."""
    try:
        loop(config)
    except PersynError as error:
        # It follows from the data, so every worker has met it and none waits for another.
        if ray.train.get_context().get_world_rank() == 0:
            run_of(config["recipe"]).records.write_text(FAILURE_FILE, str(error))


def _prepare(config: dict[str, Any], resources: TrainResourcesConfig) -> Recipe:
    """Common start of both loops: working folder and threads."""
    import torch

    if os.path.isdir(config["folder"]):
        os.chdir(config["folder"])
    if not resources.gpus:
        torch.set_num_threads(max(1, int(resources.cpus)))
    return config["recipe"]


def _prepare_deepspeed(resources: TrainResourcesConfig) -> None:
    """Without GPUs DeepSpeed has to be told, and kept from building what it can do without."""
    if not resources.gpus:
        os.environ["DS_ACCELERATOR"] = "cpu"
        import deepspeed.ops

        # This operator only speeds up collectives between sockets; building its C++ at the first
        # start took 129 s on two cores.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _router_loop(config: dict[str, Any]) -> None:
    from persyn_ray.shards.fit_router import fit_routers

    recipe: Recipe = _prepare(config, config["recipe"].resources.router)
    watch = partial(_progress_writer, run_of(recipe).records)
    is_first = ray.train.get_context().get_world_rank() == 0
    ray.train.report({"num_fit": fit_routers(recipe, watch, is_first)})


def _finetune_loop(config: dict[str, Any]) -> None:
    from persyn_ray.models import load

    recipe: Recipe = _prepare(config, config["recipe"].resources.finetune)
    _prepare_deepspeed(recipe.resources.finetune)
    run, student = run_of(recipe), recipe.student
    tokenizer = load.load_tokenizer(
        student.name, student.revision, student.chat_template, student.trust_remote_code
    )
    for method in config["methods"]:
        if not run.student(method).exists("finetune.json"):
            _finetune_one(recipe, method, tokenizer)
    ray.train.report({"students": len(config["methods"])})


def _finetune_one(recipe: Recipe, method: str, tokenizer: Any) -> None:
    from persyn_ray.models import fit, load
    from persyn_ray.stages.encode import encoded_examples

    run, student, context = run_of(recipe), recipe.student, ray.train.get_context()
    examples, left_out = encoded_examples(recipe, method, tokenizer)
    with TemporaryDirectory() as scratch:
        trainer, losses = fit.finetune(
            partial(
                load.load_causal_lm,
                student.name,
                student.dtype,
                student.revision,
                student.trust_remote_code,
            ),
            tokenizer,
            examples,
            recipe.finetune,
            Path(scratch) / "fit",
            num_workers=context.get_world_size(),
            resume=_checkpoint_of(method, Path(scratch)),
            callbacks=[_checkpoint_reporter(method), _progress_writer(run.records, method)],
        )
        folder = Path(scratch) / "student"
        fit.export(trainer, tokenizer, folder)
        if context.get_world_rank() == 0:
            run.remove(run.student(method))
            run.student(method).upload(folder)
            facts = {
                "num_examples": len(examples),
                **asdict(left_out),
                "num_steps": trainer.state.global_step,
                "loss_curve": losses,
            }
            run.student(method).write_text("finetune.json", json.dumps(facts, indent=2))


def _checkpoint_of(method: str, scratch: Path) -> Path | None:
    """The last checkpoint, when it is of this method's student."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    folder = Path(checkpoint.to_directory(str(scratch / "resume")))
    mark = folder / METHOD_FILE
    return folder if mark.exists() and mark.read_text("utf-8") == method else None


def _checkpoint_reporter(method: str) -> Any:
    """A Trainer callback that hands every checkpoint to Ray Train, on all workers."""
    from transformers import TrainerCallback

    class ReportCheckpoint(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            folder.mkdir(exist_ok=True)
            (folder / METHOD_FILE).write_text(method, "utf-8")
            checkpoint = ray.train.Checkpoint.from_directory(str(folder))
            ray.train.report({"step": state.global_step}, checkpoint=checkpoint)

    return ReportCheckpoint()


def _progress_writer(records: Folder, what: str) -> Any:
    """A Trainer callback that leaves the state of training where the driver can read it."""
    from transformers import TrainerCallback

    class WriteProgress(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero and state.log_history:
                last = state.log_history[-1]
                loss = last.get("loss", last.get("eval_loss", last.get("train_loss", 0.0)))
                steps = {"step": state.global_step, "steps": state.max_steps, "loss": loss}
                records.write_json(PROGRESS_FILE, {"what": what, **steps})

    return WriteProgress()

"""Fit the router and fine-tune students on Ray Train workers.

The loops below run on every worker. What they learn goes into the run folder, and the proof that it
is complete is written last.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import ray.train
from ray.exceptions import RayError

from persyn_ray.errors import StepError
from persyn_ray.models.finetune.partitioning import DeepspeedConfig, zero_stage
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.resources import TrainResourcesConfig
from persyn_ray.recipe.router import RouterConfig
from persyn_ray.recipe.training import FinetuneConfig
from persyn_ray.runtime.pools import describe
from persyn_ray.runtime.train.best_students import BestStudents
from persyn_ray.runtime.train.checkpoints import (
    CheckpointMark,
    checkpoint_callback,
    last_checkpoint,
    reporting,
    room_keeper,
)
from persyn_ray.runtime.train.encoding import Encoded, encode_together, tokens_folder
from persyn_ray.runtime.train.logs import TrainingLogs
from persyn_ray.runtime.train.workers import (
    Training,
    clear,
    prepare_worker,
    train_on_workers,
)
from persyn_ray.storage.fits import TUNED_STUDENT_FILE, read_tuned_student, write_tuned_student
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.results import TrainingLoss, TunedStudent

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from persyn_ray.models.finetune.student_trainer import StudentTrainer

ADAPTER = "adapter"  # in a student's folder, beside the merged weights


@dataclass(frozen=True)
class RouterTraining(Training):
    """The fit of a run's router, and of all others that the section asks for."""

    config: RouterConfig
    pool: TeacherPool


@dataclass(frozen=True)
class StudentTraining(Training):
    """Fine-tuning of one student per method, one after the other."""

    config: FinetuneConfig
    """With `lora` as it is, and not `auto`."""
    deepspeed: DeepspeedConfig
    student: StudentConfig
    methods: tuple[str, ...]


def fit_router(training: RouterTraining, identity: str) -> None:
    """Fit the router, and all others that are asked for; leaves RUN/router."""
    clear(training.run)
    train_on_workers(_router_loop, training, f"router-{identity}")


def finetune(training: StudentTraining, identity: str) -> None:
    """Fine-tune one student per method; leaves RUN/students/METHOD. Finished students are kept.

    Methods are dealt out to as many training runs as may go side by side; each run takes its
    methods one after the other, because a run costs half a minute before its first step. Adapters
    are merged when all are trained, and lie in RUN/students/METHOD/adapter as well.
    """
    clear(training.run)
    train = partial(train_on_workers, _finetune_loop)
    jobs = [
        (replace(training, methods=methods), f"finetune-{identity}-{number}")
        for number, methods in enumerate(_dealt_out(training))
        if methods
    ]
    if len(jobs) == 1:
        train(*jobs[0])
    elif jobs:
        _side_by_side(train, jobs)
    _merge_all(training)


def _dealt_out(training: StudentTraining) -> list[tuple[str, ...]]:
    """Methods that each training run still has to train; each stays with its run's checkpoints."""
    num_runs = min(training.resources.side_by_side, len(training.methods))
    left = [method for method in training.methods if not _is_trained(training, method)]
    return [
        tuple(method for method in training.methods[number::num_runs] if method in left)
        for number in range(num_runs)
    ]


def _is_trained(training: StudentTraining, method: str) -> bool:
    places = (training.run.student(method), _trained(training, method))
    return any(place.exists(TUNED_STUDENT_FILE) for place in places)


def _merge_all(training: StudentTraining) -> None:
    """Merge the adapters of all students that are not whole yet, one after the other."""
    merge = ray.remote(_merge).options(num_cpus=training.resources.cpus)
    for method in training.methods:
        if training.run.student(method).exists(TUNED_STUDENT_FILE):
            continue
        try:
            ray.get(merge.remote(training, method, os.getcwd()))
        except RayError as error:
            raise StepError(f"Merging student {method} failed. {describe(error)}") from error


def _side_by_side(
    train: Callable[[StudentTraining, str], None], jobs: Sequence[tuple[StudentTraining, str]]
) -> None:
    pool = ThreadPoolExecutor(len(jobs))
    try:
        for done in [pool.submit(train, *job) for job in jobs]:
            done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _prepare_deepspeed(resources: TrainResourcesConfig) -> None:
    """Without GPUs DeepSpeed has to be told, and kept from building what it can do without."""
    if not resources.gpus:
        os.environ["DS_ACCELERATOR"] = "cpu"
        import deepspeed.ops

        # This operator only speeds up collectives between sockets; building its C++ at the first
        # start took 129 s on two cores.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _router_loop(training: RouterTraining) -> None:
    from persyn_ray.shards.fit_router import fit_routers

    logs = TrainingLogs(training.run, "router", training.config.report_to)
    num_fit = fit_routers(
        training.run,
        training.config,
        training.pool,
        ray.train.get_context().get_world_size(),
        watch=logs.begin,
        is_first=ray.train.get_context().get_world_rank() == 0,
    )
    logs.end()
    ray.train.report({"num_fit": num_fit})


def _finetune_loop(training: StudentTraining) -> None:
    _prepare_deepspeed(training.resources)
    logs = TrainingLogs(training.run, "finetune", training.config.report_to)
    for method in training.methods:
        _finetune_one(training, method, logs)
    logs.end()
    ray.train.report({"students": len(training.methods)})


def _finetune_one(training: StudentTraining, method: str, logs: TrainingLogs) -> None:
    from persyn_ray.models.finetune.export import save_student
    from persyn_ray.models.finetune.token_table import TokenTable
    from persyn_ray.models.finetune.train import finetune
    from persyn_ray.models.finetune.validation import measured
    from persyn_ray.models.router.model import pad_of

    run, student, config = training.run, training.student, training.config
    context = ray.train.get_context()
    tokenizer, end_id = _tokenizer(student)
    mark = CheckpointMark(method, context.get_world_size(), zero_stage(training.deepspeed))
    save = partial(save_student, tokenizer=tokenizer, end_id=end_id)
    with (
        TemporaryDirectory() as scratch,
        last_checkpoint(mark) as resume,
        reporting(mark) as reporter,
    ):
        best = BestStudents(run, method, lambda t, to: save(t, folder=to), Path(scratch) / "best")
        encoded = encode_together(run, student, config, method, tokenizer, Path(scratch))
        examples = TokenTable(encoded.table, pad_of(tokenizer))
        trainer, losses = finetune(
            _model_loader(student),
            tokenizer,
            examples,
            config,
            Path(scratch) / "fit",
            num_workers=context.get_world_size(),
            resume=resume,
            callbacks=[
                room_keeper(run.checkpoints),
                checkpoint_callback(reporter),
                logs.begin(method),
            ],
            deepspeed=training.deepspeed,
            keep_best=best.keep,
        )
        last, found = trainer.state.global_step, measured(trainer.state.log_history)
        kept = found.best_step if found and config.keep == "best" else last
        folder = Path(scratch) / "student"
        if kept == last:
            save(trainer, folder=folder)
        elif context.get_world_rank() == 0:
            folder = best.student(kept).download(folder)
        if context.get_world_rank() == 0:
            done = _facts(encoded, trainer, losses, kept)
            _leave(_trained(training, method), folder, done)
            run.remove(tokens_folder(run, method))


def _facts(
    encoded: Encoded, trainer: "StudentTrainer", losses: list[TrainingLoss], kept: int
) -> TunedStudent:
    """What became of the examples, and of training."""
    left_out, last = encoded.left_out, trainer.state.global_step
    heldout: Any = trainer.eval_dataset
    return TunedStudent(
        num_examples=encoded.table.num_rows,
        num_too_long=left_out.too_long.total(),
        too_long_by_teacher=dict(left_out.too_long),
        num_unreadable=left_out.num_unreadable,
        first_unreadable=left_out.first_unreadable,
        num_heldout=len(heldout or ()),
        num_steps=last,
        kept_step=kept,
        is_stopped_early=last < trainer.state.max_steps,
        loss_curve=losses,
        speed=trainer.speed,
    )


def _tokenizer(student: StudentConfig) -> "tuple[PreTrainedTokenizerBase, int]":
    """The student's tokenizer, and the id that ends its turns."""
    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.templates.end_of_turn import end_of_turn

    tokenizer = load_tokenizer(
        student.name, student.revision, student.chat_template, student.trust_remote_code
    )
    return tokenizer, end_of_turn(tokenizer, student.end_of_turn, student.template_kwargs)


def _model_loader(student: StudentConfig) -> "Callable[[], PreTrainedModel]":
    from persyn_ray.models.load import load_causal_lm

    code = student.trust_remote_code
    return partial(load_causal_lm, student.name, student.dtype, student.revision, code)


def _trained(training: StudentTraining, method: str) -> Folder:
    """Where training leaves a student: its adapters lie with the checkpoints until merged."""
    if training.config.lora is None:
        return training.run.student(method)
    return training.run.checkpoints / "adapters" / method


def _leave(folder: Folder, files: Path, done: TunedStudent) -> None:
    """Put a student's files where they belong; the facts come last, as proof that it is whole."""
    folder.upload(files)
    write_tuned_student(folder, done)


def _merge(training: StudentTraining, method: str, folder: str) -> None:
    """Merge a student's adapters; one process with the whole model in its memory."""
    from persyn_ray.models.finetune.export import merge_adapters

    prepare_worker(training.resources, folder)
    adapter, student = _trained(training, method), training.student
    tokenizer, end_id = _tokenizer(student)
    with TemporaryDirectory() as scratch:
        adapters = adapter.download(Path(scratch) / ADAPTER)
        merged = Path(scratch) / "merged"
        merge_adapters(_model_loader(student), tokenizer, adapters, end_id, merged)
        ignored = shutil.ignore_patterns(TUNED_STUDENT_FILE)
        shutil.copytree(adapters, merged / ADAPTER, ignore=ignored)
        _leave(training.run.student(method), merged, read_tuned_student(adapter))

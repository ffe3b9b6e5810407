"""Engine on vLLM's AsyncLLM; several calls share one engine, so that batches overlap.

`generate` may be called from many threads: their requests meet in one engine, which batches them as
they come (continuous batching). Prompts are tokenised here, by the same code as every other local
engine, and finish reasons come back as vLLM gives them. Several GPUs: tensor and pipeline parallel,
with vLLM's workers in a placement group that whoever runs this engine has made, or as processes of
this one.

A response's seed is made of the teacher's and the prompt's, so that it does not depend on the
others of its batch; where the backend cannot do that, the engine's alone counts (see `vllm_host`).

An engine that has died cannot be revived in its process: `EngineDead` is raised, and whoever holds
the process replaces it. Nothing is retried here.
"""

import asyncio
import itertools
import logging
import sys
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, ClassVar

from persyn_ray.data.selection import seeded_draw
from persyn_ray.engines.base import Completion, Done, Occupancy, Request, in_order
from persyn_ray.engines.prompting import Encoded, PromptEncoder
from persyn_ray.engines.vllm_host import EngineLog, cpu_defaults, has_no_gpu, seeds_requests
from persyn_ray.engines.vllm_occupancy import OccupancyMeter
from persyn_ray.errors import ConfigError, EngineDead
from persyn_ray.models.load import resolve
from persyn_ray.recipe.engines import VllmEngineConfig
from persyn_ray.recipe.teachers import GPU_USE, SamplingConfig, TeacherResourcesConfig

logger = logging.getLogger(__name__)

FINISH_REASONS: dict[str | None, str] = {"stop": "stop", "length": "length", "repetition": "loop"}
UNSEEDED = (
    "Teacher %r: on CPUs with chunked prefill vLLM cannot seed single requests; what is sampled "
    "hangs on the order of the requests. Leave enable_chunked_prefill and max_num_batched_tokens "
    "out of its arguments for responses that can be had again."
)
LOOP_TOKENS = (8, 64)  # lengths of the passages whose repetition ends a response early


class VllmTeacher:
    """One engine of one teacher; the engine starts with the first `generate`."""

    overlaps: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        settings: VllmEngineConfig,
        sampling: SamplingConfig,
        resources: TeacherResourcesConfig,
        system_prompt: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        think_tags: tuple[str, str] = ("<think>", "</think>"),
        loop_repeats: int | None = None,
        placement: Any = None,
    ) -> None:
        self._name, self._settings, self._sampling = name, settings, sampling
        self._resources, self._think_tags = resources, think_tags
        self._loop_repeats = loop_repeats
        self._prompts = PromptEncoder(
            name,
            settings.model,
            sampling.max_tokens,
            system_prompt,
            template_kwargs,
            settings.max_model_len,
            settings.end_of_turn,
        )
        self._placement = placement
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Any = None
        self._log: EngineLog | None = None
        self._seeds_requests = True
        self._meter = OccupancyMeter()

    def check(self) -> None:
        """Refuse a model that is not there, one without a chat template, or a missing vLLM."""
        require_vllm(f"Teacher {self._name!r}")
        self._prompts.check()

    def refuses(self, request: Request) -> str | None:
        """Why chat template or context cannot take the conversation; reads the tokenizer only."""
        return self._prompts.refuses(request)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """All requests at once, in order; see `stream`."""
        return in_order(len(requests), lambda done: self.stream(requests, done))

    def stream(self, requests: Sequence[Request], done: Done) -> None:
        """All requests at once; the engine decides how many it works on.

        Raises:
            EngineDead: the engine did not start, or has died.
            ConfigError: vLLM refuses an argument.
        """
        self._start()
        self._run(self._answer_all(requests, done))

    def take_occupancy(self) -> Occupancy:
        """How full it was since this was last asked, by vLLM's own scheduler."""
        return self._meter.take()

    def close(self) -> None:
        """End the engine and its workers."""
        with self._lock:
            if self._engine is not None:
                self._engine.shutdown()
                self._engine = None
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._loop = None

    def _start(self) -> None:
        """Start the engine once, however many threads ask; it lives in a loop of its own."""
        with self._lock:
            if self._engine is not None:
                return
            loop = asyncio.new_event_loop()
            threading.Thread(
                target=loop.run_forever, name=f"vllm-{self._name}", daemon=True
            ).start()
            self._loop = loop
            self._log = EngineLog()  # before vLLM is imported
            config = self._config()
            self._seeds_requests = seeds_requests(config)
            if not self._seeds_requests and self._sampling.temperature:
                logger.warning(UNSEEDED, self._name)
            try:
                self._engine = self._run(_start_engine(config, self._meter))
            except Exception as error:
                raise EngineDead(
                    f"vLLM did not start for teacher {self._name!r}: {self._log.cause_of(error)}"
                ) from error

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _config(self) -> Any:
        """vLLM's configuration: our settings, then the recipe's for responses, then for speed."""
        from vllm.engine.arg_utils import AsyncEngineArgs

        settings, resources, model = self._settings, self._resources, self._settings.model
        ours: dict[str, Any] = {
            "model": resolve(model.name),
            "revision": model.revision,
            "dtype": model.dtype,
            "trust_remote_code": model.trust_remote_code,
            "max_model_len": settings.max_model_len,
            "quantization": settings.quantization,
            "seed": self._sampling.seed,
            "generation_config": "vllm",  # only what the recipe says shapes the text
            "tensor_parallel_size": resources.tensor_parallel,
            "pipeline_parallel_size": resources.pipeline_parallel,
        }
        if resources.workers > 1:
            ours["distributed_executor_backend"] = resources.executor
        if self._sampling.thinking_tokens is not None:
            start, end = self._think_tags
            ours["reasoning_config"] = {"reasoning_start_str": start, "reasoning_end_str": end}
        given: dict[str, Any] = {**settings.arguments, **resources.arguments}
        if has_no_gpu():
            given = cpu_defaults(given, self._sampling.temperature > 0) | given
        if 0 < resources.gpus < 1:  # several engines share a GPU
            given = {"gpu_memory_utilization": GPU_USE * resources.gpus} | given
        try:
            config = AsyncEngineArgs(**(ours | given)).create_engine_config()
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"Teacher {self._name!r}: vLLM refuses its settings: {error}. See the teacher's "
                "`engine` and `resources`."
            ) from error
        if self._placement is not None:
            config.parallel_config.placement_group = self._placement
        return config

    async def _answer_all(self, requests: Sequence[Request], done: Done) -> None:
        async def answer(place: int, item: Encoded | Completion) -> None:
            done(place, await self._answer(item))

        encoded = [self._prompts.encode(request) for request in requests]
        await asyncio.gather(*(answer(place, item) for place, item in enumerate(encoded)))

    async def _answer(self, item: Encoded | Completion) -> Completion:
        from vllm.inputs import TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError

        if isinstance(item, Completion):
            return item
        number = f"{item.prompt_id}-{next(self._numbers)}"
        prompt, parameters = TokensPrompt(prompt_token_ids=item.ids), self._parameters(item)
        try:
            outputs = [out async for out in self._engine.generate(prompt, parameters, number)]
        except EngineDeadError as error:
            cause = self._log.cause_of(error) if self._log is not None else str(error)
            raise EngineDead(f"vLLM died under teacher {self._name!r}: {cause}") from error
        except Exception as error:  # a request that vLLM refuses
            return Completion.failed(f"{type(error).__name__}: {error}", len(item.ids))
        return self._completion(outputs[-1].outputs[0], len(item.ids))

    def _completion(self, answer: Any, num_prompt_tokens: int) -> Completion:
        """vLLM's answer; its text is made here, as for every other local engine."""
        reason: Any = FINISH_REASONS.get(answer.finish_reason)
        if reason is None:
            return Completion.failed(f"vLLM ended with {answer.finish_reason!r}", num_prompt_tokens)
        text = self._prompts.text(answer.token_ids)
        places = [place for stop in self._sampling.stop if (place := text.find(stop)) >= 0]
        return Completion(
            text[: min(places, default=None)], reason, num_prompt_tokens, len(answer.token_ids)
        )

    @property
    def _draws_by_request(self) -> bool:
        return self._seeds_requests and self._sampling.temperature > 0

    def _parameters(self, item: Encoded) -> Any:
        from vllm.sampling_params import (
            RepetitionDetectionParams,
            RequestOutputKind,
            SamplingParams,
        )

        sampling, loops = self._sampling, None
        if self._loop_repeats is not None:
            shortest, longest = LOOP_TOKENS
            loops = RepetitionDetectionParams(longest, shortest, self._loop_repeats)
        return SamplingParams(
            max_tokens=item.limit,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=_seed(sampling.seed, item.prompt_id) if self._draws_by_request else None,
            stop=list(sampling.stop) or None,
            stop_token_ids=sorted(self._prompts.end_ids),
            thinking_token_budget=sampling.thinking_tokens,
            repetition_detection=loops,
            detokenize=bool(sampling.stop),  # only to find where to stop
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


async def _start_engine(config: Any, meter: OccupancyMeter) -> Any:
    """The engine; its metrics also go to Ray's where this process belongs to a Ray."""
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.executor import Executor

    return AsyncLLM(
        vllm_config=config,
        executor_class=Executor.get_class(config),
        log_stats=True,
        stat_loggers=[meter.stat_logger(), *_metrics()],
    )


def _metrics() -> list[Any]:
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return []
    from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

    return [RayPrometheusStatLogger]


def _seed(seed: int, prompt_id: str) -> int:
    """A seed per prompt, so that a response does not depend on the others of its batch."""
    return seeded_draw(seed, prompt_id) >> 33


def require_vllm(who: str) -> None:
    """Refuse a setting that needs vLLM where it is not installed; imports nothing.

    Raises:
        ConfigError: vLLM is missing.
    """
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        raise ConfigError(
            f"{who} needs vLLM, which is not installed: install requirements/vllm.txt (CPU) or "
            "vllm (GPU), or use transformers."
        )

"""vLLM in process: requests are streamed in and results out, a bounded number in flight; a bad one fails alone.

The one file that imports vllm. Seeds repeat on the same machine; bits are what vLLM's own numerics give. Prompts that
begin alike are sent one after another, the shorter first, so that its prefix cache computes what they share once.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

from pipeline.engines.base import (
    EngineParams,
    Limits,
    ModelRef,
    PrefillCount,
    Progress,
    Request,
    Task,
    answerable,
    eos_ids,
    refuse_head,
    silent,
)
from pipeline.engines.vllm_answers import read_classification, read_generation, read_scores
from vcrd.errors import ConfigError, one_line
from vcrd.io.checkpoints import NO_CODE, not_loaded
from vcrd.requests import (
    Classification,
    ClassifyRequest,
    Failure,
    GenerateRequest,
    Generation,
    ScoreRequest,
    Scores,
    TokenHead,
)

_MAX_LOGPROBS = 256
_TOKEN_HEAD, _SEQUENCE_HEAD = "ForTokenClassification", "ForSequenceClassification"


class VllmEngine:
    """One vLLM engine: it generates and scores, or it classifies.

    Attributes:
        tokenizer: Of its model.
        prefilled: Tokens of all prompts since it was loaded; a preempted request counts once.
    """

    def __init__(self, params: EngineParams, model: ModelRef, task: Task, head: TokenHead) -> None:
        """Start the engine (20 to 40 s)."""
        on_cpu = _prepare_environment(params)
        from transformers import AutoConfig, AutoTokenizer
        from vllm import LLM

        try:
            config = AutoConfig.from_pretrained(model.path, revision=model.revision, **NO_CODE)
            self.tokenizer = AutoTokenizer.from_pretrained(model.path, revision=model.revision, **NO_CODE)
        except (OSError, ValueError) as error:
            raise not_loaded(model.path, error) from error
        refuse_head(head, config, model.path)
        length = params.max_model_len or config.max_position_embeddings
        options: dict[str, Any] = {}
        if on_cpu:
            # A prefill that is cut into pieces kills seeded requests on CPU: one batch holds all prompts in flight.
            # Whole blocks are shared; 32 is the smallest that this backend has, 128 its default.
            options |= {
                "enforce_eager": True,
                "max_num_batched_tokens": length * params.max_in_flight,
                "block_size": 32,
            }
        elif task == "classify":
            options |= {"max_num_batched_tokens": max(length, 8192)}
        if task == "classify":
            options |= _classify_options(config, head, self.tokenizer, params)
        else:
            options |= {"enable_prefix_caching": True}
        self._llm = LLM(
            model=model.path,
            revision=model.revision,
            tokenizer_revision=model.revision,
            load_format="safetensors",
            dtype=params.dtype,
            max_model_len=length,
            max_num_seqs=min(params.batch_size, params.max_in_flight),
            max_logprobs=_MAX_LOGPROBS,
            gpu_memory_utilization=params.gpu_memory_utilization,
            tensor_parallel_size=params.tensor_parallel_size,
            seed=0,
            disable_log_stats=True,
            **NO_CODE,
            **options,
        )
        self.prefilled = PrefillCount()
        self.tell_in_flight: Callable[[Collection[str]], None] = silent
        self._engine = self._llm.llm_engine
        self._in_flight = params.max_in_flight
        self._vocabulary = len(self.tokenizer)
        self._limits = Limits(config.vocab_size, length)
        self._eos = [] if task == "classify" else eos_ids(model, self.tokenizer)

    def close(self) -> None:
        """Stop the engine and free what it held, so that another can start in this process."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._engine.engine_core.shutdown()
        del self._llm, self._engine
        gc.collect()
        cleanup_dist_env_and_memory()

    def generate(self, requests: Sequence[GenerateRequest], progress: Progress = silent) -> list[Generation | Failure]:
        """Continue prompts; see `vcrd.requests`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        def params(request: GenerateRequest) -> Any:
            sampling = request.sampling
            return SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=request.seed,
                max_tokens=sampling.max_tokens,
                stop=list(sampling.stop),
                stop_token_ids=self._eos,
                include_stop_str_in_output=True,
                detokenize=bool(sampling.stop),  # its text is for stop strings alone
                logprobs=sampling.top_k_logprobs,
                flat_logprobs=True,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )

        def read(request: GenerateRequest, output: Any) -> Generation | Failure:
            return read_generation(request, output, self._vocabulary)

        refuse = self._limits.refuse_generate
        return self._stream(requests, refuse, lambda item: item.prompt_ids, params, read, progress)

    def score(self, requests: Sequence[ScoreRequest], progress: Progress = silent) -> list[Scores | Failure]:
        """Give log-probabilities of given tokens; see `vcrd.requests`."""
        from vllm import SamplingParams

        def params(request: ScoreRequest) -> Any:
            return SamplingParams(
                temperature=0.0,
                max_tokens=1,
                prompt_logprobs=request.top_k_logprobs,
                flat_logprobs=True,
                detokenize=False,
            )

        refuse = self._limits.with_room_for_one().refuse_score
        return self._stream(requests, refuse, lambda item: item.token_ids, params, read_scores, progress)

    def classify(
        self, requests: Sequence[ClassifyRequest], progress: Progress = silent
    ) -> list[Classification | Failure]:
        """Give class probabilities at given tokens; see `vcrd.requests`."""
        from vllm import PoolingParams

        def params(request: ClassifyRequest) -> Any:
            return PoolingParams(task="token_classify", use_activation=True)

        refuse = self._limits.refuse_classify
        return self._stream(requests, refuse, lambda item: item.token_ids, params, read_classification, progress)

    def _stream(
        self,
        requests: Sequence[Request],
        refuse: Callable[[Request], Failure | None],
        ids: Callable[[Request], Sequence[int]],
        params: Callable[[Request], Any],
        read: Callable[[Request, Any], Any],
        progress: Progress,
    ) -> list[Any]:
        """Keep the engine filled, and read each answer as it is finished."""
        answers, order = answerable(requests, refuse, ids)
        waiting = iter(order)
        live: dict[int, str] = {}
        while True:
            while len(live) < self._in_flight and (index := next(waiting, None)) is not None:
                request = requests[index]
                failure = self._add(str(index), list(ids(request)), params(request), request.id)
                if failure is not None:
                    answers[index] = failure
                else:
                    live[index] = request.id
            self.tell_in_flight(live.values())
            if not live:
                return [answers[index] for index in range(len(requests))]
            for output in self._engine.step():
                if output.finished:
                    index = int(output.request_id)
                    del live[index]
                    asked = len(ids(requests[index]))
                    self.prefilled += PrefillCount(asked, asked - (output.num_cached_tokens or 0))
                    answers[index] = read(requests[index], output)
                    progress(len(getattr(answers[index], "token_ids", ids(requests[index]))))

    def _add(self, name: str, ids: list[int], params: Any, request_id: str) -> Failure | None:
        from vllm import TokensPrompt

        try:
            self._engine.add_request(name, TokensPrompt(prompt_token_ids=ids), params)
        except (ValueError, TypeError) as error:
            return Failure(id=request_id, reason="refused", message=one_line(error))
        return None


def _prepare_environment(params: EngineParams) -> bool:
    """Set what vLLM reads from the environment, before it is imported; return whether it runs on CPU."""
    import torch

    on_cpu = params.device == "cpu" or (params.device == "auto" and not torch.cuda.is_available())
    if params.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("engine.device is cuda, but torch sees no GPU; set it to auto or cpu")
    # Always in this process: scheduling is deterministic, and a core that dies takes us along, where vLLM's own client
    # would wait for it for ever.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    if on_cpu:
        defaults |= {
            "VLLM_CPU_KVCACHE_SPACE": str(params.kv_cache_gib),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # workers of one machine would all bind to the same cores
            "OMP_NUM_THREADS": str(params.threads),
        }
    os.environ.update({name: value for name, value in defaults.items() if name not in os.environ})
    return on_cpu


def _classify_options(config: Any, head: TokenHead, tokenizer: Any, params: EngineParams) -> dict[str, Any]:
    """Serve a head on every token; which positions are read is decided here, never by the ids that stand there.

    Next-token pairs become a classifier: the label tokens' rows of the language model's head, softmax over them. That
    is exact at any position, in one pass, where prompt log-probabilities give only the likeliest tokens.
    """
    from vllm.config import PoolerConfig

    options: dict[str, Any] = {
        "runner": "pooling",
        "pooler_config": PoolerConfig(task="token_classify", tok_pooling_type="ALL"),
    }
    if head.kind == "classes":
        # vLLM has a head on every stock decoder, under the name of a sequence classifier.
        names = [name.replace(_TOKEN_HEAD, _SEQUENCE_HEAD) for name in config.architectures or []]
        return options | {"hf_overrides": {"architectures": names}}
    if params.tensor_parallel_size > 1:
        raise ConfigError(
            "engine.tensor_parallel_size must be 1 for a process reward model that is read off a language model's head "
            f"or a value head, got {params.tensor_parallel_size}; vLLM would read another GPU's share of the head"
        )
    if head.kind == "tokens":
        labels = {"classifier_from_token": tokenizer.convert_ids_to_tokens(list(head.label_ids))}
        return options | {"convert": "classify", "hf_overrides": labels | {"method": "no_post_processing"}}
    return options | {"hf_overrides": {"architectures": [_register_value_head(config)], "num_labels": 1}}


def _register_value_head(config: Any) -> str:
    """Teach vLLM, in this process, to read `v_head.summary` as a one-class head; return the architecture's name."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from vllm import ModelRegistry
    from vllm.model_executor.models.adapters import as_seq_cls_model

    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    if causal not in ModelRegistry.models:
        raise ConfigError(f"vllm has no {config.model_type} language model; set engine.name to transformers")
    base: Any = as_seq_cls_model(ModelRegistry.models[causal].load_model_cls())

    class ValueHeadModel(base):  # type: ignore[misc]
        def load_weights(self, weights: Any) -> Any:
            return super().load_weights((name.replace("v_head.summary.", "score."), tensor) for name, tensor in weights)

    name = str(causal).replace("ForCausalLM", "ForValueHead")
    ModelRegistry.register_model(name, ValueHeadModel)
    return name

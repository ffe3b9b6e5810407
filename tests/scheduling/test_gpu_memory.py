"""Memory and speed of engines: against examples by hand, limits and invariances."""

import pytest

from persyn_ray.scheduling.gpu_memory import (
    GIB,
    OVERHEAD_BYTES,
    START_SECONDS,
    Gpu,
    Layout,
    ModelSize,
    fits,
    load_seconds,
    need_per_gpu,
    responses_at_once,
    smallest_layout,
    token_bytes,
    tokens_per_second,
)

H100 = Gpu(usable_bytes=72 * GIB, bandwidth=3350e9, flops=990e12)


def llama(parameters: float, layers: int, kv_heads: int = 8, bits: int = 16) -> ModelSize:
    """A dense model with heads of 128 and a 16-bit cache."""
    total = parameters * 1e9
    cache = 2 * layers * kv_heads * 128 * 2
    return ModelSize(total, total, total * bits / 8, cache, kv_heads, 131072)


SMALL, LARGE = llama(8.03, 32), llama(405.9, 126, bits=8)


def test_need_by_hand() -> None:
    # 8.03e9 x 2 bytes of weights, 131,072 bytes of cache a token.
    need = need_per_gpu(SMALL, Layout(), 8192)
    assert need.weights == pytest.approx(16.06e9)
    assert need.cache == 8192 * 131072 == 1 * GIB
    assert need.total == pytest.approx(16.06e9 + GIB + OVERHEAD_BYTES)
    spread = need_per_gpu(SMALL, Layout(4, 2), 8192)
    assert spread.weights == pytest.approx(16.06e9 / 8)
    assert spread.cache == GIB / 8
    assert spread.overhead == OVERHEAD_BYTES


def test_a_head_is_copied_where_workers_are_more_than_heads() -> None:
    model = llama(1.5, 28, kv_heads=2)
    whole = token_bytes(model, Layout())
    assert token_bytes(model, Layout(2)) == whole / 2
    assert token_bytes(model, Layout(8)) == whole / 2
    assert token_bytes(model, Layout(8, 2)) == whole / 4
    latent = ModelSize(671e9, 37e9, 671e9, 61 * 576 * 2, 1, 163840)
    assert token_bytes(latent, Layout(8)) == 61 * 576 * 2


def test_the_smallest_layout_grows_with_the_model_and_ends_with_the_cluster() -> None:
    def smallest(model: ModelSize, gpus: int = 8, nodes: int = 1) -> Layout | None:
        return smallest_layout(model, 8192, H100, gpus, nodes)

    assert smallest(SMALL) == Layout()
    assert smallest(llama(70.6, 80)) == Layout(2)
    assert smallest(LARGE) == Layout(8)
    assert smallest(LARGE, gpus=4) is None
    assert smallest(LARGE, gpus=4, nodes=2) == Layout(4, 2)
    assert smallest(llama(405.9, 126), nodes=1) is None
    assert smallest(llama(405.9, 126), nodes=2) == Layout(8, 2)
    assert smallest(llama(70.6, 80), gpus=6) == Layout(2)


@pytest.mark.parametrize("model", [SMALL, LARGE, llama(70.6, 80)])
def test_the_smallest_layout_fits_and_the_next_smaller_does_not(model: ModelSize) -> None:
    layout = smallest_layout(model, 8192, H100, 8, 1)
    assert layout is not None
    assert fits(model, layout, 8192, H100)
    assert layout.tensor == 1 or not fits(model, Layout(layout.tensor // 2), 8192, H100)


def test_responses_at_once_fill_the_memory_and_no_more() -> None:
    number = responses_at_once(SMALL, Layout(), 4096, H100)
    assert need_per_gpu(SMALL, Layout(), number * 4096).total <= H100.usable_bytes
    assert need_per_gpu(SMALL, Layout(), (number + 1) * 4096).total > H100.usable_bytes
    assert responses_at_once(LARGE, Layout(), 4096, H100) == 0
    assert responses_at_once(LARGE, Layout(8), 4096, H100) > 0


def test_speed_by_hand_where_reading_and_where_arithmetic_is_the_limit() -> None:
    # One response: all weights are read for one token.
    reading = (16.06e9 + 1000 * 131072) / (0.6 * 3350e9)
    assert tokens_per_second(SMALL, Layout(), 1, 1000, H100) == pytest.approx(1 / reading)
    # Very many short ones: two operations a parameter and token.
    computing = 0.4 * 990e12 / (2 * 8.03e9)
    assert tokens_per_second(SMALL, Layout(), 4096, 1, H100) == pytest.approx(computing)


def test_speed_is_of_the_right_order() -> None:
    # An 8B model writes about ten thousand tokens a second on an H100, 405B some thousand on eight.
    assert 5_000 < tokens_per_second(SMALL, Layout(), 256, 800, H100) < 20_000
    assert 1_500 < tokens_per_second(LARGE, Layout(8), 256, 800, H100) < 6_000


def test_speed_grows_with_gpus_and_with_responses_but_never_in_excess() -> None:
    one = tokens_per_second(LARGE, Layout(8), 32, 1000, H100)
    two = tokens_per_second(LARGE, Layout(8, 2), 32, 1000, H100)
    assert one < two <= 2 * one + 1e-6
    more = tokens_per_second(LARGE, Layout(8), 64, 1000, H100)
    assert one < more < 2 * one


def test_experts_make_arithmetic_cheaper_and_reading_not() -> None:
    dense = llama(100, 80)
    sparse = ModelSize(dense.parameters, 10e9, *_rest(dense))
    assert tokens_per_second(sparse, Layout(8), 1, 10, H100) == pytest.approx(
        tokens_per_second(dense, Layout(8), 1, 10, H100)
    )
    assert tokens_per_second(sparse, Layout(8), 1000, 10, H100) > tokens_per_second(
        dense, Layout(8), 1000, 10, H100
    )


def _rest(model: ModelSize) -> tuple[float, float, int, int]:
    return model.weight_bytes, model.cache_bytes, model.kv_heads, model.context


def test_loading_is_reading_one_node_s_part() -> None:
    assert load_seconds(LARGE, Layout(8), 8, 2e9) == pytest.approx(START_SECONDS + 405.9 / 2)
    assert load_seconds(LARGE, Layout(8, 2), 8, 2e9) == pytest.approx(START_SECONDS + 405.9 / 4)
    assert load_seconds(SMALL, Layout(), 1, 1e15) == pytest.approx(START_SECONDS, abs=0.1)

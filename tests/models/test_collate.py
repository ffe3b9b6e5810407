import torch

from persyn_ray.models.chat import Example
from persyn_ray.models.collate import (
    batches_by_tokens,
    feature_collator,
    pad_right,
    router_collator,
    sft_collator,
)


def test_rows_are_padded_on_the_right_to_a_multiple() -> None:
    ids, mask = pad_right([[5, 6, 7], [8]], pad_id=9, multiple_of=4)
    assert ids.tolist() == [[5, 6, 7, 9], [8, 9, 9, 9]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]


def test_labels_cover_the_response_and_nothing_else() -> None:
    batch = sft_collator([Example([5, 6, 7, 8], 2), Example([5, 0], 1)], pad_id=0)
    assert batch["labels"].tolist() == [[-100, -100, 7, 8], [-100, 0, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_wins_are_stacked() -> None:
    rows = [
        {"input_ids": [1, 2], "wins": [[0, 1], [0, 0]]},
        {"input_ids": [3], "wins": torch.zeros(2, 2)},
    ]
    batch = router_collator(rows, pad_id=7)
    assert batch["input_ids"].tolist() == [[1, 2], [3, 7]]
    assert batch["wins"].shape == (2, 2, 2)
    assert batch["wins"][0, 0, 1] == 1
    assert "rewards" not in batch


def test_rows_bring_what_they_are_fitted_to() -> None:
    rows = [{"features": torch.ones(4) * n, "rewards": [n, float("nan")]} for n in range(3)]
    batch = feature_collator(rows)
    assert batch.keys() == {"features", "rewards"}
    assert batch["features"].tolist() == [[0.0] * 4, [1.0] * 4, [2.0] * 4]
    assert batch["rewards"][:, 0].tolist() == [0.0, 1.0, 2.0]
    assert bool(batch["rewards"][:, 1].isnan().all())


def test_batches_hold_every_row_once_within_the_budget() -> None:
    lengths = [3, 10, 1, 7, 25, 4, 0]
    batches = list(batches_by_tokens(lengths, 20))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert batches[0] == [4]  # longer than the budget: by itself
    assert all(len(batch) * max(lengths[row] for row in batch) <= 20 for batch in batches[1:])
    assert list(batches_by_tokens([], 20)) == []

"""What fits leave behind: a file comes back as its type, or is refused by its name."""

import json
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.errors import DataError
from persyn_ray.storage.fits import (
    ColumnFit,
    ExtendedFit,
    RouterFit,
    TransferFit,
    TransferFits,
    read_router_fit,
    read_tuned_student,
    write_router_fit,
    write_tuned_student,
)
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.results import TrainingLoss, TunedStudent

LOSSES = [
    TrainingLoss(step=2, train_loss=0.5, heldout_loss=None),
    TrainingLoss(step=4, train_loss=None, heldout_loss=0.25),
]
PLAIN: dict[str, Any] = {"num_fit": 3, "loss_curve": [], "heldout_logits": {"3": [[0.5, -1.0]]}}
TRANSFER = TransferFits(
    heldout_tasks=["maths", None],
    fits=[TransferFit(fitted_on=["maths"], num_fit=20, heldout_logits=[[1.0], [2.0]])],
    skipped=[["code"]],
)
COLUMN = ColumnFit(num_prompts=9, num_pairs=18, l2=0.1, temperature=1.5)


@pytest.mark.parametrize(
    "fit",
    [
        RouterFit(num_fit=7, loss_curve=LOSSES, heldout_logits={7: [[0.1, 0.2]], 3: [[0.0, 1e-9]]}),
        RouterFit(num_fit=7, loss_curve=[], heldout_logits={7: []}, transfer=TRANSFER),
        RouterFit(
            num_fit=0,
            loss_curve=[],
            heldout_logits={0: []},
            extended=ExtendedFit(kept=["a"], columns={"b": COLUMN}),
        ),
    ],
)
def test_the_fit_of_a_router_comes_back(tmp_path: Path, fit: RouterFit) -> None:
    write_router_fit(Folder(str(tmp_path)), fit)
    assert read_router_fit(Folder(str(tmp_path))) == fit


def test_the_fit_of_a_student_comes_back(tmp_path: Path) -> None:
    fit = TunedStudent(
        num_examples=5,
        num_too_long=1,
        num_unreadable=2,
        first_unreadable="It rewrites the response.",
        num_steps=4,
        loss_curve=LOSSES,
    )
    write_tuned_student(Folder(str(tmp_path)), fit)
    assert read_tuned_student(Folder(str(tmp_path))) == fit


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (json.dumps(PLAIN | {"num_fits": 3}), "num_fits: Extra"),
        (json.dumps({key: PLAIN[key] for key in ("num_fit", "loss_curve")}), "heldout_logits: Fi"),
        (json.dumps(PLAIN | {"heldout_logits": {"some": []}}), "heldout_logits.some"),
        (json.dumps(PLAIN | {"transfer": {"fits": []}}), "transfer.heldout_tasks"),
        ("null", "RouterFit"),
        ("{", "no valid JSON"),
        (None, "is not there"),
    ],
)
def test_another_file_is_refused_by_its_name_with_what_to_do(
    tmp_path: Path, content: str | None, why: str
) -> None:
    if content is not None:
        (tmp_path / "fit.json").write_text(content)
    with pytest.raises(DataError) as refused:
        read_router_fit(Folder(str(tmp_path)))
    assert str(tmp_path / "fit.json") in str(refused.value)
    assert why in str(refused.value)
    assert "--from router" in str(refused.value)


def test_a_students_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "finetune.json").write_text(json.dumps({"num_examples": 3}))
    with pytest.raises(DataError, match=r"finetune\.json .*num_too_long.*--from finetune"):
        read_tuned_student(Folder(str(tmp_path)))


def test_a_fit_replaces_the_one_before_and_keeps_every_bit_of_its_logits(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    values = [0.1 + 0.2, -1e-308, 1 / 3, 123456789.123456789, 5e-324]
    for num in (9, 4):
        write_router_fit(
            folder, RouterFit(num_fit=num, loss_curve=[], heldout_logits={4: [values]})
        )
    found = read_router_fit(folder)
    assert (found.num_fit, found.heldout_logits[4]) == (4, [values])
    assert (found.transfer, found.extended) == (None, None)
    assert folder.names() == ["fit.json"]


def test_a_student_that_was_cut_off_while_it_was_written_is_refused(tmp_path: Path) -> None:
    facts = TunedStudent(
        num_examples=5,
        num_too_long=1,
        num_unreadable=0,
        first_unreadable=None,
        num_steps=4,
        loss_curve=LOSSES,
    )
    write_tuned_student(Folder(str(tmp_path)), facts)
    whole = (tmp_path / "finetune.json").read_text()
    (tmp_path / "finetune.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"finetune\.json .*no valid JSON.*--from finetune"):
        read_tuned_student(Folder(str(tmp_path)))

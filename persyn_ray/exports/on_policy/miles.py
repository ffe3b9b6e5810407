"""On-policy distillation by miles and slime: prompts in, JSON Lines with metadata out.

miles looks for `metadata.opd_teacher` among the names of `--opd-teacher-urls`; an unknown name
stops it, since no `default` is written. slime carries `metadata.source_name` to the training side,
for choosing teachers some day, but asks the one server of `--rm-url` by itself.
"""

import shlex
from pathlib import Path

from persyn_ray.exports.form import Facts, RoutedRow, Rows, Written
from persyn_ray.exports.on_policy.prompts import RoutedPrompts, routed_prompts
from persyn_ray.exports.on_policy.teachers import notes
from persyn_ray.exports.writing import write_jsonl

PORT = 30000
DATA = ("--prompt-data", "train.jsonl", "--input-key", "prompt", "--label-key", "label")
SGLANG = ("--apply-chat-template", "--use-opd", "--opd-type", "sglang", "--opd-kl-coef", "1.0")
HOW_MILES = """An SGLang server for each teacher, then these arguments beside those of your model
and cluster:

```sh
{servers}
source arguments.sh && python train.py "${{PERSYN_ARGUMENTS[@]}}" …
```

`--opd-teacher-urls` in arguments.sh holds the servers' addresses: a host of each teacher's name,
where neither the recipe's endpoint nor `--teacher-url` said another."""
HOW_SLIME = """As it comes, slime distils from one teacher, the server of `--rm-url`. Each row's
teacher is in `metadata.source_name`, which `slime.utils.data.get_source(sample)` reads: a reward
function of yours (`--custom-rm-path`) sends each sample to the server of that name. arguments.sh
holds what does not depend on it:

```sh
source arguments.sh && python train.py "${PERSYN_ARGUMENTS[@]}" …
```

The teachers are TEACHERS."""


def miles(rows: Rows, where: Path, facts: Facts) -> Written:
    """Rows with `metadata.opd_teacher`."""
    prompts = routed_prompts(rows, "assigned", facts)
    urls = [f"{one.name}={one.url(PORT, '/generate')}" for one in prompts.teachers]
    servers = "\n".join(
        f"python -m sglang.launch_server --model-path {shlex.quote(one.model.address)}"
        f" --port {PORT}  # {one.name}: {one.url(PORT)}"
        for one in prompts.teachers
    )
    routing = ("--opd-teacher-key", "opd_teacher", "--opd-teacher-urls", *urls)
    how = HOW_MILES.format(servers=servers) + notes(prompts.teachers, facts.student)
    return _write(prompts, where, ("opd_teacher",), (*_scoring("miles"), *routing), how)


def slime(rows: Rows, where: Path, facts: Facts) -> Written:
    """Rows with `metadata.source_name`."""
    prompts = routed_prompts(rows, "assigned", facts)
    names = ", ".join(f"{one.name} ({one.model.address})" for one in prompts.teachers)
    how = HOW_SLIME.replace("TEACHERS", names) + notes(prompts.teachers, facts.student)
    return _write(prompts, where, ("source_name",), SGLANG, how)


def _scoring(tool: str) -> tuple[str, ...]:
    place = f"{tool}.rollout.on_policy_distillation"
    return (
        *SGLANG,
        *("--custom-rm-path", f"{place}.reward_func"),
        *("--custom-reward-post-process-path", f"{place}.post_process_rewards"),
    )


def _write(
    prompts: RoutedPrompts,
    where: Path,
    keys: tuple[str, ...],
    arguments: tuple[str, ...],
    how: str,
) -> Written:
    num_rows = write_jsonl(where / "train.jsonl", (_row(row, keys) for row in prompts))
    words = " ".join(map(shlex.quote, (*DATA, *arguments)))
    (where / "arguments.sh").write_text(f"PERSYN_ARGUMENTS=({words})\n", encoding="utf-8")
    return Written(("train.jsonl", "arguments.sh"), num_rows, how, prompts.left_out)


def _row(row: RoutedRow, keys: tuple[str, ...]) -> dict[str, object]:
    known = {"id": row["id"], "task": row["task"]}
    return {
        "prompt": row["messages"],
        "label": row["reference"],
        "metadata": dict.fromkeys(keys, row["teacher"]) | known,
    }

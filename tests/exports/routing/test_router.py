"""The exported router without this package: the code of its own README, run beside the package."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.exports.export import export
from persyn_ray.exports.form import Facts
from persyn_ray.exports.forms import form_named
from persyn_ray.models.load import load_tokenizer
from persyn_ray.models.router.model import build_router, router_logits, save_router
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout
from tests.conftest import TEACHERS

LONG = " ".join(f"word{number}" for number in range(3000))
PROMPTS = [
    [{"role": "user", "content": "What is 12 x 12?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why\u2028so\r\n?"}],
    [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi, قرأ 👩‍👩‍👧"},
        {"role": "user", "content": "</s><|im_end|>[SEP] and [CLS] <|user|>"},
    ],
    [{"role": "user", "content": LONG}],
    [{"role": "user", "content": "{{ jinja }} {% raw %}"}],
]
ALONE = """
import json, sys
sys.modules["persyn_ray"] = None  # importing it fails
{code}
print(json.dumps([logits(messages) for messages in json.load(sys.stdin)]))
"""


def scored_alone(folder: Path) -> tuple[list[str], list[list[float]]]:
    """Logits of PROMPTS by the code in the folder's README, without the package."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    told = subprocess.run(
        [sys.executable, "-I", "-c", ALONE.format(code=code)],
        input=json.dumps(PROMPTS),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    rows: list[dict[str, float]] = json.loads(told.stdout.splitlines()[-1])
    return list(rows[0]), [list(row.values()) for row in rows]


def fitted(backbone: str, folder: Path, is_frozen: bool, max_length: int) -> Any:
    """A router some steps away from its fresh head, and from its backbone unless that is frozen."""
    router, tokenizer = build_router(backbone, TEACHERS, seed=3), load_tokenizer(backbone)
    generator = torch.Generator().manual_seed(5)
    parts = router.head.parameters() if is_frozen else router.parameters()
    with torch.no_grad():
        for part in parts:
            part += 0.05 * torch.randn(part.shape, generator=generator)
    save_router(router.eval(), tokenizer, folder, {"max_length": max_length})
    return router, tokenizer


@pytest.mark.parametrize("is_frozen", [True, False], ids=["frozen", "fine-tuned"])
@pytest.mark.parametrize("backbone", ["random:llama", "random:bert"])
def test_its_readme_gives_the_same_logits_without_the_package(
    backbone: str,
    is_frozen: bool,
    tmp_path: Path,
    facts: Facts,
    record_property: Callable[[str, str], None],
) -> None:
    router, tokenizer = fitted(backbone, tmp_path / "router", is_frozen, max_length=100)
    ours = router_logits(router, tokenizer, PROMPTS, max_length=100)  # pyright: ignore
    told = Facts(**{**vars(facts), "router": Folder(str(tmp_path / "router"))})
    export(form_named("router"), None, told, Folder(str(tmp_path / "out")))  # pyright: ignore
    teachers, theirs = scored_alone(tmp_path / "out")
    assert teachers == list(TEACHERS)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)
    assert np.ptp(ours, axis=0).min() > 1e-3  # prompts differ, so a constant would not pass
    record_property("accepted", "router")  # benchmarks/exports.py reads this


def test_it_is_an_ordinary_model_folder(tmp_path: Path, facts: Facts) -> None:
    fitted("random:llama", tmp_path / "router", True, max_length=64)
    told = Facts(**{**vars(facts), "router": Folder(str(tmp_path / "router"))})
    done = export(form_named("router"), None, told, Folder(str(tmp_path / "out")))  # pyright: ignore
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert "persyn" not in json.dumps(config)
    assert {"model.safetensors", "head.safetensors", "tokenizer.json", "router.json"} <= set(
        done.written.files
    )
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "sigmoid(logit_i - logit_j)" in readme
    assert str(tmp_path) not in readme


def test_the_router_of_a_run(finished: tuple[Recipe, RunLayout], tmp_path: Path) -> None:
    recipe, run = finished
    asked = ["export", run.root.address, "--to", "router", "-o", str(tmp_path)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "Wrote the files to" in done.output
    assert "rows" not in done.output
    told = json.loads((tmp_path / "router.json").read_text())
    assert told["teachers"] == list(recipe.pool.names)
    assert told["max_length"] == recipe.router.max_length

"""From recipe to engine; importing the builder costs nothing heavy."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.engines.build import build_engine
from persyn_ray.engines.recorded import RecordedEngine
from persyn_ray.engines.scripted import ScriptedEngine
from persyn_ray.engines.transformers import TransformersEngine
from persyn_ray.errors import ConfigError
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.teachers import TeacherConfig

LOCAL = {"kind": "transformers", "model": {"name": "random:llama"}}


def teacher(engine: dict[str, Any], **settings: Any) -> TeacherConfig:
    return TeacherConfig.model_validate({"name": "ada", "engine": engine} | settings)


def test_each_kind_builds_its_engine(tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text('{"question": "q", "teacher": "ada", "response": "r"}\n')
    pool = TeacherPool(("ada", "bob"))
    assert isinstance(build_engine(teacher({"kind": "scripted"}), pool), ScriptedEngine)
    assert isinstance(build_engine(teacher(LOCAL)), TransformersEngine)
    engine = build_engine(teacher({"kind": "recorded", "path": str(recorded)}))
    assert isinstance(engine, RecordedEngine)
    assert not engine.overlaps


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("system_prompt", "Be brief."),
        ("sampling", {"max_tokens": 3}),
        ("template_kwargs", {"a": 1}),
    ],
)
def test_settings_that_an_engine_would_ignore_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"kind scripted, which ignores \['{setting}'\]"):
        build_engine(teacher({"kind": "scripted"}, **{setting: value}), TeacherPool(("ada",)))


def test_a_scripted_teacher_needs_its_pool() -> None:
    with pytest.raises(ConfigError, match="'ada' needs its pool"):
        build_engine(teacher({"kind": "scripted"}))


def test_the_builder_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys, persyn_ray.engines.build, persyn_ray.checks.verifier, persyn_ray.data.prompts;"
        "print([name for name in ('torch', 'transformers', 'ray', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""The file map in docs/files.md names the files that exist, and no others."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAP = (ROOT / "docs/files.md").read_text(encoding="utf-8")


def shipped(folder: str, *endings: str) -> list[str]:
    """Files of a folder that are under version control, by their paths."""
    command = ["git", "ls-files", folder]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in ended.stdout.split() if path.endswith(endings)]


def mapped() -> list[str]:
    """Paths of the files that stand below a folder's own line."""
    found: list[str] = []
    folder = ""
    for line in MAP.splitlines():
        if heading := re.fullmatch(r"(persyn_ray/\S*) +# .+", line):
            folder = heading[1]
        elif entry := re.match(r"  (\w+\.py) +\S", line):
            found.append(folder + entry[1])
    return found


def test_every_module_is_in_the_file_map_once() -> None:
    modules = [path for path in shipped("persyn_ray", ".py") if "__init__" not in path]
    assert len(modules) > 150
    assert sorted(path for path in mapped() if "__init__" not in path) == sorted(modules)


def test_every_recipe_and_benchmark_is_in_the_file_map() -> None:
    for folder, ending in (("jobs", ".yaml"), ("benchmarks", ".py")):
        (line,) = [line for line in MAP.splitlines() if line.startswith(f"{folder}/")]
        for path in shipped(folder, ending):
            if path.count("/") == 1:
                assert re.search(rf"\b{Path(path).stem}\b", line), path

"""The public names: all there, documented, and loaded when they are first used."""

import inspect
import subprocess
import sys

import persyn_ray


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    assert len(persyn_ray.__all__) > 35
    assert set(persyn_ray.__all__) <= set(dir(persyn_ray))
    for name in persyn_ray.__all__:
        found = getattr(persyn_ray, name)
        assert inspect.getdoc(found), name
        assert found.__module__.startswith("persyn_ray."), name


def test_type_checkers_see_the_same_names() -> None:
    source = inspect.getsource(persyn_ray).partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
    words = set(source.replace(",", " ").replace("(", " ").replace(")", " ").split())
    assert set(persyn_ray.__all__) <= words


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    assert not hasattr(persyn_ray, "retrain")


def test_importing_the_package_loads_nothing_but_python_s_own() -> None:
    code = (
        "import sys; before = set(sys.modules); import persyn_ray\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - {'persyn_ray'} - sys.stdlib_module_names))\n"
        "print(sorted(name for name in sys.modules if name.startswith('persyn_ray.')))"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.split("\n")[:2] == ["[]", "[]"]


def test_rewards_recipes_and_configs_need_no_torch() -> None:
    code = (
        "import sys, persyn_ray as persyn\n"
        "persyn.rewards, persyn.load_recipe, persyn.plan, persyn.Recipe, persyn.Engine\n"
        "persyn.RouterClient, persyn.run, persyn.compare, persyn.PythonQualityConfig\n"
        "print(sorted({'torch', 'ray', 'transformers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"

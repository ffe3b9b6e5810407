"""How a loader is called: `python read_TOOL.py MODEL FOLDER FORM...`; JSON at its end."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def read_forms(read: Callable[[str, str], dict[str, Any]]) -> None:
    """Read every form in its own folder, which is the working folder meanwhile.

    Args:
        read: by a form's name and the model's folder what the tool made of it: `rows`, as the tool
            holds them, and `num_prepared`, how many of them it would train on.
    """
    model, folder, *forms = sys.argv[1:]
    found = {}
    for form in forms:
        os.chdir(os.path.join(folder, form))
        found[form] = read(form, model)
    print(json.dumps(found))

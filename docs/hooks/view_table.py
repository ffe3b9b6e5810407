"""Table of how fast `persyn view` shows large runs: the committed result in, head and rows out."""

from typing import Any

MEASURED = {
    "first page after the server has started, s": "first_page_s",
    "command to first page, s": "start_to_first_page_s",
    "most memory of the process, MiB": "memory_mib",
    "all prompts in the index, s": "index_s",
    "a later page of the list, s": "second_page_s",
    "a filter with an order, s": "filter_s",
    "a search through all texts, s": "search_s",
    "the first prompt that is opened, s": "prompt_s",
    "teachers side by side, s": "teachers_s",
}


def view_table(whole: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Planted runs, each a column: the one with goals, and the one of a million prompts."""
    sizes = [whole, *([whole["million"]] if "million" in whole else [])]
    rows = [(told, *(f"{of[key]:,}" for of in sizes)) for told, key in MEASURED.items()]
    head = (f"{of['prompts']:,} prompts, {of['teachers']} teachers" for of in sizes)
    return ("measured", *head), rows

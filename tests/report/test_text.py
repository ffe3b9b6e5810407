from typing import Any

from rich.console import Console

from persyn_ray.report.text import console, next_steps

PLAIN = str.maketrans({"\N{EN DASH}": "-", "\N{MINUS SIGN}": "-", "\N{NO-BREAK SPACE}": " "})


def printed(content: dict[str, Any]) -> str:
    screen = Console(width=120, force_terminal=False)
    with screen.capture() as capture:
        screen.print(console(content))
    return capture.get().translate(PLAIN)


def test_the_table_has_every_method_and_number(content: dict[str, Any]) -> None:
    lines = printed(content).splitlines()
    (persyn,) = [line for line in lines if line.strip().startswith("PerSyn ") and "│" in line]
    assert [cell.strip() for cell in persyn.split("│")] == [
        "PerSyn",
        "0.98",
        "0.87 (0.85-0.89)",
        "0.79 (0.75-0.82)",
        "-",
    ]
    for label in (
        "before fine-tuning",
        "random teacher",
        "strong teacher",
        "best constant teacher",
        "oracle",
    ):
        assert any(label in line and "│" in line for line in lines)
    assert "no clear difference from the oracle" in " ".join(printed(content).split())


def test_without_results_only_the_sentence_is_printed() -> None:
    assert printed({}).strip() == "Nothing was measured in this run."


def test_a_line_parts_what_selects_among_all_responses(content: dict[str, Any]) -> None:
    lines = printed(content).splitlines()
    (line,) = [place for place, line in enumerate(lines) if line.startswith(" PerSyn ")]
    assert set(lines[line + 1].strip()) == set("─┼")
    assert lines[line + 2].startswith(" best by quality alone")
    assert "selected among the responses of all teachers" in printed(content)
    for name in ("quality_only", "oracle"):
        del content["router"]["references"][name]
    del content["student"]["methods"]["oracle"]
    assert "selected among" not in printed(content)


def test_warnings_stand_by_themselves_before_the_summary(content: dict[str, Any]) -> None:
    content["router"]["differences"]["best_constant"].update(value=0.0, low=-0.1, high=0.1)
    text = " ".join(printed(content).split())
    warning = text.index("! The router is not clearly better than the best single teacher")
    assert text.count("not clearly better than the best single teacher") == 1
    assert warning < text.index("Hit@1")


def test_what_to_do_next_follows_what_there_is() -> None:
    screen = Console(width=120, force_terminal=False)

    def told(has_data: bool, has_router: bool) -> str:
        with screen.capture() as capture:
            screen.print(next_steps("runs/my run", has_data, has_router))
        return capture.get()

    assert "persyn view 'runs/my run'" in told(False, False)
    assert "export" not in told(False, True)
    assert "persyn export 'runs/my run' --to trl" in told(True, False)
    assert "persyn serve 'runs/my run'" in told(False, True)

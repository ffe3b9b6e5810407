"""The API of `persyn view` over planted answers: a small run with hostile texts, states by hand.

Serves the pages with the policy they have to live with. The states that it shows (a search that was
stopped, a step that fails, figures that nobody knows) are hard to plant in a real run folder.
"""

import json
import math
import time
from pathlib import Path
from random import Random
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import persyn_ray

PAGE = Path(persyn_ray.__path__[0]) / "view/page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
TURNED = "pay \u202e100 dollars\u202c \x1b[31mred\x1b[0m \x00 end"
ENDLESS = "Donaudampfschiff" * 60
TEACHERS = ["Qwen2.5-7B-Instruct", "Llama-3.1-8B-Instruct", "gpt-4o-mini", "weak", HOSTILE]
MODELS = {"name": TEACHERS, "price_in": [None, None, 0.15, None, None]}
MATHEMATICS = (
    "**Step 1.** The apples cost \\(3 \\times \\$4 = \\$12\\), so $5 and $6 are just money.\n\n"
    "$$\\frac{12}{1-x^2} = \\sum_{n=0}^{\\infty} 12\\,x^{2n}$$\n\n"
    "- first `code`\n- second *item*\n\n"
    "```python\ndef total(apples: int) -> int:\n    return 4 * apples  # <b>not bold</b>\n```\n\n"
    "| fruit | cost |\n|---|---|\n| apple | 4 |\n| pear | $x_1$ |\n\n"
    "For 2*3*4 = 24 and 2**3**2 = 512 no sign is lost.\n"
    "The answer is \U0001f34e **12** dollars, which I computed by counting.\n#### 12"
)
REPEATING = "Let me count. One, two, three. " + "And again, again. " * 120
FLAGS = ("unsure", "novel", "all_wrong", "disagree", "cut")


def prompt_id(number: int) -> str:
    """Ids hold what addresses give a meaning to."""
    return f"gsm/{number}?a=1&b#c" if number == 1 else f"gsm-{number:04d}"


def prompt_row(number: int) -> dict[str, Any]:
    texts = {
        0: "Anna buys 3 apples at 4 dollars each and pays with a twenty. How much does she spend?",
        1: f"What does {HOSTILE} print?",
        2: TURNED,
        3: ENDLESS,
    }
    return {
        "prompt_id": prompt_id(number),
        "text": texts.get(number, f"Add {number} and {7 * number}, then say whether it is even."),
        "task": ("add", "code", HOSTILE)[number % 3],
        "split": "parallel" if number < 100 else "routed",
        "source": "gsm8k" if number % 2 else None,
        "teacher": TEACHERS[number % 5] if number != 4 else None,
        "margin": None if number == 4 else round(0.8 * abs(math.sin(number)), 4),
        "novelty": round(0.5 + 0.4 * math.cos(number), 4),
        "is_novel": number % 11 == 0,
        "best_reward": None if number == 4 else round(math.sin(3 * number), 4),
        "spread": round(abs(math.cos(2 * number)), 4),
        "num_responses": 5,
        "num_cut": int(number % 7 == 0),
        "flags": [flag for i, flag in enumerate(FLAGS) if number % (5 + 2 * i) == 0],
    }


SIGNS = [  # to which Markdown gives a meaning
    *("**", "*", "`", "```", "```py\n", "~~~", "$", "$$", "\\(", "\\)", "\\[", "\\]", "|", "\n"),
    *("|---|---|\n", "\n\n", "\n- ", "\n1. ", "\n## ", "\n> ", " ", " ", "\n\n---\n"),
    *("#### 12", "\\"),
]


def random_text(random: Random) -> str:
    """Words between signs of Markdown, in no good order."""
    parts = (f"word{n}q" if random.random() < 0.6 else random.choice(SIGNS) for n in range(60))
    return "".join(f"{part}{random.choice(['', ' '])}" for part in parts)


def response(number: int, i: int) -> dict[str, Any]:
    texts = [MATHEMATICS, HOSTILE + "\n\n" + TURNED, REPEATING, ENDLESS, ""]
    text = texts[i]
    start = text.find("which I computed")
    return {
        "teacher": TEACHERS[i],
        "thinking": "Is 12 right? 3 times 4 is 12.\n\nYes." if i == 0 else None,
        "text": text,
        "finish_reason": "length" if i == 2 else "error" if i == 4 else "stop",
        "is_cut": i == 2,
        "loop_start": REPEATING.find("And again") if i == 2 else None,
        "error": f"The endpoint refused: {HOSTILE}" if i == 4 else None,
        "num_tokens": None if i == 4 else 40 + 90 * i,
        "quality": [1.0, 0.0, 0.0, 0.731, None][i],
        "quality_outcome": ["correct", "wrong", "no_answer", None, None][i],
        "quality_parts": [
            {"name": "reward model", "value": 0.981},
            {"name": "length penalty", "value": -0.25},
        ]
        if i == 3
        else [],
        "learnability": None if i == 4 else -0.4 - 0.35 * i,
        "lowest_window": -5.2 if i == 0 else None,
        "thinking_lowest_span": [13, 23] if i == 0 else None,
        # As Python counts: the apple before it is one character.
        "lowest_span": [start, start + len("which I computed")] if i == 0 else None,
        "reward": None if i == 4 else 0.9 - 0.5 * i,
        "logit": 1.0 - i,
        "probability": [0.52, 0.24, 0.14, 0.08, 0.02][i],
        "is_assigned": i == 0,
        "is_best": i == 0,
    }


def teacher_row(i: int) -> dict[str, Any]:
    known = i < 4
    return {
        "name": TEACHERS[i],
        "price_in": MODELS["price_in"][i],
        "price_out": 0.6 if i == 2 else None,
        "size": ["7B", "8B", None, "0.5B", None][i],
        "share": [0.41, 0.26, 0.22, 0.11, 0.0][i],
        "shares": {
            "persyn": [0.41, 0.26, 0.22, 0.11, 0.0][i],
            "quality_only": [0.2, 0.2, 0.55, 0.05, 0.0][i],
            "random": 0.2,
        },
        "num_responses": 100,
        "quality": 0.8 - 0.15 * i if known else None,
        "learnability": -0.4 - 0.2 * i if known else None,
        "reward": 0.4 - 0.2 * i if known else None,
        "cut_share": 0.03 * i**2,
        "failed_share": 1.0 if i == 4 else 0.0,
        "length": {"p10": 40, "p50": 120 + 90 * i, "p90": 380 + 210 * i, "max": 4096, "mean": 200}
        if known
        else None,
    }


def points() -> list[dict[str, Any]]:
    return [
        {
            "prompt_id": prompt_id(n % 120),
            "teacher": TEACHERS[n % 4],
            "quality": float((n * 7919) % 10 > n % 4 * 2),
            "learnability": -0.3 - 0.25 * (n % 4) - 0.5 * abs(math.sin(n)),
        }
        for n in range(400)
    ]


class ScriptedRun:
    """Answers like `persyn view`; a test changes its attributes and reads what was asked."""

    def __init__(self) -> None:
        self.rows = [prompt_row(n) for n in range(120)]
        self.state = "running"
        self.rows_done = 240
        self.is_complete = True
        self.fault: tuple[int, str] | None = None
        self.trouble: dict[str, Any] | None = None
        self.delay = 0.0
        self.why: str | None = "knn routes best by cross-validation, +0.120 over constant"
        self.is_tied = False
        self.asked: list[str] = []
        self.dead: list[dict[str, Any]] = [
            {
                "step": "collect",
                "reason": "timeout",
                "count": 31,
                "teachers": {HOSTILE: 30, "weak": 1},
                "example": {"prompt_id": prompt_id(1), "teacher": HOSTILE, "detail": HOSTILE},
            },
            {"step": "score", "reason": "reference", "count": 2, "teachers": {}, "example": None},
        ]
        self.has_report = True

    def run(self, request: Request) -> Any:
        teachers = [
            {"name": name, "model": name, "size": None, "licence": None, "share": None}
            for name in TEACHERS
        ]
        return {
            "name": "apples " + HOSTILE,
            "address": "runs/apples",
            "student": "Qwen2.5-1.5B",
            "alpha": 0.4,
            "methods": ["persyn", "quality_only", "random"],
            "router": {"kind": "knn", "label": "k-NN on frozen embeddings", "why": self.why},
            "teachers": teachers,
            "tasks": ["add", "code", HOSTILE],
            "splits": ["parallel", "routed"],
            "has": {"rewards": True, "report": self.has_report},
            "num_prompts": len(self.rows),
        }

    def now(self, request: Request) -> Any:
        names = ["prompts", "collect", "score", "rewards", "router", "route", "synthesize"]
        unknown = {"eta_seconds": None, "tokens_per_second": None, "cost": None}
        steps = [
            {"name": name, "state": "waiting", "rows": None, "total_rows": None, "seconds": None}
            | unknown
            | {"note": "k-NN on frozen embeddings" if name == "router" else None}
            | {"planned_cost": 1.5 if name == "synthesize" else None}
            for name in names
        ]
        steps[0] |= {"state": "done", "rows": 1800, "total_rows": 1800, "seconds": 10.1}
        steps[1] |= {"state": self.state if self.state == "failed" else "running"}
        steps[1] |= {"rows": self.rows_done, "total_rows": 500, "seconds": 312.0}
        steps[1] |= {"eta_seconds": 338.0, "tokens_per_second": 18240.5, "cost": 0.42}
        steps[1] |= {"planned_cost": 0.9}
        return {
            "updated": "2026-11-26T20:00:00Z",
            "state": self.state,
            "trouble": self.trouble,
            "steps": steps,
            "cost": 0.42,
            "planned_cost": 2.4,
            "budget": 5.0,
            "teachers": [
                {
                    "name": name,
                    "answered": 60 - 12 * i,
                    "cut": [0, 1, 0, 9, 0][i],
                    "failed": 31 if i == 4 else 0,
                    "at_work": 8 if i < 3 else 0,
                    "tokens": 12345 * (5 - i),
                    "cost": 0.42 if i == 2 else None,
                    "planned_cost": 0.9 if i == 2 else None,
                    "budget": 2.0 if i == 2 else None,
                }
                for i, name in enumerate(TEACHERS)
            ],
        }

    def fitting(self, request: Request) -> list[dict[str, Any]]:
        query = request.query_params
        rows = [
            row
            for row in self.rows
            if query.get("search", "") in row["text"]
            and query.get("task", row["task"]) == row["task"]
            and query.get("teacher", row["teacher"]) == row["teacher"]
            and query.get("split", row["split"]) == row["split"]
            and set(query.getlist("flag")) <= set(row["flags"])
        ]
        sort = query.get("sort", "")
        if key := sort.lstrip("-"):
            column = {"prompt": "text", "length": "num_responses"}.get(key, key)
            known = [row for row in rows if row[column] is not None]
            known.sort(key=lambda row: row[column], reverse=sort.startswith("-"))
            rows = known + [row for row in rows if row[column] is None]
        return rows

    def prompts(self, request: Request) -> Any:
        rows = self.fitting(request)
        offset, limit = (int(request.query_params[name]) for name in ("offset", "limit"))
        return {
            "total": len(rows),
            "is_complete": self.is_complete,
            "searched": None if self.is_complete else 60,
            "offset": offset,
            "limit": limit,
            "rows": rows[offset : offset + limit],
        }

    def prompt(self, request: Request) -> Any:
        name = request.path_params["prompt_id"]
        ids = [row["prompt_id"] for row in self.fitting(request)]
        number = [row["prompt_id"] for row in self.rows].index(name)
        row = self.rows[number]
        at = ids.index(name) if name in ids else None
        system = {"role": "system", "content": "Be brief."}
        user = {"role": "user", "content": row["text"]}
        tied = {"reward": 0.5, "is_best": True} if self.is_tied else {}
        return {
            **{key: row[key] for key in ("prompt_id", "task", "source", "split", "margin")},
            **{key: row[key] for key in ("novelty", "is_novel")},
            "messages": [user] if number == 0 else [system, user],
            "reference": "3 × 4 = 12\n#### 12" if number == 0 else None,
            "why": f"The router puts {TEACHERS[0]} ahead of {TEACHERS[1]} by a margin of 0.77.",
            "methods": {"persyn": TEACHERS[0], "quality_only": TEACHERS[2], "random": HOSTILE},
            "responses": [] if number == 4 else [response(number, i) | tied for i in range(5)],
            "previous_id": ids[at - 1] if at else None,
            "next_id": ids[at + 1] if at is not None and at + 1 < len(ids) else None,
        }

    def teachers(self, request: Request) -> Any:
        matrix = [[1.0 if i == j else 0.9 - 0.1 * abs(i - j) for j in range(4)] for i in range(4)]
        return {
            "teachers": [teacher_row(i) for i in range(5)],
            "agreement": {"names": TEACHERS[:4], "matrix": matrix},
            "points": points(),
        }

    def dead_letters(self, request: Request) -> Any:
        return {"total": sum(one["count"] for one in self.dead), "reasons": self.dead}

    def app(self) -> Starlette:
        def page(request: Request) -> Response:
            return FileResponse(PAGE / "index.html", headers={"Content-Security-Policy": POLICY})

        def answered(make: Any) -> Any:
            def answer(request: Request) -> Response:
                self.asked.append(f"{request.url.path}?{request.url.query}")
                time.sleep(self.delay)
                if self.fault:
                    return JSONResponse({"error": self.fault[1]}, self.fault[0])
                body = json.dumps(make(request)).encode()
                return Response(body, media_type="application/json")

            return answer

        pages = ("/", "/prompts", "/prompt", "/teachers", "/dead-letters", "/run-report")
        return Starlette(
            routes=[
                *(Route(path, page) for path in pages),
                Route("/api/run", answered(self.run)),
                Route("/api/now", answered(self.now)),
                Route("/api/prompts", answered(self.prompts)),
                Route("/api/prompts/{prompt_id:path}", answered(self.prompt)),
                Route("/api/teachers", answered(self.teachers)),
                Route("/api/dead-letters", answered(self.dead_letters)),
                Route("/report", lambda _: HTMLResponse("<h1>The run's report</h1>")),
                Mount("/static", StaticFiles(directory=PAGE)),
            ]
        )

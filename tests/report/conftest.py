"""A report's content with numbers as a small run has them; each test gets its own copy."""

from typing import Any

import pytest

from persyn_ray.report.html import render

TEACHERS = [
    "add-specialist",
    "string-specialist",
    "max-specialist",
    "strong-generalist",
    "weak-generalist",
]
TASKS = ["add", "sort", "reverse", "max"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: opens the page in headless Chromium")


def estimate(value: float, half: float, num: int = 375) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "num": num}


def shares(*values: float) -> dict[str, float]:
    return dict(zip(TEACHERS, values, strict=True))


@pytest.fixture
def content() -> dict[str, Any]:
    return a_whole_run()


@pytest.fixture(scope="session")
def rendered() -> str:
    """The page of the whole content, drawn once."""
    return render(a_whole_run())


def a_whole_run() -> dict[str, Any]:
    return {
        "run": _run(),
        "prompts": {
            "num_loaded": 12_600,
            "num_duplicates": 63,
            "num_parallel": 2500,
            "num_routed": 9437,
            "num_heldout": 600,
        },
        "allocation": _allocation(),
        "reward": _reward(),
        "router": _router(),
        "constraints": _constraints(),
        "alpha_sweep": {
            "reference_alpha": 0.4,
            "points": [_alpha_point(step / 10) for step in range(11)],
        },
        "student": _student(),
        "training": {"methods": {name: _trained(name) for name in ("persyn", "random")}},
        "examples": {
            "methods": {name: _example_counts(name) for name in ("persyn", "random")},
            "contaminated": [
                {
                    "prompt_id": "9f3ac41e77b2d610",
                    "teacher": "extra:tulu",
                    "place": "prompt",
                    "problem_id": "51b7c2",
                    "words": "how many apples does she have left after giving half of them away",
                }
            ],
        },
        "tokens": {
            "unit": "teacher tokens",
            "collect": 341_250,
            "synthesize": 98_412,
            "route_then_generate": 439_662,
            "generate_then_select": 1_629_401,
            "saving_fraction": 1 - 439_662 / 1_629_401,
            "estimated": True,
            "per_teacher": shares(81_204, 43_991, 39_480, 208_313, 66_674),
            "responses": {
                "collect": 12_500,
                "synthesize": 9437,
                "route_then_generate": 21_937,
                "generate_then_select": 59_685,
            },
        },
        "timing": _timing(),
        "forecast": {"steps": {"collect": _collect_forecast()}},
        "dead_letters": {
            "num": 7,
            "by_reason": {"timed_out": 5, "error": 2},
            "by_teacher": {"strong-generalist": 6, "weak-generalist": 1},
            "examples": [
                {
                    "step": "score",
                    "prompt_id": "9f3ac41e77b2d610",
                    "teacher": "strong-generalist",
                    "reason": "timed_out",
                    "detail": "verification took longer than 10.0 s",
                }
            ],
        },
    }


def _run() -> dict[str, Any]:
    teachers = [
        {
            "name": name,
            "engine": {"kind": "transformers", "model": {"name": f"lab/{name}"}},
            "licence": None if name == "weak-generalist" else "apache-2.0",
        }
        for name in TEACHERS
    ]
    return {
        "name": "Four small tasks, five teachers",
        "recipe": {
            "run": "runs/lab",
            "student": {"name": "lab/student"},
            "teachers": teachers,
            "scoring": {"alpha": 0.4, "scaling": "minmax", "quality": {"kind": "exact_match"}},
        },
        "fingerprint": "4b1f0c9a72de",
        "created": "2026-03-02 14:05 UTC",
        "versions": {
            "persyn-ray": "0.1.0",
            "ray": "2.60.0",
            "torch": "2.9.1",
            "transformers": "5.1.0",
        },
        "hardware": {"cpus": 2, "memory_gib": 15.6, "gpus": 0},
        "student": "lab/student",
        "quality_kind": "exact_match",
        "learnability_kind": "log_likelihood",
        "alpha": 0.4,
        "scaling": "minmax",
        "seed": 0,
    }


def _allocation() -> dict[str, Any]:
    return {
        "teachers": TEACHERS,
        "methods": {
            "persyn": shares(0.214, 0.231, 0.118, 0.052, 0.385),
            "random": shares(0.2, 0.199, 0.202, 0.201, 0.198),
            "best_constant": shares(0, 0, 0, 0, 1),
            "strong": shares(0, 0, 0, 1, 0),
        },
        "parallel_set_oracle": shares(0.192, 0.238, 0.133, 0.071, 0.366),
        "by_task": {
            "add": shares(0.81, 0, 0, 0.04, 0.15),
            "sort": shares(0, 0.62, 0, 0.13, 0.25),
            "reverse": shares(0, 0.3, 0, 0.01, 0.69),
            "max": shares(0, 0, 0.48, 0.03, 0.49),
        },
    }


def _reward() -> dict[str, Any]:
    rows = {
        "add-specialist": (0.31, 0.241, -1.92, 14.2),
        "string-specialist": (0.52, 0.493, -1.38, 8.1),
        "max-specialist": (0.33, 0.246, -1.71, 6.4),
        "strong-generalist": (0.58, 0.946, -5.8, 56.3),
        "weak-generalist": (0.71, 0.724, -0.81, 9.0),
    }
    return {
        "measured_on": "parallel set",
        "teachers": {
            name: {
                "mean_reward": estimate(reward, 0.018, 2500),
                "mean_quality": quality,
                "mean_learnability": learnability,
                "mean_tokens": tokens,
                "num_null": 5 if name == "strong-generalist" else 0,
                "num_responses": 2500,
                "num_truncated": 4 if name == "strong-generalist" else 0,
                "num_looped": 1 if name == "strong-generalist" else 0,
                "num_failed": 0,
                "num_absent": 0,
                "num_unscored": 0,
            }
            for name, (reward, quality, learnability, tokens) in rows.items()
        },
        "preferences": {
            "num_pairs": 24_212,
            "num_ties": 768,
            "num_null": 20,
            "num_prompts_without_pairs": 3,
        },
        "incomplete": "drop",
        "prompts": {
            "num": 2500,
            "num_rewarded": 2500,
            "num_comparable": 2500,
            "num_preferring": 2497,
            "num_all_tied": 3,
        },
    }


def _router() -> dict[str, Any]:
    hits = {
        "persyn": 0.713,
        "random": 0.203,
        "best_constant": 0.366,
        "strong": 0.071,
        "knn": 0.668,
        "quality_only": 0.59,
        "oracle": 1.0,
    }
    rewards = {
        "persyn": 0.871,
        "random": 0.487,
        "best_constant": 0.712,
        "strong": 0.581,
        "knn": 0.859,
        "quality_only": 0.902,
        "oracle": 0.934,
    }
    return {
        "num_fit": 2125,
        "num_heldout": 375,
        "heldout_set": "router hold-out",
        "prompts": {
            "num": 375,
            "num_rewarded": 375,
            "num_comparable": 375,
            "num_preferring": 374,
            "num_all_tied": 1,
        },
        "hit_at_1": estimate(0.713, 0.046),
        "chance_at_1": 0.232,
        "chance_at_3": 0.641,
        "hit_at_3": estimate(0.965, 0.019),
        "regret": estimate(0.063, 0.014),
        "pairwise_accuracy": estimate(0.884, 0.011),
        "loss_curve": [
            {
                "step": 10 * step,
                "train_loss": 0.24 + 0.45 / (1 + step / 4),
                "heldout_loss": 0.27 + 0.42 / (1 + step / 4) if step % 4 == 0 else None,
            }
            for step in range(41)
        ],
        "references": {
            name: {
                "reward": estimate(rewards[name], 0.017),
                "regret": estimate(rewards["oracle"] - rewards[name], 0.015 * (name != "oracle")),
                "hit_at_1": estimate(hits[name], 0.04 * (name != "oracle")),
            }
            for name in hits
        },
        "differences": {
            name: estimate(rewards["persyn"] - rewards[name], 0.02)
            for name in ("random", "best_constant", "strong", "knn", "quality_only")
        },
        "learning_curve": [
            {
                "num_parallel": num,
                "hit_at_1": estimate(hit, 0.047),
                "chance_at_1": 0.232,
                "regret": estimate(regret, 0.016),
                "pairwise_accuracy": estimate(accuracy, 0.012),
            }
            for num, hit, regret, accuracy in (
                (80, 0.38, 0.21, 0.741),
                (250, 0.52, 0.142, 0.803),
                (800, 0.641, 0.09, 0.861),
                (2125, 0.713, 0.063, 0.884),
            )
        ],
        "calibration": _calibration(),
        "transfer": _transfer(),
        "hedging": [_hedging_point(step / 5) for step in range(21)],
        "novelty": {
            "by_split": {"parallel": 0.0104, "routed": 0.0735, "heldout": 0.0117},
            "by_task": dict(zip(TASKS, (0.012, 0.008, 0.271, 0.0), strict=True)),
        },
    }


def _trained(method: str) -> dict[str, Any]:
    least = {"persyn": 0.61, "random": 0.74}[method]
    losses = [least + (step - 12) ** 2 / 400 for step in range(1, 17)]
    return {
        "num_examples": 11_311,
        "num_heldout": 226,
        "num_steps": 160,
        "kept_step": 120,
        "is_stopped_early": method == "persyn",
        "best_heldout_loss": min(losses),
        "loss_curve": [
            {"step": 10 * step, "train_loss": loss - step / 60, "heldout_loss": loss}
            for step, loss in enumerate(losses, 1)
        ],
    }


def _calibration() -> dict[str, Any]:
    claims = [0.505 + step * 0.033 for step in range(15)]
    return {
        "ece": estimate(0.062, 0.017),
        "noise": 0.021,
        "temperature": 1.64,
        "scaled_ece": {"value": 0.024, "low": 0.0, "high": 0.041, "num": 375},
        "scaled_noise": 0.02,
        "table": [
            {"confidence": claim, "accuracy": claim - 0.28 * (claim - 0.5), "num": 245.0}
            for claim in claims
        ],
    }


def _transfer() -> dict[str, Any]:
    fitted_on = {"all": TASKS, **{task: [task] for task in TASKS}}
    for task in TASKS:
        fitted_on[f"without {task}"] = [other for other in TASKS if other != task]
    return {
        "tasks": TASKS,
        "fits": {
            name: {
                task: _ranking((0.72 if task in known else 0.31) - 0.03 * place)
                for place, task in enumerate(TASKS)
            }
            for name, known in fitted_on.items()
        },
    }


def _ranking(hit: float) -> dict[str, Any]:
    return {
        "hit_at_1": estimate(hit, 0.09, 94),
        "chance_at_1": 0.23,
        "regret": estimate(0.22 * (1 - hit), 0.03, 94),
        "pairwise_accuracy": estimate(0.5 + hit / 2, 0.02, 94),
    }


def _hedging_point(extra: float) -> dict[str, Any]:
    gained = 0.934 - 0.871
    return {
        "extra": extra,
        "reward": 0.934 - gained * (1 - extra / 4) ** 3,
        "random": 0.934 - gained * (1 - extra / 4) ** 1.4,
    }


def _constraints() -> dict[str, Any]:
    return {
        "limits": {"max_tokens": 120_000, "max_dollars": 4.0, "capacity of weak-generalist": 4000},
        "used": {"max_tokens": 119_984, "max_dollars": 2.31, "capacity of weak-generalist": 4000},
        "value": 7012.4,
        "bound": 7012.9,
        "gap": 0.5,
        "unconstrained_value": 7388.1,
        "pareto": [
            {
                "cost": 62_000 + 12_000 * step,
                "reward": 7388.1 - 2.35 * (10 - step) ** 3,
                "unit": "tokens",
            }
            for step in range(11)
        ],
    }


def _alpha_point(alpha: float) -> dict[str, Any]:
    strong = 0.29 * max(0.0, 1 - 2.2 * alpha)
    weak = 0.22 + 0.5 * alpha**1.3
    rest = 1 - strong - weak
    return {
        "alpha": alpha,
        "shares": shares(0.36 * rest, 0.42 * rest, 0.22 * rest, strong, weak),
        "agreement": 1 - 0.9 * abs(alpha - 0.4) ** 1.2,
        "mean_quality": 0.99 if alpha < 0.5 else 0.99 - 0.7 * (alpha - 0.5),
        "mean_learnability": -2.1 + 1.6 * alpha,
    }


def _student() -> dict[str, Any]:
    rows = {
        "persyn": (0.785, 0.033, 0.976),
        "random": (0.402, 0.039, 0.541),
        "best_constant": (0.68, 0.037, 0.712),
        "strong": (0.5, 0.04, 0.913),
        "oracle": (0.803, 0.032, 0.991),
    }
    return {
        "metric": "accuracy",
        "num_problems": 600,
        "before": estimate(0.252, 0.035, 600),
        "methods": {
            name: {**estimate(value, half, 600), "num_examples": 9437, "correct_share": share}
            for name, (value, half, share) in rows.items()
        },
        "differences": {
            "before": estimate(0.533, 0.042, 600),
            "random": estimate(0.383, 0.043, 600),
            "best_constant": estimate(0.105, 0.034, 600),
            "strong": estimate(0.285, 0.041, 600),
            "oracle": estimate(-0.018, 0.024, 600),
        },
        "by_task": {
            "before": dict(zip(TASKS, (0.08, 0.13, 0.51, 0.29), strict=True)),
            "persyn": dict(zip(TASKS, (0.6, 0.57, 0.98, 0.99), strict=True)),
            "random": dict(zip(TASKS, (0.15, 0.22, 0.66, 0.58), strict=True)),
            "best_constant": dict(zip(TASKS, (0.44, 0.41, 0.97, 0.9), strict=True)),
            "strong": dict(zip(TASKS, (0.32, 0.3, 0.71, 0.67), strict=True)),
            "oracle": dict(zip(TASKS, (0.61, 0.64, 0.98, 0.98), strict=True)),
        },
    }


def _example_counts(method: str) -> dict[str, Any]:
    return {
        "kept": 9437,
        "without_response": 12,
        "truncated": 31,
        "looped": 0,
        "without_teacher": 2,
        "kept_truncated": 0,
        "reassigned": 54 if method == "persyn" else 40,
        "wrong": 0,
        "contaminated": 0,
        "left_out": 0,
        "extra": {"tulu": {"kept": 4718, "unreadable": 1, "duplicates": 20, "contaminated": 2}},
    }


def _collect_forecast() -> dict[str, Any]:
    actual = dict(zip(TEACHERS, (62_000, 35_000, 31_000, 165_000, 48_250), strict=True))
    return {
        "prompts": {"forecast": 12_500, "actual": 12_500},
        "tokens": {"forecast": 1_200_000, "actual": 341_250},
        "seconds": {"forecast": 240.0, "actual": 96.0},
        "dollars": {"forecast": 1.5, "actual": 0.6},
        "at_most": True,
        "teachers": {
            name: {
                "prompts": {"forecast": 2500, "actual": 2500},
                "tokens": {"forecast": 240_000, "actual": tokens},
                "seconds": {"forecast": 48.0, "actual": 19.2},
                "dollars": {"forecast": 0.3, "actual": 0.12},
                "at_most": True,
                "source": "sampling.max_tokens, estimated speed",
                "slots": 256,
                "running": {"forecast": 180.0, "actual": 171.0},
                "kv_use": {"forecast": None, "actual": 0.41},
            }
            for name, tokens in actual.items()
        },
    }


def _timing() -> dict[str, Any]:
    steps = {
        "prompts": (1.4, 12_537),
        "collect": (96.0, 12_500),
        "score": (41.7, 12_500),
        "rewards": (0.6, 2500),
        "router": (118.2, 2125),
        "route": (12.9, 9437),
        "synthesize": (74.1, 9437),
        "finetune": (387.0, 47_185),
        "evaluate": (58.3, 3600),
        "report": (2.8, None),
    }
    return {
        "steps": [
            {"step": name, "seconds": time, "rows": rows} for name, (time, rows) in steps.items()
        ],
        "total_seconds": sum(time for time, _ in steps.values()),
    }

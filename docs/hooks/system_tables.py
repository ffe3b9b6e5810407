"""The table of what the parts of the system were measured to do, of many results."""

from typing import Any

from markdown_tables import Rows, result, table


def systems() -> str:
    """What the parts of the system were measured to do."""
    rows = [*scoring_rows(), *engine_rows(), *other_rows(), *endpoint_rows()]
    return table(("measured", "figure"), rows)


def scoring_rows() -> Rows:
    """Likelihoods of recorded responses, of two sets, under a student."""
    figures = result("scoring")["figures"]
    both = [figures[name] for name in ("gsm8k", "alpaca_eval")]
    peak = figures["peak_memory_mib"]
    return [
        (
            "scoring: response tokens a second (GSM8K, AlpacaEval)",
            ", ".join(str(one["tokens_per_second"]["ours"]) for one in both),
        ),
        (
            "scoring over the bare model without its head",
            ", ".join(f"{one['over_bound']:.2f}" for one in both),
        ),
        (
            "scoring over the usual padded loop",
            ", ".join(f"{one['over_padded_loop']:.1f}" for one in both),
        ),
        (
            "scoring over vLLM's `prompt_logprobs`",
            ", ".join(f"{one['over_vllm']:.1f}" for one in both),
        ),
        (
            "scoring: peak memory above the model, responses of 256 and of 4,096 tokens",
            f"{peak['256']} MiB, {peak['4096']} MiB",
        ),
    ]


def streaming_rows(streaming: dict[str, Any]) -> Rows:
    """Shares of a real engine, kills, and a million prompts."""
    real, kills = streaming["real_vllm"], streaming["kills"]
    scale = streaming["scale"]["local_1000000"]
    peak = max(part["peak_gib"] for part in scale.values() if isinstance(part, dict))
    ways = [real[how] for how in ("greedy", "sampled")]
    return [
        (
            "a 5 % share of 256 prompts each, real vLLM over the engine alone: greedy, sampled",
            ", ".join(f"{way['engine_ratio_share']:.2f}" for way in ways),
        ),
        (
            "the same over `ray.data.llm`",
            ", ".join(f"{way['over_ray_data_llm']:.2f}" for way in ways),
        ),
        (
            f"{kills['num_kills']} seeded kills of driver, actor, engine, raylet: "
            "rows lost, doubled, done again beyond those in flight",
            f"{kills['rows_lost']}, {kills['rows_duplicated']}, {kills['rework_over_in_flight']}",
        ),
        (
            "a million prompts, 19 teachers: step prompts, start of synthesize, resumption, memory",
            f"{scale['prompts']['prompts']:.0f} s, {scale['start_synthesize']['seconds']:.1f} s, "
            f"{scale['resume_seconds']:.0f} s, {peak:.2f} GiB",
        ),
    ]


def engine_rows() -> Rows:
    """Teachers: one engine, many of them, and how many responses are asked for."""
    names = ("generation", "streaming", "waves", "savings")
    generation, streaming, waves, savings = (result(name)["figures"] for name in names)
    return [
        (
            "one vLLM engine behind our actor over the engine alone (tokens a second)",
            f"{generation['engine_ratio']:.2f}",
        ),
        ("the same over `ray.data.llm`", f"{generation['over_ray_data_llm']:.2f}"),
        (
            "streaming to 19 simulated teachers: slots filled, of those that can be",
            f"{streaming['slots_filled']:.2f}",
        ),
        *streaming_rows(streaming),
        (
            "waves of 19 teachers on 8 to 64 GPUs: worst end over the linear bound (simulated)",
            f"{waves['makespan_over_bound']:.3f}",
        ),
        (
            "route-then-generate: share of generate-then-select's responses, of its tokens",
            f"{savings['responses_share']:.3f}, {savings['tokens_share']:.3f}",
        ),
    ]


def other_rows() -> Rows:
    """The router's fit, limits, checks of answers, and routing a table."""
    names = ("router_fit", "constrained", "verify", "route_table")
    fit, limits, verify, routed = (result(name)["figures"] for name in names)
    programs = result("programs")
    million, exports = limits["million"], result("exports")
    large = exports["large_run"]
    return [
        (
            "router fit: passes over a pass for each pair of 19 teachers",
            f"1 : {fit['passes_ratio']:.0f}",
        ),
        (
            "limits: a million prompts, 19 teachers, three limits",
            f"{million['seconds']:.0f} s, {million['peak_gib']:.1f} GiB",
        ),
        (
            "answers checked a second and core; misjudged of planted ones",
            f"{verify['checks_per_second_per_core']:.0f}; "
            f"{verify['misjudged']} of {verify['planted']:,}",
        ),
        (
            "hostile programs against unit tests: run; hung, escaped, lost, misjudged",
            f"{programs['num_programs']:,}; "
            + ", ".join(str(programs[key]) for key in ("hangs", "escapes", "lost", "misjudged")),
        ),
        (
            "`persyn route`: rows a second, two workers",
            f"{routed['rows_per_second']['route']:,.0f}",
        ),
        (
            "`persyn export`: forms that their tools' own loaders accepted, texts unchanged",
            f"{exports['accepted']} of {exports['num_forms']}",
        ),
        (
            "the same for a million rows",
            f"{large['rows_per_second']:,} rows a second, {large['peak_mib']} MiB",
        ),
    ]


def endpoint_rows() -> Rows:
    """The router's endpoint."""
    figures = result("endpoint")["figures"]
    ours, default = (_point(figures, way, 64) for way in ("haproxy", "default"))
    light, soak = figures["latency"]["light"], figures["soak"]
    return [
        (
            "endpoint, 64 requests at once: answers a second; by Ray Serve's default path",
            f"{ours:.1f}; {default:.1f}",
        ),
        (
            "the same with a tiny backbone",
            f"{light['haproxy']['per_second']:.0f}; {light['default']['per_second']:.1f}",
        ),
        (
            "endpoint: requests of 256 prompts, over the bare forward (prompts a second)",
            f"{figures['many_over_bare']:.2f}",
        ),
        (
            "endpoint, ten minutes with a replica killed every 30 s: answers, wrong, 429",
            f"{soak['client']['ended']:,}, {soak['wrong_answers']}, "
            f"{soak['client']['attempts']['429']}",
        ),
    ]


def _point(endpoint: dict[str, Any], way: str, concurrency: int) -> float:
    points = endpoint["latency"]["ways"][way]["points"]
    return next(point["per_second"] for point in points if point["concurrency"] == concurrency)

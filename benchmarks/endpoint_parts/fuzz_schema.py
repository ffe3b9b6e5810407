"""Requests that schemathesis makes from the OpenAPI document: those that fit it and those that do
not.

    python -m endpoint_parts.fuzz_schema < plan.json    # one JSON line comes out

A plan has `port`, `key`, `requests`, `seconds`, `seed`. The operations take turns, in rounds of
examples; it ends with the number of requests, or with the time.
"""

import json
import os
import sys
import time
from collections import Counter
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode
from schemathesis.schemas import APIOperation

EXAMPLES = 50
"""Of an operation in a round, for each of the two modes."""
ANSWER_SECONDS = 60.0
WEIGHTS = {"POST": 5, "GET": 1}
"""Operations with a body have more to get wrong."""


class Fuzz:
    """Sends cases and counts what comes back."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan, self.ends = plan, time.monotonic() + plan["seconds"]
        self.base = f"http://127.0.0.1:{plan['port']}"
        self.headers = {"Authorization": f"Bearer {plan['key']}"}
        self.session = requests.Session()
        self.num = 0
        self.statuses: dict[str, Counter[str]] = {}
        self.failures: list[dict[str, str]] = []
        self.not_made: Counter[str] = Counter()

    @property
    def is_over(self) -> bool:
        """Enough requests, or no time left."""
        return self.num >= self.plan["requests"] or time.monotonic() > self.ends

    def run(self) -> None:
        """Rounds over all operations."""
        schema = schemathesis.openapi.from_url(f"{self.base}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations()]
        number = 0
        while not self.is_over:
            before = self.num
            for operation in operations:
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    self.examples(operation, mode, number)
            number += 1
            if self.num == before:
                break

    def examples(self, operation: APIOperation, mode: GenerationMode, number: int) -> None:
        """A few cases of one operation."""
        many = max(1, EXAMPLES * WEIGHTS.get(operation.method.upper(), 1) // 5)

        @seed(self.plan["seed"] + number)
        @settings(
            max_examples=many,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: Case) -> None:
            if not self.is_over:
                self.send(case, f"{operation.method.upper()} {operation.path} {mode.value}")

        try:
            send()
        except Exception as error:  # an operation without inputs has nothing that does not fit
            self.not_made[f"{operation.label} {mode.value}: {type(error).__name__}"] += 1

    def send(self, case: Case, name: str) -> None:
        """One request; a lost connection counts as an outcome."""
        counts = self.statuses.setdefault(name, Counter())
        self.num += 1
        if self.num % 2 and isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = "persyn"  # else no chat would come as far as the router
        try:
            answer = case.call(
                base_url=self.base,
                session=self.session,
                headers=self.headers,
                timeout=ANSWER_SECONDS,
            )
        except (requests.RequestException, OSError) as error:
            counts[type(error).__name__] += 1
            return
        counts[str(answer.status_code)] += 1
        if answer.status_code == 500 and len(self.failures) < 20:
            self.failures.append({"family": name, "sent": case.as_curl_command()[:600]})


def main() -> None:
    os.nice(5)
    fuzz = Fuzz(json.load(sys.stdin))
    fuzz.run()
    found = {
        "sent": fuzz.num,
        "statuses": {name: dict(counts) for name, counts in fuzz.statuses.items()},
        "failures": fuzz.failures,
        "not_made": dict(fuzz.not_made),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

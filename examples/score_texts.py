"""How likely a student finds texts: the mean per token, and the token that surprises it most.

python examples/score_texts.py [MODEL]        # a name on the hub or a folder; by default the lab's
"""

import sys

import persyn_ray as persyn

MODEL = "package:persyn_ray/lab/assets/string-specialist"

# Two responses to each prompt. Those to one prompt are best passed together: it is read once.
PROMPTS = ["flip gzc", "flip gzc", "sort 3 1 2", "sort 3 1 2"]
RESPONSES = ["rev#czg", "rev#gzc", "sort#1 2 3", "sort#3 1 2"]


def main(model: str = MODEL) -> None:
    """Print a line for each response."""
    student = persyn.Likelihood(model)
    found = student.score(PROMPTS, RESPONSES, per_token=True)
    assert found.per_token is not None
    for place, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        of = found.per_token[place]
        if of is None:
            print(f"{prompt!r} -> {response!r}: not scored ({found.outcomes[place]})")
            continue
        mean, count = found.mean_log_likelihood[place], found.num_tokens[place]
        least = int(of.log_probs.argmin())
        print(
            f"{prompt!r} -> {response!r}: {mean:.2f} nats per token over {count} tokens; "
            f"least likely {of.tokens[least]!r} ({of.log_probs[least]:.2f})"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

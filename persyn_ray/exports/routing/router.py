"""The router as a plain transformers folder: a fitted router in, files that need no package out.

config.json, model.safetensors   the backbone, as AutoModel reads it
tokenizer.json and the like      its tokenizer
head.safetensors                 weight (teachers x width) and bias (teachers)
router.json                      the teachers in the head's order, and how prompts are read
README.md                        a few lines of code that score a prompt
"""

import tempfile
from pathlib import Path

from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from persyn_ray.errors import ConfigError
from persyn_ray.exports.form import Facts, Rows, Written
from persyn_ray.exports.writing import write_json
from persyn_ray.models.router.model import Router, load_router
from persyn_ray.models.sanitize import controls

README = """# A router of prompts to teachers

Reads a prompt and gives one logit for each of the teachers {teachers} (loss `{loss}`): the teacher
with the highest is the one to ask. Of the run {name!r} (fingerprint {fingerprint}).

{meaning}

It needs torch, transformers and safetensors, and no other package. Control tokens of the tokenizer
that stand in a prompt are read as text. In this folder:

```python
{code}
```
"""
MEANING = {
    "regression": "Logits are rewards, up to a shift of each prompt: their differences count.",
    "bradley_terry": "Teacher i beats teacher j with probability sigmoid(logit_i - logit_j).",
    "plackett_luce": "Each teacher is chosen with probability softmax(logits).",
}
CODE = """import json, re, torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

router, head = json.load(open("router.json")), load_file("head.safetensors")
tokenizer, backbone = AutoTokenizer.from_pretrained("."), AutoModel.from_pretrained(".").eval()

def plain(text):
    return re.sub(router["control_tokens"], lambda t: t[0][0] + "\\u200d" + t[0][1:], text)

def logits(messages):
{encode}
    with torch.no_grad():
        state = backbone(torch.tensor([ids])).last_hidden_state[0]{pool}
    return dict(zip(router["teachers"], (head["weight"] @ state + head["bias"]).tolist()))

print(logits([{{"role": "user", "content": "What is 12 x 12?"}}]))"""
BY_TEMPLATE = """\
    turns = [turn | {"content": plain(turn["content"])} for turn in messages]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"][-router["max_length"]:]"""
BY_TEXT = """\
    text = plain("\\n\\n".join(turn["content"] for turn in messages if turn["role"] == "user"))
    tokenizer.truncation_side = "left"
    ids = tokenizer(text, truncation=True, max_length=router["max_length"])["input_ids"]"""
POOLS = {"last": "[-1]", "mean": ".mean(0)"}


def plain_router(rows: Rows, where: Path, facts: Facts) -> Written:
    """The fitted router, whatever rows there are.

    Raises:
        ConfigError: the router's logits are not those of a head.
    """
    with tempfile.TemporaryDirectory() as scratch:
        router, tokenizer = load_router(facts.router.download(Path(scratch) / "router"))
        if router.predictor is not None:
            raise ConfigError(
                f"The run's router is of router.kind {router.predictor.kind}, and this form holds "
                "a backbone with a linear head: export a run of kind fitted, or use the router "
                "with `persyn route`, `persyn serve` or persyn_ray.Router."
            )
        router.backbone.save_pretrained(where)
        tokenizer.save_pretrained(where)
    head = {"weight": router.head.weight.detach(), "bias": router.head.bias.detach()}
    save_file(
        {name: value.contiguous() for name, value in head.items()}, where / "head.safetensors"
    )
    write_json(where / "router.json", _facts(router, tokenizer))
    readme = _readme(router, bool(tokenizer.chat_template), facts)
    (where / "README.md").write_text(readme, encoding="utf-8")
    files = sorted(str(one.relative_to(where)) for one in where.rglob("*") if one.is_file())
    return Written(tuple(files), 0, "")


def _facts(router: Router, tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    config = router.config
    length = int(config.extra.get("max_length", 1024))
    return {
        "teachers": list(config.teachers),
        "loss": config.loss,
        "pooling": config.pooling,
        # With a chat template the end of a prompt is kept, whatever the tokenizer's own limit.
        "max_length": length
        if tokenizer.chat_template
        else min(length, int(tokenizer.model_max_length)),
        "control_tokens": controls(tokenizer)[1],
    }


def _readme(router: Router, has_template: bool, facts: Facts) -> str:
    config = router.config
    encode = BY_TEMPLATE if has_template else BY_TEXT
    return README.format(
        teachers=", ".join(config.teachers),
        loss=config.loss,
        name=facts.name,
        fingerprint=facts.fingerprint,
        meaning=MEANING[config.loss],
        code=CODE.format(encode=encode, pool=POOLS[config.pooling]),
    )

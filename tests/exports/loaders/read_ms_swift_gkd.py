"""What ms-swift's GKD makes of an export: the YAML by its command line, the rows by its loader.

Rows are sent to servers by its own routing, which takes the tag of each sample.
"""

from typing import Any

from forms_of import read_forms
from swift.arguments import RLHFArguments
from swift.cli.main import parse_yaml_args
from swift.dataset import load_dataset
from swift.rl_core.data import GKDSample
from swift.rlhf_trainers.gkd_helpers import parse_teacher_model_server, route_samples_to_teachers
from transformers import HfArgumentParser


def read(form: str, model: str) -> dict[str, Any]:
    words = ["gkd.yaml"]
    parse_yaml_args(words)
    given = HfArgumentParser(RLHFArguments).parse_args(words)  # refuses what it does not know
    train, _ = load_dataset(
        given.dataset,
        split_dataset_ratio=given.split_dataset_ratio,
        remove_unused_columns=given.remove_unused_columns,
        use_hf=given.use_hf,
        strict=True,
    )
    samples = [GKDSample.from_row(row) for row in train]
    servers = parse_teacher_model_server(given.teacher_model_server)
    routes = route_samples_to_teachers(samples, servers, tag_key=given.teacher_tag_key)
    server_of = {place: servers[number] for number, places in routes.items() for place in places}
    return {
        "rows": [sample.messages for sample in samples],
        "teachers": [server_of[place].tags[0] for place in range(len(samples))],
        "num_prepared": len(train),
        "type": given.rlhf_type,
    }


read_forms(read)

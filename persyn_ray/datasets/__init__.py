"""The routed data set of a run for Python: as a Ray Data set, a data set of `datasets`, or rows for
a torch DataLoader. What each takes is imported when it is called.
"""

from persyn_ray.datasets.loading import hf_dataset, ray_dataset, torch_dataset
from persyn_ray.datasets.sources import files_of

__all__ = ["files_of", "hf_dataset", "ray_dataset", "torch_dataset"]

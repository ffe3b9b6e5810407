"""`python -m persyn_ray.cli`: the same as `persyn`."""

from persyn_ray.cli.main import entry

if __name__ == "__main__":
    entry()

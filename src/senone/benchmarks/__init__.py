"""How fast the program is, as multiples of what cannot be avoided and of what else one could use."""

from collections.abc import Callable, Iterator

from senone.benchmarks import data, decode, infer, load, part1, scale, train
from senone.benchmarks.figure import Figure

# Each group yields its figures as it gets them; its argument asks for fewer rounds.
GROUPS: dict[str, Callable[[bool], Iterator[Figure]]] = {
    "part1": part1.measure,
    "data": data.measure,
    "train": train.measure,
    "infer": infer.measure,
    "decode": decode.measure,
    "load": load.measure,
    "scale": scale.measure,
}

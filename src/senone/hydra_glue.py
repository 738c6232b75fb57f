"""From YAML and the command line to a dataclass, and from a user's mistake to one line.

The only file of the library that imports hydra.
"""

import math
import os
import re
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hydra
import numpy as np
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, Node, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from senone.config import BiLstmConfig, CommitteeConfig, ConformerConfig, MlpConfig, TdnnConfig

# Threads that wait for each other sleep instead of spinning. Where something else wants a core too, a step is
# several times faster for it; torch reads this when it is loaded, which is after this file.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

Config = TypeVar("Config")
MODEL_SCHEMAS = {
    "mlp": MlpConfig,
    "tdnn": TdnnConfig,
    "bilstm": BiLstmConfig,
    "conformer": ConformerConfig,
    "committee": CommitteeConfig,
}


def script(
    schema: type[Config], config_name: str
) -> Callable[[Callable[[Config], None]], Callable[[], None]]:
    """Decorate a script's main: it is called with ``schema``'s dataclass, composed from
    ``conf/<config_name>.yaml`` and the command line.

    Whatever is wrong with the configuration, the files or the data ends the process with one line on
    stderr and exit status 1, in a sweep after the other jobs; ``HYDRA_FULL_ERROR=1`` shows the traceback
    instead.
    """
    register_draws()
    store = ConfigStore.instance()
    root = OmegaConf.structured(schema)
    if "model" in root:
        root.model = MISSING  # conf/model says which; a default would allow only its own class
    store.store(name=f"{config_name}_schema", node=root)
    for name, node in MODEL_SCHEMAS.items():
        store.store(group="model", name=f"{name}_schema", node=node)

    def decorate(main: Callable[[Config], None]) -> Callable[[], None]:
        conf = Path(main.__code__.co_filename).resolve().parents[1] / "conf"
        wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
        failed: list[Exception] = []  # jobs of a sweep

        def job(composed: DictConfig) -> None:
            try:
                _refuse_members(composed)
                config = OmegaConf.to_object(composed)
                _refuse_unknown(config)
                assert isinstance(config, schema)
                main(config)
            except (OmegaConfBaseException, ValueError, OSError, RuntimeError) as error:
                if wants_traceback:
                    raise
                if HydraConfig.get().mode != RunMode.MULTIRUN:
                    _stop(error)
                if not _first_says_it(error):
                    _say(error)
                failed.append(error)  # the others may do better

        def run() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors of composition reach the next lines
            try:
                hydra.main(version_base="1.3", config_path=str(conf), config_name=config_name)(job)()
            except (HydraException, OmegaConfBaseException, ValueError) as error:
                if wants_traceback:
                    raise
                _stop(error)
            except AssertionError as error:  # OmegaConf's, for decode.KEY where decode is null
                if wants_traceback or "Unexpected type for root" not in str(error):
                    raise
                _stop(ValueError("decode.KEY=VALUE needs decode=NAME beside it, as decode=trigram"))
            if failed:
                raise SystemExit(1)

        return run

    return decorate


def draw(low: float, high: float, *, _node_: Node, _root_: DictConfig) -> float:
    """``key='${uniform:LOW,HIGH}'``: a number for this key and the configuration's seed, so that
    ``-m seed=range(20)`` is a random search that can be repeated."""
    where = zlib.crc32(_node_._get_full_key(None).encode())
    generator = np.random.default_rng([OmegaConf.select(_root_, "seed", default=0), where])
    return float(generator.uniform(low, high))


def draw_log(low: float, high: float, *, _node_: Node, _root_: DictConfig) -> float:
    """``key='${log_uniform:LOW,HIGH}'``: the same, any ratio as likely at each size; above 0."""
    return math.exp(draw(math.log(low), math.log(high), _node_=_node_, _root_=_root_))


def register_draws() -> None:
    """Let configurations say ``${uniform:...}`` and ``${log_uniform:...}``."""
    OmegaConf.register_new_resolver("uniform", draw, replace=True)
    OmegaConf.register_new_resolver("log_uniform", draw_log, replace=True)


def overrides() -> list[str]:
    """What the user typed after the script's name."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _refuse_members(composed: DictConfig) -> None:
    """Raise ValueError that says whose it is for a wrong setting of one of a committee's members."""
    for name, member in (OmegaConf.select(composed, "model.members") or {}).items():
        try:
            OmegaConf.to_object(member)
        except ValueError as error:
            raise ValueError(f"model.members.{name}: {error}") from None


def _refuse_unknown(node: Any, where: str = "") -> None:
    """Raise ValueError for keys that ``+key=value`` added past the schema: nothing would read them."""
    if isinstance(node, dict):
        for key, value in node.items():
            _refuse_unknown(value, f"{where}{key}.")
    if not is_dataclass(node):
        return
    known = [item.name for item in fields(node)]
    for key, value in vars(node).items():
        if key not in known:
            raise ValueError(f"unknown key {where}{key}; there are {', '.join(known)}")
        _refuse_unknown(value, f"{where}{key}.")


def _stop(error: Exception) -> NoReturn:
    if _first_says_it(error):
        time.sleep(10)  # torchrun ends the others as soon as process 0 has said it
    _say(error)
    raise SystemExit(1)


def _first_says_it(error: Exception) -> bool:
    """Whether this is one of several processes that all find the same, and not the first of them."""
    common = isinstance(error, ValueError | HydraException | OmegaConfBaseException)
    return common and os.environ.get("RANK", "0") != "0"


def _say(error: Exception) -> None:
    print(f"{Path(sys.argv[0]).name}: {_one_line(error)}", file=sys.stderr)


def _one_line(error: Exception) -> str:
    """What is wrong, without Hydra's advice; where a key is unknown, the keys that there are."""
    cause = error.__cause__ or error
    parent = getattr(cause, "object_type", None)
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and is_dataclass(parent):
        keys = ", ".join(item.name for item in fields(parent))
        return f"unknown key {cause.full_key}; there are {keys}"
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override}; what is no plain word needs quotes of its own: \"KEY='VALUE'\""
    texts = [str(error)] if cause is error else [str(error), str(cause)]
    advice = re.compile("full_key:|Config search path:|See https://hydra.cc")
    return ": ".join(" ".join(advice.split(text)[0].split()) for text in texts) or type(error).__name__

"""A sweeper that is not Hydra's own: three jobs along intervals, whose results it reads."""

import json
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ThreePoints(Sweeper):
    """Runs the start, middle and end of every interval, and prints what each job returns."""

    launcher: Launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        found: list[Any] = []
        for number, share in enumerate((0.0, 0.5, 1.0)):
            words = []
            for override in OverridesParser.create().parse_overrides(arguments):
                value: Any = override.value()
                along = (
                    f"{override.get_key_element()}={value.start + share * (value.end - value.start)}"
                    if override.is_sweep_override()
                    else ""
                )
                words.append(along or str(override.input_line))
            (result,) = self.launcher.launch([words], initial_job_idx=number)
            found.append(result.return_value)
        print(f"returned {json.dumps(found)}")


ConfigStore.instance().store(group="hydra/sweeper", name="three_points", node={"_target_": "hydra_plugins.three_points.ThreePoints"})

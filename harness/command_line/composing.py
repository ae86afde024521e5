"""The config that a command line composes, made before Hydra makes it, so that what is wrong can be
said in this project's words.
"""

import os
import re
from argparse import Namespace
from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from harness.command_line.names import nearest
from harness.command_line.option_files import CONF
from lightning_modules.errors import OptionError

# Plugins of Hydra, and the library that each is for.
PLUGINS = {
    "joblib": "joblib",
    "ray": "ray",
    "ray_aws": "ray",
    "submitit_local": "submitit",
    "submitit_slurm": "submitit",
    "optuna": "optuna",
}
# Groups that nobody chooses from by their names.
INNER = ("hydra", "algo/base", "algo/ladder", "judge/base")
OF_PLUGINS = ("hydra/launcher", "hydra/sweeper")


class Composer:
    """Composes configs as Hydra will for these flags."""

    def __init__(self, flags: Namespace):
        setup_globals()  # for ${now:...} and the like
        search_path = create_config_search_path(str(CONF))
        if flags.config_dir is not None:
            folder = os.path.abspath(flags.config_dir)
            if not os.path.isdir(folder):
                raise OptionError(f"--config-dir {flags.config_dir}: there is no such folder")
            schema = SearchPathQuery(provider="schema")
            search_path.prepend("command-line", f"file://{folder}", anchor=schema)
        self.loader = ConfigLoaderImpl(search_path)
        self.name = flags.config_name or "config"

    def is_group(self, name: str) -> bool:
        return self.loader.repository.group_exists(name)

    def choices(self, group: str) -> list[str]:
        """What can be chosen of a group; those of Hydra's only if their plugins are installed."""
        return sorted(self.loader.repository.get_group_options(group, ObjectType.CONFIG))

    def groups(self, parent: str = "") -> list[str]:
        """All groups that one chooses from; algo/optimizer is one too."""
        found = []
        for name in self.loader.repository.get_group_options(parent, ObjectType.GROUP):
            group = f"{parent}/{name}" if parent else name
            if group not in INNER:
                found += [group] * bool(self.choices(group)) + self.groups(group)
        return sorted(found)

    def has_choice(self, group: str, choice: str) -> bool:
        return self.loader.repository.config_exists(f"{group}/{choice}")

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The config with Hydra's own part; OptionError if there is none."""
        try:
            return self.loader.load_configuration(
                self.name, list(overrides), RunMode.RUN, from_shell=False
            )
        except MissingConfigException as error:
            raise OptionError(self._missing(error, overrides)) from error
        except MarkedYAMLError as error:
            mark = error.problem_mark
            where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            raise OptionError(f"{where}: not valid YAML ({error.problem})") from error
        except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
            raise OptionError(_said(error, overrides)) from error

    def apply(self, config: DictConfig, override: Override) -> None:
        """Give an option its value in a composed config; OptionError if it does not take it."""
        try:
            self.loader._apply_overrides_to_config([override], config)
        except (HydraException, OmegaConfBaseException) as error:
            cause = (
                error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
            )
            raise OptionError(f"{override.input_line}: {_first_line(cause)}") from error

    def _missing(self, error: MissingConfigException, overrides: Sequence[str]) -> str:
        """A choice that is not there: of a plugin, or one that a file of one's own makes."""
        group, _, choice = (error.missing_cfg_file or "").rpartition("/")
        if group.startswith(OF_PLUGINS) and (choice in PLUGINS or "sampler" in group):
            return needs_plugin(overrides, choice)
        if not group:
            return f"--config-name {choice}: there is no such file in {CONF}"
        inside = re.match(r"In '([^']+)'", str(error))
        where = f"{inside[1]}.yaml: " if inside and inside[1] != self.name else ""
        return f"{where}{no_choice(group, choice, self.choices(group))}"


def needs_plugin(chosen: Sequence[str], name: str) -> str:
    """The message for a launcher or sweeper that is not installed, by what was typed for it."""
    typed = [word for word in chosen if word.startswith(("sweep=", "hydra/"))]
    return (
        f"{' '.join(typed) or name}: needs packages that are not installed:"
        ' pip install -e ".[sweep]"'
    )


def no_choice(group: str, choice: str, there: Sequence[str]) -> str:
    """The message for `group=choice`, with what it may have meant."""
    near = nearest(choice, there, most=1)
    meant = f"did you mean {group}={near[0]}? There are" if near else "there are"
    return f"{group}={choice}: there is no such choice; {meant} {', '.join(there)}"


def _said(error: Exception, overrides: Sequence[str]) -> str:
    """A message of Hydra's in one line, without its advice."""
    first = _first_line(error if str(error) or not error.__cause__ else error.__cause__)
    if twice := re.match(r"Multiple values for ([^.]+)\.", first):
        typed = next((word for word in overrides if word.startswith(f"+{twice[1]}=")), twice[1])
        return f"{typed}: {twice[1]} is chosen already; write {typed.lstrip('+')}"
    if unused := re.match(r"(?:In '([^']+)': )?Could not override '([^']+)'", first):
        file, key = unused.groups()
        typed = next((word for word in overrides if word.startswith(f"{key}=")), key)
        if not file and "/" in key:
            group, _, inner = typed.rpartition("/")
            return (
                f"{typed}: nothing of this group is chosen; write {group}={inner.replace('=', '/')}"
            )
        where = f"{file}.yaml: override /{key}" if file else typed
        return f"{where}: nothing of this name is chosen; python run.py --help lists what can be"
    return first


def _first_line(error: BaseException) -> str:
    """What an error says first; two lines where the first one ends in a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]

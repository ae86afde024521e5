"""The command line as a whole: looked through, in an order that Hydra reads, or asking for help."""

from collections.abc import Sequence

from harness.command_line.flags import in_order, parse
from harness.command_line.help import help_of
from harness.command_line.mistakes import refuse_mistakes
from harness.command_line.of_runs import choices_of_run, with_options_of_run


def look_through(arguments: Sequence[str]) -> list[str]:
    """The arguments for Hydra. Raises OptionError for the first that cannot be meant."""
    arguments = in_order(arguments)
    flags = parse(arguments)
    flags.overrides = [*choices_of_run(arguments), *flags.overrides]
    others = (flags.config_path, flags.experimental_rerun, flags.info)
    if not (flags.hydra_help or flags.shell_completion or any(each is not None for each in others)):
        refuse_mistakes(flags)
    return with_options_of_run(arguments)


def help_asked(arguments: Sequence[str]) -> str | None:
    """The help, if it is asked for: of the chosen task, and of groups that are chosen beside it."""
    flags = parse(in_order(arguments))
    if not flags.help:
        return None
    (config, *_) = refuse_mistakes(flags)
    return help_of(config, flags)

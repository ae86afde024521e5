"""A comparison as a W&B report: the same words and tables, and curves of the runs as W&B has them.

Needs the extra `publish` (wandb-workspaces) and an API key.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig

from harness.comparison.document import Block, Heading, Picture, markdown
from harness.comparison.figures import drawn_curves
from harness.comparison.grouping import Configuration
from harness.comparison.reading import EPISODES, KL, SCORE
from harness.tracking.wandb_account import has_api_key, own_surroundings
from lightning_modules.options.require import require

PANELS_IN_A_ROW = 2
GRID_UNITS = 24  # the width of a report's grid
PANEL_HEIGHT = 8


def check_can_publish(cfg: DictConfig) -> None:
    """OptionError, before anything is read, if a report cannot be published."""
    wanted = cfg.publish
    tracked = "project" in cfg.logger
    require(tracked, "publish", wanted, "needs logger=wandb, whose project the report goes to")
    installed = find_spec("wandb_workspaces") is not None
    require(installed, "publish", wanted, 'needs wandb-workspaces: pip install -e ".[publish]"')
    require(has_api_key(), "publish", wanted, "needs an API key: run `wandb login` first")


def publish(
    cfg: DictConfig, title: str, configurations: Sequence[Configuration], blocks: Sequence[Block]
) -> str:
    """Save the report in logger.project; returns its address.

    Pictures are uploaded as images of a W&B run of their own. Curves are drawn by W&B, a run set a
    configuration, from runs that were tracked online or synced.
    """
    import wandb
    import wandb_workspaces.reports.v2 as wr

    entity = cfg.logger.entity or wandb.Api().default_entity
    pictures = [block for block in blocks if isinstance(block, Picture)]
    with own_surroundings():
        begun = wandb.init(
            project=cfg.logger.project,
            entity=entity,
            job_type="compare",
            name=title,
            dir=pictures[0].path.parent if pictures else None,
        )
    with begun as run:
        run.log({_key(picture): wandb.Image(str(picture.path)) for picture in pictures})
        here = {"entity": entity, "project": cfg.logger.project}
        own = wr.Runset(**here, name=title, filters=f"ID == '{run.id}'")
    report = wr.Report(
        **here,
        title=title,
        blocks=report_blocks(wr, blocks, own, curves_grid(wr, here, configurations)),
    )
    report.save()
    return report.url


def report_blocks(wr: Any, blocks: Sequence[Block], own: Any, curves: Any) -> list[Any]:
    """The blocks of the report: pictures from the run set `own`, all else as Markdown; the grid
    `curves` comes last. `wr` is wandb_workspaces.reports.v2.
    """
    result = []
    for block in blocks:
        if isinstance(block, Picture):
            panel = wr.MediaBrowser(media_keys=[_key(block)])
            result.append(wr.PanelGrid(runsets=[own], panels=[panel]))
        elif isinstance(block, Heading):
            result.append(wr.H2(block.text))
        else:
            result.append(wr.MarkdownBlock(markdown(block)))
    return [*result, wr.H2("The runs in W&B"), curves]


def curves_grid(wr: Any, here: dict[str, str], configurations: Sequence[Configuration]) -> Any:
    """Panels of the learning curves over episodes and of score over KL, a run set a configuration,
    whose runs W&B groups into a mean and a range.
    """
    runsets = [
        wr.Runset(
            entity=c.runs[0].config.get("logger.entity") or here["entity"],
            project=c.runs[0].config.get("logger.project") or here["project"],
            name=c.name,
            filters=f"ID in [{', '.join(repr(run.wandb_id) for run in c.runs)}]",
            groupby=["JobType"],
        )
        for c in configurations
    ]
    width = GRID_UNITS // PANELS_IN_A_ROW
    axes = [(EPISODES, metric) for metric in drawn_curves(configurations)] + [(KL, SCORE)]
    panels = [
        wr.LinePlot(
            x=x,
            y=[y],
            title=f"{y} over {x}",
            layout=wr.Layout(
                x=width * (i % PANELS_IN_A_ROW),
                y=PANEL_HEIGHT * (i // PANELS_IN_A_ROW),
                w=width,
                h=PANEL_HEIGHT,
            ),
        )
        for i, (x, y) in enumerate(axes)
    ]
    return wr.PanelGrid(runsets=runsets, panels=panels)


def _key(picture: Picture) -> str:
    return f"comparison/{picture.path.stem}"

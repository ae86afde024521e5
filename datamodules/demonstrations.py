"""Responses to imitate, for supervised fine-tuning."""

import torch
from torch import Tensor

from datamodules.micro_batches import SupervisedDataModule
from datamodules.records import DataError
from datamodules.sources.source import Source, Split


class DemonstrationDataModule(SupervisedDataModule):
    """Batches of {input_ids, attention_mask, response_mask}, each (B, S), padded on the right.

    `response_mask` marks the tokens of the response and its stop token: those to be imitated.
    """

    def encode(self, source: Source, split: Split) -> list[tuple[list[int], list[int]]]:
        rows = source.demonstrations(split)
        if not rows:
            raise DataError(
                f"no demonstrations for {split}: none of its {len(source.thumbs(split))} responses"
                " was liked, and only those are imitated; give some that were, or begin as a model"
                " that needs no demonstrations: model.pretrained=<folder or hub id>"
            )
        prompts = self.encoder.prompts([row.prompt for row in rows])
        responses = self.encoder.responses([row.response for row in rows])
        return list(zip(prompts, responses, strict=True))

    def length(self, row: tuple[list[int], list[int]]) -> int:
        return len(row[0]) + len(row[1])

    def collate(self, rows: list[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
        ids, mask = self.encoder.pad([p + r for p, r in rows], "right")
        starts = torch.tensor([len(p) for p, _ in rows])
        response_mask = mask & (torch.arange(ids.shape[1]) >= starts[:, None])
        return {"input_ids": ids, "attention_mask": mask, "response_mask": response_mask}

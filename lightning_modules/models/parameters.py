"""The parameters of any model: frozen, counted."""

from torch import nn

from lightning_modules.forward.packed_parameters import numbers


def frozen(model: nn.Module) -> nn.Module:
    """`model` in evaluation mode, without gradients."""
    return model.eval().requires_grad_(False)


def parameter_counts(*models: nn.Module) -> tuple[int, int]:
    """How many parameters the models have together, and how many of them are trained."""
    parameters = {id(p): p for model in models for p in model.parameters()}.values()
    return (
        sum(numbers(p) for p in parameters),
        sum(numbers(p) for p in parameters if p.requires_grad),
    )

"""A bug as data: a function of the project, some text of it, and what stands there instead."""

import ast
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from textwrap import dedent
from types import CodeType, FunctionType


class DoesNotApply(Exception):
    """The function has changed, so the row has to be written anew."""


@dataclass(frozen=True)
class Change:
    """`old`, which occurs once in the source of `target`, becomes `new`."""

    target: str  # "package.module:Class.method"
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A row of the matrix: one bug, and the tests that are to notice it, the most specific first.

    `seen` says where a peer had it. `also` holds the other changes of a bug that needs several.
    """

    bug: str
    target: str
    old: str
    new: str
    tests: tuple[str, ...]
    seen: str = ""
    also: tuple[Change, ...] = ()

    @property
    def changes(self) -> tuple[Change, ...]:
        return (Change(self.target, self.old, self.new), *self.also)


def apply(changes: Iterable[Change]) -> None:
    """Change the functions in place, for the rest of this process and for everyone who has imported
    them.
    """
    sources: dict[FunctionType, str] = {}
    for change in changes:
        function = find(change.target)
        source = sources.get(function) or dedent(inspect.getsource(function))
        if (count := source.count(change.old)) != 1:
            raise DoesNotApply(f"{change.target} has {change.old!r} {count} times, not once")
        sources[function] = source.replace(change.old, change.new)
    for function, source in sources.items():
        function.__code__ = compiled(function, source)


def find(target: str) -> FunctionType:
    """The function itself, below decorators and properties."""
    module, _, path = target.partition(":")
    try:
        found = import_module(module)
        for name in path.split("."):
            found = inspect.getattr_static(found, name)
    except (ImportError, AttributeError) as error:
        raise DoesNotApply(f"there is no {target}") from error
    for inner in ("fget", "func", "__func__"):  # property, cached_property, class and static method
        found = getattr(found, inner, found)
    return inspect.unwrap(found)


def compiled(function: FunctionType, source: str) -> CodeType:
    """The code of `source`, that of a function which is to take the place of `function`'s."""
    try:
        (definition,) = ast.parse(source).body
    except SyntaxError as error:
        raise DoesNotApply(f"what becomes of {function.__qualname__}: {error}") from error
    definition.decorator_list = []
    # Tracebacks are to point near the right lines of the file.
    ast.increment_lineno(definition, function.__code__.co_firstlineno - 1)
    # What the function closes over, `__class__` of a bare super() for one, needs a cell again.
    cells = "".join(f"    {name} = None\n" for name in function.__code__.co_freevars)
    tree = ast.parse(f"def enclosing():\n{cells}    return {definition.name}")
    tree.body[0].body.insert(-1, definition)
    namespace = dict(function.__globals__)
    exec(compile(tree, function.__code__.co_filename, "exec"), namespace)
    return namespace["enclosing"]().__code__

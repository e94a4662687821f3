"""Static check that a chat template only prints the date.

The date is the one input that differs between a measurement and later use while the conversation is the same. An
expression is *dated* when a part of it is a call of `strftime_now`, or a name that is dated. A dated value may be
stored in a variable or in an attribute of a namespace, be the output of a macro, be concatenated, and be printed. Its
type and its truth may be tested: no format gives a text that is empty on some dates only. Any other use, such as a
comparison, an index, a loop or an argument, could choose a text by the date, and is refused.

The analysis ignores the order of statements and the scopes of names: a name that is dated anywhere is dated everywhere.
"""

from collections import Counter
from collections.abc import Iterable

from jinja2 import nodes

CLOCK = "strftime_now"
PASSES = 12
"""The most passes until no name becomes dated. Real templates need three."""

PLAIN_FILTERS = frozenset(
    ("trim", "string", "safe", "escape", "e", "forceescape", "upper", "lower", "title", "capitalize", "tojson", "join")
)
"""Filters that print all of a value, whatever its characters. With arguments, some print a part of it."""
PLAIN_METHODS = frozenset(("strip", "lstrip", "rstrip", "upper", "lower", "title", "capitalize"))
"""The same methods."""
TYPE_TESTS = frozenset(("defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number"))
"""Tests with the same result on every date: what `strftime_now` returns is always a text."""
PRINTING = (
    *(nodes.Template, nodes.Output, nodes.If, nodes.Scope),
    *(nodes.Concat, nodes.Add, nodes.And, nodes.Or, nodes.Not, nodes.CondExpr, nodes.List, nodes.Tuple, nodes.Dict),
)
"""Statements and expressions that keep a dated part as it is, or test its truth."""
USES = {
    nodes.Call: "an argument",
    nodes.Compare: "a comparison",
    nodes.Filter: "a filter",
    nodes.For: "a loop",
    nodes.Getattr: "an index",
    nodes.Getitem: "an index",
    nodes.Keyword: "an argument",
    nodes.Operand: "a comparison",
    nodes.Pair: "a key",
    nodes.Test: "a test",
}
"""The words of the error for other uses."""


class DateDecides(Exception):
    """A template uses the date for something else than its output."""


def require_printed_dates(tree: nodes.Template) -> None:
    """Raise DateDecides, with a description, when anything but the printed date can depend on `strftime_now`."""
    if any(name.name == CLOCK for name in tree.find_all(nodes.Name)):
        _DateFlow(tree).require_printed()


class _DateFlow:
    def __init__(self, tree: nodes.Template) -> None:
        self.tree = tree
        self.dated: set[str] = set()
        """Names of variables and of macros whose output is dated; `name.attribute` and `name.` of namespaces."""
        stored = Counter(name.name for name in tree.find_all(nodes.Name) if name.ctx != "load")
        stored.update(macro.name for macro in tree.find_all(nodes.Macro))
        made = Counter(
            assign.target.name
            for assign in tree.find_all(nodes.Assign)
            if isinstance(assign.target, nodes.Name)
            and isinstance(assign.node, nodes.Call)
            and isinstance(assign.node.node, nodes.Name)
            and assign.node.node.name == "namespace"
        )
        self.namespaces = {name for name in made if made[name] == stored[name] and not stored["namespace"]}
        """Names that hold nothing but a namespace of their own."""

    def require_printed(self) -> None:
        for _ in range(PASSES):
            before = len(self.dated)
            self.is_dated(self.tree)
            if len(self.dated) == before:
                return
        raise DateDecides("through too many names")

    def is_dated(self, node: nodes.Node) -> bool:
        """Whether a statement prints, or an expression is, something dated. Raises DateDecides for any other use."""
        match node:
            case nodes.Name():
                return self.is_name_dated(node.name)
            case nodes.Getattr(node=nodes.Name(name=name)) if name in self.namespaces:
                return f"{name}.{node.attr}" in self.dated
            case nodes.Call(node=nodes.Name(name=name)) if name == CLOCK or name in self.dated:
                self.refuse_dated(node, _arguments(node))
                return True
            case nodes.Call(node=nodes.Getattr(node=value, attr=name)) if name in PLAIN_METHODS and not _arguments(
                node
            ):
                return self.is_dated(value)
            case nodes.Filter(node=nodes.Node() as value) if node.name in PLAIN_FILTERS and not _arguments(node):
                return self.is_dated(value)
            case nodes.Filter(name="join", node=nodes.Node() as value, args=[separator]) if len(_arguments(node)) == 1:
                self.refuse_dated(node, [separator])
                return self.is_dated(value)
            case nodes.Filter(name="default" | "d", node=nodes.Node()):
                return self.is_any_dated(node.iter_child_nodes())
            case nodes.Test(name=test) if test in TYPE_TESTS:
                if not (isinstance(node.node, nodes.Name) and node.node.name == CLOCK):
                    self.is_dated(node.node)
                return False
            case nodes.Pair():
                self.refuse_dated(node, [node.key])
                return self.is_dated(node.value)
            case nodes.For():
                self.refuse_dated(node, [node.iter, node.test])
                return self.is_any_dated([*node.body, *node.else_])
            case nodes.Macro():
                self.refuse_dated(node, node.defaults)
                self.store(nodes.Name(node.name, "store"), self.is_any_dated(node.body))
                return False
            case nodes.Assign():
                self.store(node.target, self.is_dated(node.node))
                return False
            case nodes.AssignBlock(filter=None):
                self.store(node.target, self.is_any_dated(node.body))
                return False
        dated = self.is_any_dated(node.iter_child_nodes())
        if dated and not isinstance(node, PRINTING):
            raise self.refuse(node)
        return dated

    def is_name_dated(self, name: str) -> bool:
        if name == CLOCK:
            raise DateDecides("through another name of strftime_now")
        # Under a second name, the attributes of a namespace would be unknown.
        return name in self.dated or f"{name}." in self.dated

    def is_any_dated(self, parts: Iterable[nodes.Node | None]) -> bool:
        results = [self.is_dated(part) for part in parts if part is not None]  # each can be refused
        return any(results)

    def refuse_dated(self, node: nodes.Node, parts: Iterable[nodes.Node | None]) -> None:
        """Raise DateDecides when one of these parts of a node is dated."""
        if self.is_any_dated(parts):
            raise self.refuse(node)

    def refuse(self, node: nodes.Node) -> DateDecides:
        return DateDecides(f"in {USES.get(type(node), 'a computation')}")

    def store(self, target: nodes.Node, dated: bool) -> None:
        if not dated:
            return
        match target:
            case nodes.Name():
                self.dated.add(target.name)
            # Another object with this name can be a namespace under a second name.
            case nodes.NSRef() if target.name in self.namespaces:
                self.dated |= {f"{target.name}.", f"{target.name}.{target.attr}"}
            case nodes.Tuple():
                for item in target.items:
                    self.store(item, dated)
            case _:
                raise DateDecides("in an attribute")


def _arguments(node: nodes.Call | nodes.Filter) -> list[nodes.Node]:
    return [part for part in (*node.args, *node.kwargs, node.dyn_args, node.dyn_kwargs) if part is not None]

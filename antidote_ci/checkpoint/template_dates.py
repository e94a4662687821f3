"""Static check that a chat template only prints the date.

The date is the one input that differs between a measurement and later use while the conversation is the same. A value
is *dated* when it is computed from `strftime_now`. A dated value may be stored, passed to a macro, concatenated and
printed. Its type and its truth may be tested: no format gives a text that is empty on some dates only. Everything else,
such as a comparison, an index or a loop, could choose a text by the date, and is refused.

The analysis ignores the order of statements and the scopes of names: a name that is dated anywhere is dated everywhere.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from jinja2 import nodes

CLOCK = "strftime_now"
PASSES = 12
"""The most passes until no name becomes dated. Real templates need three."""
MAX_DEFINITIONS = 16
"""Of one macro. Real templates define each once."""

PLAIN_FILTERS = frozenset(
    ("trim", "string", "safe", "escape", "e", "forceescape", "upper", "lower", "title", "capitalize", "tojson", "join")
)
"""Filters that print all of a value, whatever its characters. `trim` only without arguments."""
PLAIN_METHODS = frozenset(("strip", "lstrip", "rstrip", "upper", "lower", "title", "capitalize"))
"""The same methods, without arguments."""
TYPE_TESTS = frozenset(("defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number"))
"""Tests with the same result on every date: what `strftime_now` returns is always a text."""


IMPLICIT_NAMES = frozenset(("caller", "loop", "self", "super", "varargs", "kwargs"))
"""Names that Jinja binds by itself, whatever a macro of that name is."""


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
        """Names of variables and of macros whose output is dated, and `name.attribute` of namespaces."""
        self.any_attribute_dated = False
        definitions: dict[str, list[nodes.Macro]] = {}
        for macro in tree.find_all(nodes.Macro):
            definitions.setdefault(macro.name, []).append(macro)
        if any(len(macros) > MAX_DEFINITIONS for macros in definitions.values()):
            raise DateDecides("beside a macro with too many definitions")
        stored = Counter(name.name for name in tree.find_all(nodes.Name) if name.ctx != "load")
        self.macros = {
            name: macros
            for name, macros in definitions.items()
            if not stored[name] and name not in {CLOCK, *IMPLICIT_NAMES}
        }
        """The definitions of each name that can be nothing but one of these macros."""
        self.has_own_namespace = bool(stored["namespace"]) or "namespace" in definitions
        targets = [statement.target for statement in tree.find_all(nodes.Assign) if self.is_namespace(statement.node)]
        names = Counter(target.name for target in targets if isinstance(target, nodes.Name))
        self.namespaces = {name for name, times in names.items() if stored[name] == times and name not in definitions}
        """Names that hold nothing but a namespace of their own."""

    def require_printed(self) -> None:
        for _ in range(PASSES):
            before = len(self.dated)
            self.run(self.tree.body)
            if len(self.dated) == before:
                return
        raise DateDecides("through too many names")

    def run(self, statements: Iterable[nodes.Node]) -> bool:
        """Whether the output of the statements is dated."""
        results = [self.run_one(statement) for statement in statements]
        return any(results)

    def run_one(self, statement: nodes.Node) -> bool:
        match statement:
            case nodes.Output():
                return self.any_dated(statement.nodes)
            case nodes.Assign():
                self.assign(statement.target, statement.node)
            case nodes.AssignBlock():
                value = self.run(statement.body)
                if statement.filter is not None:
                    value = self.filter_block(statement.filter, value)
                self.store(statement.target, value)
            case nodes.If():
                self.is_dated(statement.test)
                return self.run([*statement.body, *statement.elif_, *statement.else_])
            case nodes.For():
                self.refuse_dated("a loop", statement.iter)
                self.is_dated(statement.test)
                return self.run([*statement.body, *statement.else_])
            case nodes.Macro():
                self.bind_defaults(statement)
                self.store_name(statement.name, self.run(statement.body))
            case nodes.CallBlock():
                self.bind_defaults(statement)
                self.store_name("caller", self.run(statement.body))
                return self.is_dated(statement.call)
            case nodes.FilterBlock():
                return self.filter_block(statement.filter, self.run(statement.body))
            case nodes.With():
                for target, expression in zip(statement.targets, statement.values, strict=True):
                    self.store(target, self.is_dated(expression))
                return self.run(statement.body)
            case nodes.Scope():
                return self.run(statement.body)
            case nodes.Break() | nodes.Continue():
                pass
            case _:  # blocks and other templates, which real chat templates do not use
                raise DateDecides(f"beside a {type(statement).__name__.lower()} statement")
        return False

    def assign(self, target: nodes.Node, value: nodes.Node) -> None:
        if not (isinstance(target, nodes.Name) and isinstance(value, nodes.Call) and self.is_namespace(value)):
            self.store(target, self.is_dated(value))
            return
        self.refuse_dated("a namespace", *value.args, value.dyn_args, value.dyn_kwargs)
        for keyword in value.kwargs:
            self.store_attribute(target.name, keyword.key, self.is_dated(keyword.value))

    def store_attribute(self, name: str, attribute: str, dated: bool) -> None:
        # Another object with this name can be a namespace under a second name.
        if dated and name not in self.namespaces:
            raise DateDecides("in an attribute")
        self.store_name(f"{name}.{attribute}", dated)

    def store(self, target: nodes.Node, dated: bool) -> None:
        match target:
            case nodes.Name():
                self.store_name(target.name, dated)
            case nodes.NSRef():
                self.store_attribute(target.name, target.attr, dated)
            case nodes.Tuple():
                for item in target.items:
                    self.store(item, dated)
            case _:
                raise DateDecides("in an unknown assignment")

    def store_name(self, name: str, dated: bool) -> None:
        if dated:
            self.dated.add(name)
            self.any_attribute_dated |= "." in name

    def bind_defaults(self, macro: nodes.Macro | nodes.CallBlock) -> None:
        """Store the defaults of the last parameters."""
        with_defaults = macro.args[len(macro.args) - len(macro.defaults) :]
        for parameter, default in zip(with_defaults, macro.defaults, strict=True):
            self.store_name(parameter.name, self.is_dated(default))

    def is_dated(self, node: nodes.Node | None) -> bool:
        """Whether the value of an expression is dated. Raises DateDecides where it is used for more than output."""
        match node:
            case None | nodes.Const() | nodes.TemplateData():
                return False
            case nodes.Name():
                return self.is_name_dated(node.name)
            case nodes.Call():
                return self.call(node)
            case nodes.Getattr():
                return self.read(node.node, node.attr)
            case nodes.Getitem():
                self.refuse_dated("an index", node.arg)
                return self.read(node.node, node.arg.value if isinstance(node.arg, nodes.Const) else None)
            case nodes.Filter():
                return self.apply_filter(node, self.is_dated(node.node))
            case nodes.Test():
                return self.test(node)
            case nodes.Concat():
                return self.any_dated(node.nodes)
            case nodes.Add():
                return self.any_dated((node.left, node.right))
            case nodes.And() | nodes.Or():
                return self.any_dated((node.left, node.right))
            case nodes.Not():
                self.is_dated(node.node)
                return False
            case nodes.CondExpr():
                self.is_dated(node.test)
                return self.any_dated((node.expr1, node.expr2))
            case nodes.List() | nodes.Tuple():
                return self.any_dated(node.items)
            case nodes.Dict():
                self.refuse_dated("a key", *(pair.key for pair in node.items))
                return self.any_dated([pair.value for pair in node.items])
            case nodes.Compare():
                self.refuse_dated("a comparison", node.expr, *(operand.expr for operand in node.ops))
                return False
            case _:  # arithmetic, slices and all the rest
                self.refuse_dated("a computation", *node.iter_child_nodes())
                return False

    def is_name_dated(self, name: str) -> bool:
        if name == CLOCK:
            raise DateDecides("through another name of strftime_now")
        # Under a second name, the attributes of a namespace would be unknown.
        return name in self.dated or (name in self.namespaces and self.any_attribute_dated)

    def any_dated(self, expressions: Sequence[nodes.Node | None]) -> bool:
        results = [self.is_dated(expression) for expression in expressions]  # each can be refused
        return any(results)

    def refuse_dated(self, use: str, *expressions: nodes.Node | None) -> None:
        for expression in expressions:
            if expression is not None and self.is_dated(expression):
                raise DateDecides(f"in {use}")

    def read(self, value: nodes.Node, name: object) -> bool:
        """Whether an attribute or an item is dated. None stands for a computed name."""
        if isinstance(value, nodes.Name) and value.name in self.namespaces and value.name not in self.dated:
            return f"{value.name}.{name}" in self.dated or (name is None and self.any_attribute_dated)
        self.refuse_dated("an index", value)
        return False

    def call(self, node: nodes.Call) -> bool:
        arguments = [*node.args, *(keyword.value for keyword in node.kwargs), node.dyn_args, node.dyn_kwargs]
        match node.node:
            case nodes.Name(name=name) if name == CLOCK:
                self.refuse_dated("an argument", *arguments)
                return True
            case nodes.Name(name=name) if name in self.macros:
                self.refuse_dated("an argument", node.dyn_args, node.dyn_kwargs)
                for macro in self.macros[name]:
                    self.bind_arguments(macro, node)
                return name in self.dated
            case nodes.Getattr(node=value, attr=method) if method in PLAIN_METHODS and not any(arguments):
                return self.is_dated(value)
        self.refuse_dated("an argument", *arguments)
        if isinstance(node.node, nodes.Getattr) and self.is_dated(node.node.node):
            raise DateDecides("in a method")
        return self.is_dated(node.node)

    def bind_arguments(self, macro: nodes.Macro, call: nodes.Call) -> None:
        names = [parameter.name for parameter in macro.args]
        for position, value in enumerate(call.args):
            self.store_name(names[position] if position < len(names) else "varargs", self.is_dated(value))
        for keyword in call.kwargs:
            self.store_name(keyword.key if keyword.key in names else "kwargs", self.is_dated(keyword.value))

    def filter_block(self, node: nodes.Filter, dated: bool) -> bool:
        """Apply a chain of filters that ends at the text of a block."""
        if isinstance(node.node, nodes.Filter):
            dated = self.filter_block(node.node, dated)
        return self.apply_filter(node, dated)

    def apply_filter(self, node: nodes.Filter, dated: bool) -> bool:
        arguments = [*node.args, *(keyword.value for keyword in node.kwargs), node.dyn_args, node.dyn_kwargs]
        if node.name in ("default", "d"):
            return self.any_dated(arguments) or dated
        self.refuse_dated("an argument", *arguments)
        if dated and (node.name not in PLAIN_FILTERS or (node.name == "trim" and any(arguments))):
            raise DateDecides("in a filter")
        return dated

    def test(self, node: nodes.Test) -> bool:
        if isinstance(node.node, nodes.Name) and node.node.name == CLOCK and node.name in ("defined", "undefined"):
            return False
        self.refuse_dated("a test", *node.args, *node.kwargs, node.dyn_args, node.dyn_kwargs)
        if self.is_dated(node.node) and node.name not in TYPE_TESTS:
            raise DateDecides("in a test")
        return False

    def is_namespace(self, node: nodes.Node) -> bool:
        """Whether the expression creates a namespace."""
        if self.has_own_namespace or not isinstance(node, nodes.Call):
            return False
        return isinstance(node.node, nodes.Name) and node.node.name == "namespace"

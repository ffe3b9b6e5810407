"""Proves that a chat template copies what messages say: its source in, whether it does out.

A proof by types of values, over the template's syntax tree. A value is PLAIN (it hangs on roles
and settings alone), a TEXT (pieces that are plain, and whole contents of messages), a message,
messages, a namespace or a loop. Whatever looks into a text (searches, cuts, compares or counts it)
has no type here, and then nothing is proved; nor has syntax that chat templates seldom use. A name
has one type wherever it stands.

What is proved: the rendering of a conversation is a frame that its roles fix, around the contents
as they are. Blank contents are never meant, and a template that strips white space copies only
those that have none at their ends.
"""

from collections.abc import Iterable, Sequence
from enum import Enum

import jinja2
from jinja2 import nodes

Kind = Enum("Kind", ["PLAIN", "TEXT", "MESSAGE", "MESSAGES", "NAMESPACE", "LOOP"])
PLAIN, TEXT, MESSAGE, MESSAGES, NAMESPACE, LOOP = Kind

_ENVIRONMENT = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
_OF_LOOP = {"index", "index0", "revindex", "revindex0", "first", "last", "length"}
_OF_TYPE = {"defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number"}
"""Tests that tell by a value's type."""
_FUNCTIONS = {"raise_exception", "namespace"}
_STRIPS = {"strip", "lstrip", "rstrip"}
_OF_MESSAGES = {"length": PLAIN, "count": PLAIN, "first": MESSAGE, "last": MESSAGE}
_ARITHMETIC = (nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos)


class _LooksInside(Exception):
    """Nothing is proved of this template."""


def copies_texts(template: str, are_stripped: bool = True, settings: Iterable[str] = ()) -> bool:
    """Whether a template is proved to copy messages' contents; False says nothing.

    Args:
        template: Jinja text.
        are_stripped: contents are meant that have no white space at their ends, else all that are
            not blank.
        settings: names of what the template is given beside the conversation.
    """
    proof = _Proof(are_stripped, settings)
    try:
        tree = _ENVIRONMENT.parse(template)
        while proof.is_new:
            proof.is_new = False
            proof.block(tree.body)
    except (_LooksInside, RecursionError):
        return False
    except jinja2.TemplateError:  # also syntax that only the real renderer knows
        return False
    return True


class _Proof:
    """Types of names, which grow until they hold."""

    def __init__(self, may_strip: bool, settings: Iterable[str]) -> None:
        self.may_strip = may_strip
        given = (*_ENVIRONMENT.globals, "strftime_now", *settings)
        given = [name for name in given if name not in _FUNCTIONS]
        self.names = dict.fromkeys(given, PLAIN) | {"messages": MESSAGES, "loop": LOOP}
        self.is_new = True
        self.are_messages = True
        """Whether all that has a message's type is one: `messages[x]` may also be a method."""

    def block(self, statements: Sequence[nodes.Node]) -> None:
        """Go through statements, one after the other."""
        for node in statements:
            match node:
                case nodes.Output():
                    for one in node.nodes:
                        self.some(one, PLAIN, TEXT)
                case nodes.If():
                    self.branches(node)
                case nodes.For():
                    self.loop(node)
                case nodes.Assign():
                    self.assign(node.target, self.kind(node.node))
                case nodes.Break() | nodes.Continue():
                    pass
                case _:
                    raise _LooksInside

    def branches(self, node: nodes.If) -> None:
        self.truth(node.test)
        is_sure = self.is_sure(node.test)
        if is_sure is not False:
            self.block(node.body)
        if is_sure is not True:
            self.block(node.elif_)
            self.block(node.else_)

    def is_sure(self, test: nodes.Node) -> bool | None:
        """Whether a test is sure to hold or to fail: contents are texts, never lists of parts."""
        match test:
            case nodes.Not():
                of = self.is_sure(test.node)
                return None if of is None else not of
            case nodes.Test(name="string", node=nodes.Getattr() | nodes.Getitem() as value):
                is_content = self.kind(value.node) is MESSAGE and self.kind(value) is TEXT
                return True if is_content and self.are_messages else None
            case _:
                return None

    def loop(self, node: nodes.For) -> None:
        over = self.some(node.iter, PLAIN, MESSAGES)
        self.assign(node.target, MESSAGE if over is MESSAGES else PLAIN)
        if node.test is not None:
            self.truth(node.test)
        self.block(node.body)
        self.block(node.else_)

    def assign(self, target: nodes.Node, kind: Kind) -> None:
        match target:
            case nodes.Name():
                self.learn(target.name, kind)
            case nodes.NSRef() if self.names.get(target.name) is NAMESPACE:
                self.learn(f".{target.attr}", _joined(kind, PLAIN))
            case nodes.Tuple() if kind is PLAIN:
                for one in target.items:
                    self.assign(one, kind)
            case _:
                raise _LooksInside

    def learn(self, name: str, kind: Kind) -> None:
        """A name has a type more; attributes of all namespaces share one name."""
        if name in _FUNCTIONS:
            raise _LooksInside
        known = self.names.get(name)
        kind = kind if known is None else _joined(known, kind)
        self.is_new |= kind is not known
        self.names[name] = kind

    def truth(self, node: nodes.Node) -> None:
        """An expression of which only its truth counts: no text is empty."""
        match node:
            case nodes.And() | nodes.Or():
                self.truth(node.left)
                self.truth(node.right)
            case nodes.Not():
                self.truth(node.node)
            case _:
                self.kind(node)

    def some(self, node: nodes.Node, *kinds: Kind) -> Kind:
        """The type of an expression, which is one of some."""
        kind = self.kind(node)
        if kind not in kinds:
            raise _LooksInside
        return kind

    def plain(self, *of: nodes.Node) -> Kind:
        for node in of:
            self.some(node, PLAIN)
        return PLAIN

    def kind(self, node: nodes.Node) -> Kind:
        """The type of an expression."""
        match node:
            case nodes.TemplateData() | nodes.Const():
                return PLAIN
            case nodes.Name(name=name) if name != "self":
                return self.names.get(name, PLAIN)
            case nodes.Add() | nodes.And() | nodes.Or():
                return self.either(node.left, node.right)
            case nodes.Concat():
                return self.either(*node.nodes)
            case nodes.CondExpr():
                self.truth(node.test)
                return self.one_of(node.expr1, *([node.expr2] if node.expr2 else []))
            case nodes.Not():
                self.truth(node.node)
                return PLAIN
            case nodes.List() | nodes.Tuple():
                return self.plain(*node.items)
            case nodes.Compare() | nodes.Test() | nodes.Filter() | nodes.Call():
                return self.operation(node)
            case nodes.Getattr() | nodes.Getitem():
                return self.member(node)
            case nodes.Expr() if isinstance(node, _ARITHMETIC):
                return self.plain(*node.iter_child_nodes())
            case _:
                raise _LooksInside

    def either(self, *of: nodes.Node) -> Kind:
        """Of plain values and texts put together, or one of them."""
        return TEXT if TEXT in [self.some(one, PLAIN, TEXT) for one in of] else PLAIN

    def one_of(self, first: nodes.Node, *others: nodes.Node) -> Kind:
        kind = self.kind(first)
        for other in others:
            kind = _joined(kind, self.kind(other))
        return kind

    def operation(self, node: nodes.Compare | nodes.Test | nodes.Filter | nodes.Call) -> Kind:
        match node:
            case nodes.Compare(ops=[nodes.Operand(op="in" | "notin", expr=where)]):
                self.plain(node.expr)
                self.some(where, PLAIN, MESSAGE)  # of a message its keys, not its text
                return PLAIN
            case nodes.Compare():
                return self.plain(node.expr, *(one.expr for one in node.ops))
            case nodes.Test() if node.name in _OF_TYPE and not node.args:
                self.kind(node.node)
                return PLAIN
            case nodes.Filter() if node.node is not None and not _arguments(node):
                return self.filtered(node.name, self.kind(node.node))
            case nodes.Call(node=nodes.Name(name="raise_exception")):
                return self.either(*_arguments(node))  # in either case it is raised
            case nodes.Call(node=nodes.Name(name="namespace"), args=[]):
                for one in node.kwargs:
                    self.learn(f".{one.key}", _joined(self.kind(one.value), PLAIN))
                self.plain(*_arguments(node)[len(node.kwargs) :])
                return NAMESPACE
            case nodes.Call(node=nodes.Getattr(attr=attr, node=of)) if attr in _STRIPS:
                kind = self.some(of, PLAIN, TEXT)
                self.plain(*_arguments(node))
                if kind is TEXT and (_arguments(node) or not self.may_strip):
                    raise _LooksInside
                return kind
            case _:
                return self.plain(*([node.node] if node.node else []), *_arguments(node))

    def filtered(self, name: str, kind: Kind) -> Kind:
        """The type of `value | name`, without arguments."""
        if kind is PLAIN or (kind is TEXT and name == "trim" and self.may_strip):
            return kind
        if kind is MESSAGES and name in _OF_MESSAGES:
            return _OF_MESSAGES[name]
        raise _LooksInside

    def member(self, node: nodes.Getattr | nodes.Getitem) -> Kind:
        """The type of `of.name`, `of["name"]`, `of[number]` or `of[from:to]`."""
        kind = self.kind(node.node)
        name = node.attr if isinstance(node, nodes.Getattr) else None
        if isinstance(node, nodes.Getitem):
            if isinstance(node.arg, nodes.Slice):
                self.plain(*node.arg.iter_child_nodes())
                if kind not in (PLAIN, MESSAGES):
                    raise _LooksInside
                return kind
            self.plain(node.arg)
            name = node.arg.value if isinstance(node.arg, nodes.Const) else None
        if kind is PLAIN:
            return PLAIN
        if kind is MESSAGES and isinstance(node, nodes.Getitem) and not isinstance(name, str):
            if self.are_messages and not _is_number(node.arg):
                self.are_messages, self.is_new = False, True
            return MESSAGE
        if not isinstance(name, str):
            raise _LooksInside
        if kind is NAMESPACE:
            return self.names.get(f".{name}", PLAIN)
        if kind is MESSAGE and not hasattr(dict, name):  # else a method, which may give texts
            return TEXT if name == "content" else PLAIN
        if kind is LOOP and name in _OF_LOOP:
            return PLAIN
        raise _LooksInside


def _joined(one: Kind, other: Kind) -> Kind:
    """The type of a value that is of one of two types."""
    if one is other:
        return one
    if {one, other} == {PLAIN, TEXT}:
        return TEXT
    raise _LooksInside


def _is_number(node: nodes.Node) -> bool:
    """Whether a plain value is never a string; other values may be one."""
    match node:
        case nodes.Const(value=value):
            return not isinstance(value, str)
        case nodes.Neg() | nodes.Pos() | nodes.Sub():
            return True
        case nodes.Add():  # of a number and a string is an error
            return _is_number(node.left) or _is_number(node.right)
        case nodes.Getattr(node=nodes.Name(name="loop")):
            return True
        case nodes.Filter():
            return node.name in ("length", "count")
        case _:
            return False


def _arguments(node: nodes.Call | nodes.Filter | nodes.Test) -> list[nodes.Node]:
    """All that a call is given."""
    named = [one.value for one in node.kwargs]
    rest = [one for one in (node.dyn_args, node.dyn_kwargs) if one is not None]
    return [*named, *node.args, *rest]

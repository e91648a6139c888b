"""Makes mutants of a Python file by rule: each changes one place of its syntax tree.

A mutant is a span of bytes and the text that takes its place, so that the rest of the file stays as
it is.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"), ast.Is: ("is", "is not"), ast.IsNot: (r"is\s+not", "is"),
}  # fmt: skip


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Mutant:
    """``key`` names it for good: file, function, rule, the old text and the new. It holds no line
    number, so that a change elsewhere in the file does not rename it."""

    key: str
    file: str
    line: int
    last_line: int
    what: str
    start: int
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]

    def draw(self, seed: int) -> str:
        """A key that sorts mutants in an order which the seed alone shuffles."""
        return hashlib.sha256(f"{seed} {self.key}".encode()).hexdigest()


def mutants_of(path: Path, name: str) -> list[Mutant]:
    """Every mutant of one file. ``name`` is what the file is called in their keys."""
    return _Maker(path.read_bytes(), name).made


class _Maker:
    def __init__(self, source: bytes, name: str) -> None:
        self.source, self.name = source, name
        self.lines = source.decode().split("\n")
        self.starts = [0]
        for line in source.split(b"\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.seen: Counter[str] = Counter()
        self.made: list[Mutant] = []
        self.scope: list[str] = []
        self._walk(ast.parse(source))

    # -- places ------------------------------------------------------------------------------------

    def _start(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr | ast.stmt) -> str:
        return self.source[self._start(node) : self._end(node)].decode()

    def _add(self, rule: str, node: ast.expr | ast.stmt, start: int, end: int, text: str) -> None:
        whole = " ".join(self._text(node).split())
        old = " ".join(self.source[start:end].decode().split())
        shown = f"`{old}` -> `{text}`" if text not in ("", "pass") else f"`{old}`"
        inside = f" in `{whole}`" if whole != old and len(whole) < 160 else ""
        key = f"{self.name} {'.'.join(self.scope) or 'module'}: {rule}: {shown}{inside}"
        self.seen[key] += 1
        if self.seen[key] > 1:
            key += f" (number {self.seen[key]})"
        first = self.source.count(b"\n", 0, start) + 1
        last = self.source.count(b"\n", 0, end) + 1
        what = f"{rule}: {shown}"
        if not inside:
            what += f" in `{self.lines[node.lineno - 1].strip()[:120]}`"
        else:
            what += inside
        self.made.append(Mutant(key, self.name, first, last, what, start, end, text))

    # -- the walk ----------------------------------------------------------------------------------

    def _walk(self, node: ast.AST) -> None:
        if isinstance(node, ast.Raise):
            self._statement("raise removed", node)
            return  # the text of an error is no decision
        if isinstance(node, ast.JoinedStr):
            return  # before Python 3.12 the places in it are not known
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        name = getattr(node, "name", None) if isinstance(node, _SCOPES) else None
        if name:
            self.scope.append(name)
        self._apply_rules(node)
        for child in _children(node):
            self._walk(child)
        if name:
            self.scope.pop()

    def _apply_rules(self, node: ast.AST) -> None:
        match node:
            case ast.Compare():
                self._comparison(node)
            case ast.BoolOp():
                self._bool(node)
            case ast.UnaryOp(op=ast.Not()):
                start = self._start(node)
                self._add("not removed", node, start, start + len("not"), "")
            case ast.If() | ast.While() | ast.IfExp():
                self._condition(node.test)
            case ast.comprehension():
                for test in node.ifs:
                    self._condition(test)
            case ast.Constant():
                self._constant(node)
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                self._arithmetic(node)
            case ast.Call():
                self._arguments(node)
            case ast.ExceptHandler(type=ast.expr() as kind):
                self._add("exception not caught", kind, self._start(kind), self._end(kind), "()")
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._returns(node)
            case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Delete():
                self._statement("statement removed", node)
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                self._statement("statement removed", node)
            case ast.Continue() | ast.Break():
                self._statement("jump removed", node)

    def _statement(self, rule: str, node: ast.stmt) -> None:
        self._add(rule, node, self._start(node), self._end(node), "pass")

    def _condition(self, test: ast.expr) -> None:
        if isinstance(test, ast.Compare | ast.UnaryOp):
            return  # another rule makes that mutant
        start, end = self._start(test), self._end(test)
        self._add("condition negated", test, start, end, f"(not ({self._text(test)}))")

    def _comparison(self, node: ast.Compare) -> None:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            old, new = COMPARISONS[type(operator)]
            start = self._end(left)
            between = self.source[start : self._start(right)].decode()
            found = re.search(rf"(?<![\w<>=!]){old}(?![\w<>=!])", between)
            if found:
                at = start + len(between[: found.start()].encode())
                self._add("comparison flipped", node, at, at + len(found[0]), new)
            left = right

    def _bool(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            start = self._end(left)
            found = re.search(rf"\b{old}\b", self.source[start : self._start(right)].decode())
            if found:
                at = start + found.start()
                self._add("and/or swapped", node, at, at + len(old), new)
        start, end = self._start(node), self._end(node)
        for value in node.values:
            if len(node.values) == 2:
                (kept,) = (each for each in node.values if each is not value)
                self._add("operand alone", node, start, end, f"({self._text(kept)})")

    def _constant(self, node: ast.Constant) -> None:
        value, new = node.value, None
        if isinstance(value, bool):
            new = str(not value)
        elif isinstance(value, int):
            new = str(value + 1)
        elif isinstance(value, str) and value:
            new = repr("XX" + value)
        elif isinstance(value, bytes) and value:
            new = repr(b"XX" + value)
        if new:
            self._add("constant changed", node, self._start(node), self._end(node), new)

    def _arithmetic(self, node: ast.BinOp) -> None:
        sign = {ast.Add: "+", ast.Sub: "-"}[type(node.op)]
        start = self._end(node.left)
        at = self.source.find(sign.encode(), start, self._start(node.right))
        if at >= 0 and not isinstance(node.left, ast.JoinedStr | ast.List | ast.Tuple):
            self._add("sign changed", node, at, at + 1, "-" if sign == "+" else "+")

    def _arguments(self, node: ast.Call) -> None:
        for keyword in node.keywords:
            if keyword.arg is None:
                continue
            start, end = self._start(keyword), self._end(keyword)
            rest = self.source[end : self._end(node)]
            if comma := re.match(rb"\s*,[ \t]*", rest):
                end += comma.end()
            self._add("argument dropped", node, start, end, "")

    def _returns(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for node in _own(function):
            if isinstance(node, ast.Return) and node is not function.body[-1]:
                self._statement("return removed", node)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """The children that a program decides with: no docstring, annotation, decorator or import."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        children: Sequence[object] = value if isinstance(value, list) else [value]
        for child in children:
            docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.AST) and not docstring:
                yield child


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, without those of the functions in it."""
    for child in ast.iter_child_nodes(function):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _own(child)

"""The fingerprint of a selector's code: the statements that it uses, read from the sources without running them."""

import ast
import hashlib
import site
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path
from symtable import symtable

from activekd.errors import InputError

DIGITS = 16
"""Length of a fingerprint."""

PROJECT = {"activekd", "bench"}
"""Packages whose commit is part of the provenance of a row."""

LIBRARIES = {
    Path(folder).resolve()
    for folder in (
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        site.getusersitepackages(),
    )
}
"""Folders of the standard library and of installed libraries."""


def code_fingerprint(*roots: tuple[str, str]) -> str:
    """Hash of the code behind objects of modules.

    It covers the statement that binds the name of a root and, transitively, every top-level statement of its module
    that binds a name which these use, or that changes such a name in place, as in ``narrow.needs = ...``: functions,
    classes, constants, decorators, imports. Of the modules that these statements import, local ones are covered as a
    whole, with the local modules that they import. Comments, formatting, docstrings, blocks under
    ``if __name__ == "__main__"`` and the other statements of the module do not count. Where no statement binds the
    name, as after a star-import, the whole module counts.

    A module is local unless it belongs to the standard library, to this project or to an installed library other than
    the root's; versions of libraries are part of the provenance of a row. Not covered: modules imported by a computed
    name, code in strings, and files that the code reads. Another version of Python may format the code otherwise, and
    so give another hash.

    Args:
        roots: pairs of a module and the name of an object in it, possibly dotted.

    Raises:
        InputError: the module of a root has no file.
    """
    used, local = [], {}
    for module, name in roots:
        spec = next(reversed([*_chain(module)]), None)
        if spec is None or not spec.has_location:
            raise InputError(f"module '{module}' of a selector has no file; expected: a file of Python code")
        source = _Source(spec)
        statements = source.used_by(name.partition(".")[0])
        used.append(source.text(statements))
        todo = [*source.imports(statements)]
        while todo:
            spec = todo.pop()
            if spec.name not in local and _is_local(spec, module.partition(".")[0]):
                whole = _Source(spec)
                local[spec.name] = whole.text(whole.statements)
                todo.extend(whole.imports(whole.statements))
    texts = [*used, *(f"{name}\n{local[name]}" for name in sorted(local))]
    return hashlib.sha256("\n\n".join(texts).encode()).hexdigest()[:DIGITS]


class _Statement:
    """A top-level statement with the module-level names that it binds, reads and may change in place."""

    def __init__(self, node: ast.stmt) -> None:
        self.node = node
        self.binds: set[str] = set()
        self.reads: set[str] = set()
        tables = [table := symtable(ast.unparse(node), "selector", "exec")]
        for symbol in table.get_symbols():
            self.binds |= {symbol.get_name()} if symbol.is_assigned() or symbol.is_imported() else set()
            self.reads |= {symbol.get_name()} if symbol.is_referenced() else set()
        while tables:
            for child in tables.pop().get_children():
                tables.append(child)
                for symbol in child.get_symbols():
                    self.reads |= {symbol.get_name()} if symbol.is_global() else set()
                    self.binds |= {symbol.get_name()} if symbol.is_global() and symbol.is_assigned() else set()
        self.changes = {*_changed(node)}
        self.takes_all = isinstance(node, ast.ImportFrom) and node.names[0].name == "*"


class _Source:
    """A module's statements without docstrings; those of a module without Python source are none."""

    def __init__(self, spec: ModuleSpec) -> None:
        self._package = spec.parent or ""
        self._bytes = Path(spec.origin).read_bytes() if spec.has_location and spec.origin else b""
        try:
            tree = _Bare().visit(ast.parse(self._bytes))
            self.statements = [_Statement(node) for node in tree.body if not _is_main_block(node)]
            self._has_source = True
        except (SyntaxError, ValueError):
            self.statements = []
            self._has_source = False

    def text(self, statements: Iterable[_Statement]) -> str:
        """The code of statements in one format; of a module without Python source a hash of its file."""
        if not self._has_source:
            return hashlib.sha256(self._bytes).hexdigest()
        return "\n".join(ast.unparse(statement.node) for statement in statements)

    def used_by(self, root: str) -> list[_Statement]:
        """The statements that an object of the module uses, in order; all where no statement binds its name."""
        bound = {name for statement in self.statements for name in statement.binds}
        if root not in bound:
            return self.statements
        names, used = {root}, {statement for statement in self.statements if statement.takes_all}
        while new := {s for s in self.statements if s not in used and (s.binds | s.changes) & names}:
            used |= new
            names |= {name for statement in new for name in statement.reads & bound}
        return [statement for statement in self.statements if statement in used]

    def imports(self, statements: Iterable[_Statement]) -> Iterator[ModuleSpec]:
        """The modules that statements import, by a statement or with a literal name; missing ones are left out."""
        for node in (node for statement in statements for node in ast.walk(statement.node)):
            match node:
                case ast.Import(names=names):
                    for alias in names:
                        yield from _chain(alias.name)
                case ast.ImportFrom(module=module, names=names, level=level):
                    origin = "." * level + (module or "")
                    origin = resolve_name(origin, self._package) if level else origin
                    for alias in names:
                        yield from _chain(f"{origin}.{alias.name}")
                case ast.Call(
                    func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                    args=[ast.Constant(value=str(name)), *_],
                ) if not name.startswith("."):
                    yield from _chain(name)


class _Bare(ast.NodeTransformer):
    """Removes docstrings and other statements without effect."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            if isinstance(body := getattr(node, field, None), list):
                kept = [s for s in body if not _is_idle(s)]
                setattr(
                    node, field, kept or ([ast.Pass()] if field == "body" and not isinstance(node, ast.Module) else [])
                )
        return node


def _is_idle(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _is_main_block(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"__name__ == '__main__'", "'__main__' == __name__"}


def _changed(node: ast.AST) -> Iterator[str]:
    """Names whose objects a statement may change when the module is imported: bases of targets, names in calls."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        yield from (part.id for part in ast.walk(node.value) if isinstance(part, ast.Name))
    if isinstance(node, ast.Expr):
        yield from (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
    for child in ast.iter_child_nodes(node):
        yield from _changed(child)


def _chain(module: str) -> Iterator[ModuleSpec]:
    """The packages on the way to a module and the module, as far as they exist; nothing of the module is run."""
    first, *rest = module.split(".")
    try:
        spec = find_spec(first)
    except ValueError:
        return
    name = first
    while spec is not None:
        yield spec
        if not rest or spec.submodule_search_locations is None:
            return
        name = f"{name}.{rest.pop(0)}"
        spec = PathFinder.find_spec(name, [*spec.submodule_search_locations])


def _is_local(spec: ModuleSpec, package: str) -> bool:
    first = spec.name.partition(".")[0]
    if first in PROJECT or not (spec.has_location and spec.origin):
        return False
    return first == package or not LIBRARIES.intersection(Path(spec.origin).resolve().parents)

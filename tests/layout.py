"""The modules of the program and what they import, read from their text.

``python tests/layout.py [FOLDER]`` prints the counts of a checkout: modules, packages, imports, and the longest chain.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Layout:
    """The program in a folder: commands at the top, ``models/`` and ``utils/``."""

    root: Path = ROOT

    @cached_property
    def files(self) -> dict[str, Path]:
        """Module name to file; packages go by the name of their folder."""
        paths = [*self.root.glob("*.py"), *self.root.glob("models/**/*.py"), *self.root.glob("utils/**/*.py")]
        return {name: path for path in sorted(paths) if (name := self._module_name(path)) != "utils"}

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """Module name to syntax tree."""
        return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.files.items()}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Module name to the modules of this program that it imports, anywhere in its text."""
        return {name: self._imported(name) - {name} for name in self.files}

    @cached_property
    def packages(self) -> set[str]:
        """Packages below ``utils``, and ``models``."""
        return {name for name, path in self.files.items() if path.name == "__init__.py"}

    def longest_chain(self, without: tuple[str, str] | None = None) -> list[str]:
        """The longest chain of imports, from the top down.

        Args:
            without: importer and imported of one import to leave out.

        Raises:
            graphlib.CycleError: imports go round in a circle.
        """
        graph = {name: set(imports) for name, imports in self.imports.items()}
        if without:
            graph[without[0]].discard(without[1])
        chains: dict[str, list[str]] = {}
        for name in TopologicalSorter(graph).static_order():
            longest = max((chains[imported] for imported in sorted(graph[name])), key=len, default=[])
            chains[name] = [name, *longest]
        return max(chains.values(), key=len)

    def _module_name(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _imported(self, module: str) -> set[str]:
        found = set()
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                if node.level:
                    raise ValueError(f"{module}:{node.lineno}: expected the whole path of the import")
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= (names & set(self.files)) or {str(node.module)}
        return found & set(self.files)


def summary(layout: Layout, without: tuple[str, str] | None = None) -> str:
    """The counts as lines of text."""
    flat = [name for name in layout.files if name.count(".") == 1 and name.startswith("utils.")]
    flat = [name for name in flat if name not in layout.packages]
    chain = layout.longest_chain(without)
    edges = sum(map(len, layout.imports.values()))
    return "\n".join(
        [
            f"modules {len(layout.files)}, single files in utils {len(flat)}, packages {len(layout.packages)}",
            f"imports {edges}",
            f"longest chain {len(chain)}: {' > '.join(chain)}",
        ]
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    both_ways = ("train", "search")  # until the house was rebuilt these two imported each other
    print(summary(Layout(folder), both_ways))

#!/usr/bin/env python3
"""notices.py FILE: the licences of all that is linked into the program and the guests that ship with it.

Every crate's own files are taken, as they lie in cargo's registry. A crate without one is covered by the standard text of
the licence that its manifest names, or ends this with its name: a package without a notice is none.
"""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

WORKSPACE = Path(__file__).resolve().parents[2]
# The program, and the guests inside it and beside it.
SHIPPED = ["bellhop", "bellhop-expression", "bellhop-plugin-slack"]
NAMED = re.compile(r"^(licen[cs]e|copying|notice|copyright|unlicense|authors)([-_.].*)?$", re.IGNORECASE)
DEPTH_MAX = 2
FILE_BYTES_MAX = 256 << 10

MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to
whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--features", "bellhop/jemalloc"]
    return json.loads(subprocess.check_output(command, cwd=WORKSPACE))


def linked(graph):
    """The packages that are linked: over ordinary and build dependencies, for no system in particular."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    open_ = [p["id"] for p in graph["packages"] if p["name"] in SHIPPED and p["source"] is None]
    assert len(open_) == len(SHIPPED), "a crate that ships has another name now"
    seen = set(open_)
    while open_:
        for dependency in nodes[open_.pop()]["deps"]:
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            if kinds != {"dev"} and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                open_.append(dependency["pkg"])
    found = [p for p in graph["packages"] if p["id"] in seen and p["source"] is not None]
    return sorted(found, key=lambda p: (p["name"], p["version"]))


def own_texts(package):
    folder = Path(package["manifest_path"]).parent
    for at, folders, files in os.walk(folder):
        folders.sort()
        here = Path(at)
        if len(here.relative_to(folder).parts) >= DEPTH_MAX:
            folders.clear()
        for name in sorted(files):
            path = here / name
            if NAMED.match(name) and path.suffix not in {".rs", ".py"} and path.stat().st_size <= FILE_BYTES_MAX:
                yield str(path.relative_to(folder)), path.read_text(encoding="utf-8", errors="replace").strip()


def standard_text(package):
    terms = package["license"] or ""
    authors = ", ".join(package["authors"]) or f"the authors of {package['name']}"
    if "Apache-2.0" in terms:
        return f"Copyright {authors}. Apache License 2.0: see the beginning of this file."
    if "MIT" in terms:
        return f"Copyright {authors}\n\n{MIT}".strip()
    return None


def main(out):
    packages = linked(metadata())
    texts, lines, missing = {}, [], []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        lines.append(f"{name}: {package['license'] or 'see its file'}; {package['repository'] or 'crates.io'}")
        own = [text for _, text in own_texts(package) if text]
        if not own:
            standard = standard_text(package)
            if standard is None:
                missing.append(f"{name} ({package['license']})")
                continue
            own = [standard]
        for text in own:
            texts.setdefault(text, []).append(name)
    if missing:
        sys.exit("no licence text was found for: " + "; ".join(missing))
    apache = (WORKSPACE / "LICENSE").read_text().strip()
    texts.pop(apache, None)
    with open(out, "w", encoding="utf-8") as file:
        file.write(f"What is linked into Bellhop and into the guests that come with it: {len(packages)} crates, and the\n")
        file.write("standard library of Rust (MIT or Apache-2.0, Copyright The Rust Project Contributors).\n\n")
        file.write("\n".join(lines))
        file.write(f"\n\n{'=' * 100}\nApache License 2.0\n\n{apache}\n")
        for text, names in sorted(texts.items(), key=lambda item: item[1]):
            file.write(f"\n{'=' * 100}\n{', '.join(sorted(set(names)))}\n\n{text}\n")
    print(f"notices: {len(packages)} crates, {len(texts) + 1} texts, none missing")


if __name__ == "__main__":
    main(sys.argv[1])
